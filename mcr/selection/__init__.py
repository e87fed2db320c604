"""Which candidate becomes the repaired network: rules that see held-out clean images only. No torch."""
