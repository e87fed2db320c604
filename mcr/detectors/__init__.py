"""How far images lie from where others of their kind lie: what tells an attacked image by itself, without a network."""
