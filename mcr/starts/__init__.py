"""Where the control points of a subspace begin."""
