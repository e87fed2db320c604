"""Edits: network -> network, a finished network changed without a training loop of its own."""
