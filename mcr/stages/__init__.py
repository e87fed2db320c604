"""The stages, one a file: ``compute(stage, inputs, folder, context)`` writes the artifact. OmegaConf stops above."""
