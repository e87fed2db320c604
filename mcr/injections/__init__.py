"""Injections tamper with a trained network: (network, images, labels, generator) -> changed weights, effect."""
