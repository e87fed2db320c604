"""Campaigns against mcr, each bounded by seconds: run by hand, not by the test-suite."""
