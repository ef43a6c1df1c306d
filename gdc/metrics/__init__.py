"""Metrics of decoded images, and the networks that only measure."""
