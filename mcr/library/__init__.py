"""The package as a library: networks, subspaces and probes in one's own script, without folders and command lines."""
