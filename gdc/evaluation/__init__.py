"""Codecs -> numbers and pages: baselines, studies, tables, reports."""
