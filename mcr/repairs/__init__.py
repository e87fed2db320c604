"""Ways to repair a network with clean images: each gives candidates, a rule of ``mcr.selection`` takes one."""
