"""Where the free control points of a subspace begin, if not on the blend of the ends."""
