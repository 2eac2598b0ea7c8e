"""The import path that scripts for the published package use for result types."""

from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction

__all__ = ["Gaussians", "Prediction"]
