"""What a network's outputs cannot leave while its images stay in a box."""
