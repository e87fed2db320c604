"""Where in a subspace fitting looks: a sampler gives the places of a training's steps, one after the other."""
