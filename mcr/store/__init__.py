"""Results and their identity: the store, its stages, and how objects are built from recipes."""
