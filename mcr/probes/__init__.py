"""What is asked of a model: (network, batches) -> per-image values, which the evaluation turns into named numbers."""
