"""What each stage optimises; one file per stage."""
from gdc.training.stages.score import build

__all__ = ['build']
