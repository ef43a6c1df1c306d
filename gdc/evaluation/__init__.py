"""Codecs -> numbers and pictures: measures, baselines, sweeps, reports."""
