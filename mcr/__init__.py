"""mcr: mode connectivity and adversarial robustness of neural networks."""

__version__ = "0.1.0"
