"""What is paid for where the control points of a subspace lie, beside the loss at its places."""
