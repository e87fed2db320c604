"""The command line: the only room that composes with Hydra."""
