"""What is done to theta after blending, a mask, a quantiser: ``apply_`` on the weights, ``pull_`` on their gradient."""
