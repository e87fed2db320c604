"""Merges: which networks of a subspace are kept, judged by validation images alone."""
