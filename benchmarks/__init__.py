"""Paired timings of this package's forms against straightforward ones, in one process."""
