"""Where in a subspace fitting looks, step by step."""
