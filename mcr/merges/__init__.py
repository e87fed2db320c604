"""Rules that pick places of a subspace on validation images: averages, soups, best points, ensembles."""
