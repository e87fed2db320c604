"""Paths in weight space: a curve writes only its coefficients c(t) (K,); theta(t) = sum of c_k(t) times point k."""
