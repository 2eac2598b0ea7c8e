"""3D Gaussians on their way to a file: cleaned."""

from __future__ import annotations

import warnings

from depth_anything_3.splat.clean import clean_gaussians
from depth_anything_3.splat.options import CleanOptions
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction


def cleaned(prediction: Prediction, options: CleanOptions, name: str) -> Gaussians:
    """The Gaussians that the options keep; warns where none is left."""
    gaussians = clean_gaussians(prediction, options)
    if not gaussians.means.shape[1]:
        warnings.warn(f"{name}: no Gaussian is left; the file is empty", stacklevel=4)
    return gaussians
