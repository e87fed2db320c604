"""Curves, surfaces and simplexes in weight space: a curve writes c(u) (K,); theta(u) = sum of c_k(u) times point k."""
