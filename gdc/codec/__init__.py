"""Pixels <-> bytes; importing this package alone never imports jax."""

from gdc.codec.bitstream import BitstreamError

__all__ = ['BitstreamError']
