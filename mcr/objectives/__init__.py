"""What training minimises: (network, images, labels, generator) -> per-example loss (B,) and logits (B, C)."""
