"""Random sets of Gaussians in front of a camera."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from depth_anything_3.types.gaussians import Gaussians
from support.poses import random_rotation

SIZE = (37, 50)
"""Height and width of the pictures; no multiple of a tile."""


def camera(seed: int = 0, focal: float = 45.0) -> tuple[Tensor, Tensor]:
    """One view anywhere, (1, 1, 3, 4) and (1, 1, 3, 3), float64, with skew and the principal point off the centre."""
    rng = np.random.default_rng(seed)
    pose = np.concatenate((random_rotation(rng), rng.normal(size=(3, 1))), 1)
    k = np.array([[focal, 1.5, 18.2], [0, 1.1 * focal, 21.7], [0, 0, 1]])
    return torch.from_numpy(pose)[None, None], torch.from_numpy(k)[None, None]


def in_front_of(extrinsics: Tensor, count: int, *, degree: int = 3, size: float = 0.06, seed: int = 0) -> Gaussians:
    """Gaussians of any shape, opacity and colour in front of a camera, some of them out of its sight. Float64."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 4, count)
    local = np.concatenate((rng.uniform(-0.6, 0.6, (count, 2)), np.ones((count, 1))), 1) * depth[:, None]
    pose = extrinsics[0, 0].numpy()
    values = {
        "means": (local - pose[:, 3]) @ pose[:, :3],
        "scales": size * rng.lognormal(0, 0.7, (count, 3)),
        "rotations": rng.normal(size=(count, 4)),
        "harmonics": 0.3 * rng.normal(size=(count, 3, (degree + 1) ** 2)),
        "opacities": rng.uniform(0.02, 1, count),
    }
    return Gaussians(**{name: torch.from_numpy(value)[None] for name, value in values.items()})
