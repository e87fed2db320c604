"""Where what happens is shown while it happens and kept to be compared: Weights & Biases, CSV, Lightning's others."""
