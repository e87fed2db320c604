"""Data sources, one a file: ``load() -> Source``; splits, batches and augmentation on tensors."""
