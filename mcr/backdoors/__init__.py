"""Data-poisoning triggers: uint8 images -> the same images with a mark, and the label that the mark should call up."""
