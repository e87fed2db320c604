"""Files of weights that a user has from elsewhere: read by a process of its own, searched for the network, loaded."""
