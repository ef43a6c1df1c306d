"""The command `gdc`."""
