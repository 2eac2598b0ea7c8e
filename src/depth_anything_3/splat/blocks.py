"""Gaussians as numpy arrays, some thousands at a time: what files are written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from depth_anything_3.types.gaussians import Gaussians

_BLOCK = 1 << 16
_OPAQUE = 1 - 1e-6

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """G Gaussians as float32; opacities strictly between 0 and 1, rotations of unit length with w first.

    Attributes:
        means, scales: (G, 3).
        rotations: (G, 4).
        harmonics: (G, 3, coefficients).
        opacities: (G,).
    """

    means: Array
    scales: Array
    rotations: Array
    harmonics: Array
    opacities: Array


def blocks(gaussians: Gaussians) -> Iterator[Block]:
    """The Gaussians of the only scene, some thousands at a time, so that no second copy of all of them is made."""
    for start in range(0, gaussians.means.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        rotations = _array(gaussians.rotations, part)
        yield Block(
            means=_array(gaussians.means, part),
            scales=_array(gaussians.scales, part),
            rotations=rotations / np.linalg.norm(rotations, axis=1, keepdims=True),
            harmonics=_array(gaussians.harmonics, part),
            opacities=_array(gaussians.opacities, part).clip(1 - _OPAQUE, _OPAQUE),
        )


def _array(values: Tensor, part: slice) -> Array:
    array: Array = values[0, part].detach().float().cpu().numpy()
    return array
