"""Figures, tables and claims from tables of paths; no torch here."""
