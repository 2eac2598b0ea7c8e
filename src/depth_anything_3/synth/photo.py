"""What a real camera does to a picture: exposure, blur, noise, JPEG. Truth stays as it is.

Pictures are float tensors (..., H, W, 3) with values from 0 to 1. Nothing here knows a global random state.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from depth_anything_3.errors import InputError

_GAMMA = 2.2


def expose(rgb: Float[Tensor, "*n h w 3"], stops: float) -> Float[Tensor, "*n h w 3"]:
    """More or less light: ``stops`` doublings of it, clipped where the picture is full."""
    return (rgb.clamp(0, 1) ** _GAMMA * 2.0**stops).clamp(0, 1) ** (1 / _GAMMA)


def blur(rgb: Float[Tensor, "*n h w 3"], sigma: float) -> Float[Tensor, "*n h w 3"]:
    """Gaussian blur.

    Args:
        rgb: pictures.
        sigma: standard deviation in pixels; 0 changes nothing.

    Raises:
        InputError: ``sigma`` is negative.
    """
    if sigma < 0:
        raise InputError("sigma", str(sigma), "a standard deviation in pixels, 0 or more")
    if sigma == 0:
        return rgb.clone()
    radius = int(3 * sigma) + 1
    steps = torch.arange(-radius, radius + 1, device=rgb.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2).to(rgb.dtype)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    planes = rgb.reshape(-1, *rgb.shape[-3:]).permute(0, 3, 1, 2)
    planes = torch.nn.functional.pad(planes, (radius,) * 4, mode="replicate")
    planes = torch.nn.functional.conv2d(planes, kernel[:, :, None], groups=3)
    planes = torch.nn.functional.conv2d(planes, kernel[..., None], groups=3)
    return planes.permute(0, 2, 3, 1).reshape(rgb.shape)


def add_noise(
    rgb: Float[Tensor, "*n h w 3"], *, shot: float, read: float, generator: torch.Generator
) -> Float[Tensor, "*n h w 3"]:
    """Sensor noise: a part that grows with the square root of the light, and a constant part.

    Args:
        rgb: pictures.
        shot: standard deviation of the first part in full light.
        read: standard deviation of the second part.
        generator: on the device of the pictures; the only source of randomness.

    Raises:
        InputError: a negative strength.
    """
    if min(shot, read) < 0:
        raise InputError("shot, read", f"{shot}, {read}", "standard deviations of 0 or more")
    normal = torch.randn(rgb.shape, generator=generator, device=rgb.device, dtype=rgb.dtype)
    return (rgb + normal * (shot**2 * rgb.clamp(0, 1) + read**2).sqrt()).clamp(0, 1)


def jpeg(rgb: Float[Tensor, "*n h w 3"], quality: int) -> Float[Tensor, "*n h w 3"]:
    """What is left after saving as JPEG and loading again.

    Args:
        rgb: pictures.
        quality: from 1 to 100.

    Raises:
        InputError: the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise InputError("quality", str(quality), "a whole number from 1 to 100")
    pictures = (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8).reshape(-1, *rgb.shape[-3:]).cpu().numpy()
    result = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        with Image.open(file) as again:
            result.append(np.asarray(again))
    return torch.from_numpy(np.stack(result)).to(rgb).reshape(rgb.shape) / 255
