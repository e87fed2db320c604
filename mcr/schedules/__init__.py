"""Learning-rate shapes: progress in [0, 1] to a factor of the full rate. No torch."""
