"""Evasion attacks: (classifier, images, labels, generator) -> images, in [0, 1] pixel space."""
