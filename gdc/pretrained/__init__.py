"""Bundled models, a folder each."""
