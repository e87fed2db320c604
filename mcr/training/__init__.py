"""The LightningModules and the only place that makes a Trainer."""
