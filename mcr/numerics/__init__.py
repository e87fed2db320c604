"""Numbers that several rooms need: seeds, precision, losses, errors of means, memory."""
