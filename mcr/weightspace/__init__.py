"""Where in weight space: named tensors and flat vectors, the model at theta, BatchNorm there, files of weights."""
