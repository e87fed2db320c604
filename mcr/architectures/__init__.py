"""Network families, one a file; every layer of a network is used, and the normalisation is its first."""
