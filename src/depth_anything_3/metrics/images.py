"""How alike two pictures are. Pictures are (H, W, 3) with values from 0 to 1."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from depth_anything_3.errors import InputError

PSNR_LIMIT = 100.0
"""What equal pictures score."""

_C1, _C2 = 0.01**2, 0.03**2
_SIGMA, _RADIUS = 1.5, 5
_VGG = "vgg16-397923af.pth"  # the file that torchvision keeps

Score = Callable[[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w 3"]], float]


def psnr(picture: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"]) -> float:
    """Peak signal to noise ratio in dB, at most :data:`PSNR_LIMIT`.

    Raises:
        InputError: the pictures differ in size.
    """
    _check(picture, truth)
    error = float(np.mean((picture.astype(np.float64) - truth) ** 2))
    return min(-10 * np.log10(error), PSNR_LIMIT) if error > 0 else PSNR_LIMIT


def ssim(picture: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"]) -> float:
    """Structural similarity, the mean over colours and over all windows that fit.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004): windows of 11 x 11
    pixels weighted by a Gaussian with a deviation of 1.5.

    Raises:
        InputError: the pictures differ in size, or no window fits.
    """
    _check(picture, truth)
    if min(picture.shape[:2]) <= 2 * _RADIUS:
        raise InputError("picture", f"{picture.shape[1]}x{picture.shape[0]} pixels", "at least 11 in each direction")
    a, b = picture.astype(np.float64), truth.astype(np.float64)
    ma, mb = _mean(a), _mean(b)
    va, vb, vab = _mean(a * a) - ma * ma, _mean(b * b) - mb * mb, _mean(a * b) - ma * mb
    values = (2 * ma * mb + _C1) * (2 * vab + _C2) / ((ma * ma + mb * mb + _C1) * (va + vb + _C2))
    return float(values.mean())


def _mean(values: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2 3"]:
    kernel = cv2.getGaussianKernel(2 * _RADIUS + 1, _SIGMA)
    return np.asarray(cv2.sepFilter2D(values, -1, kernel, kernel))[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _check(picture: np.ndarray, truth: np.ndarray) -> None:
    if picture.shape != truth.shape or picture.ndim != 3:
        raise InputError("picture", f"shape {picture.shape}", f"that of the truth, {truth.shape}")


def find_lpips() -> tuple[Score | None, str]:
    """LPIPS with VGG (Zhang et al., 2018), where it can be computed without a download, and what a report says of it.

    It takes the package ``lpips`` (BSD), which is not a dependency, and in torch's cache the weights of torchvision's
    VGG-16. Neither comes with this package.
    """
    try:
        import torch

        hub = Path(torch.hub.get_dir()) / "checkpoints" / _VGG
        package = importlib.import_module("lpips")
    except ImportError:
        return None, "not scored: the package lpips is not installed"
    if not hub.is_file():
        return None, f"not scored: {_VGG} is not in torch's cache"
    network = package.LPIPS(net="vgg", verbose=False).eval()

    def score(picture: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"]) -> float:
        _check(picture, truth)
        pair = [torch.from_numpy(np.moveaxis(p, -1, 0)[None] * 2 - 1).float() for p in (picture, truth)]
        with torch.inference_mode():
            return float(network(*pair))

    return score, "of the package lpips, with VGG-16"
