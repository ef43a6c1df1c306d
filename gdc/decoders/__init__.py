"""The mathematics of the score decoders: no networks, no parameters."""
