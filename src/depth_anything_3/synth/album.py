"""Photos as textures: an album of image pyramids, looked up with the filter that a pixel's footprint asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import decode_image

SIDE = 256
"""Rows and columns of the finest level; a photo of any shape is squeezed into them."""

_GAMMA = 2.2
_LEVELS = 8
_OFFSETS = tuple(sum((SIDE >> below) ** 2 for below in range(level)) for level in range(_LEVELS + 1))


@dataclass(frozen=True, kw_only=True)
class Album:
    """Photos in linear light. P photos.

    Attributes:
        texels: red, green and blue of all levels, finest first, row by row.
        aspect: width of each photo over its height.
    """

    texels: Float[Tensor, "photos texels 3"]
    aspect: Float[Tensor, " photos"]

    def __post_init__(self) -> None:
        if tuple(self.texels.shape[1:]) != (_OFFSETS[-1], 3) or not len(self.texels):
            wanted = f"shape (P, {_OFFSETS[-1]}, 3) with at least one photo"
            raise InputError("texels", f"shape {tuple(self.texels.shape)}", wanted)

    def __len__(self) -> int:
        return len(self.texels)


def load_album(paths: Sequence[str | os.PathLike[str]]) -> Album:
    """Read photos.

    Args:
        paths: image files, each of at least 2 x 2 pixels.

    Raises:
        InputError: there are none.
        ImageError: one cannot be read.
    """
    if not paths:
        raise InputError("paths", "no photos", "at least one image file")
    pictures = [decode_image(path, index=i, alpha="composite").pixels for i, path in enumerate(paths)]
    aspect = torch.tensor([picture.shape[1] / picture.shape[0] for picture in pictures])
    return Album(texels=torch.stack([_pyramid(picture) for picture in pictures]), aspect=aspect)


def _pyramid(picture: np.ndarray) -> Tensor:
    light = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None] ** _GAMMA
    level = torch.nn.functional.interpolate(light, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 1)
    levels = [level]
    for _ in range(_LEVELS - 1):
        levels.append(torch.nn.functional.avg_pool2d(levels[-1], 2))
    return torch.cat([one[0].flatten(1) for one in levels], 1).T.contiguous()


def chosen(album: Album, rows: Sequence[int]) -> Album:
    """An album of some of the photos."""
    index = torch.tensor(list(rows), dtype=torch.int64)
    return Album(texels=album.texels[index], aspect=album.aspect[index])


def look_up(
    album: Album,
    photo: Int[Tensor, " r"],
    position: tuple[Float[Tensor, " r"], Float[Tensor, " r"]],
    blur: Float[Tensor, " r"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear red, green and blue.

    Args:
        album: the photos.
        photo: which one.
        position: u from left to right and v from bottom to top, 0 to 1 over the photo, which repeats mirrored.
        blur: side of a pixel in the same unit.
    """
    level = (blur * SIDE).clamp_min(1).log2().clamp_max(_LEVELS - 1)
    below = level.floor().clamp_max(_LEVELS - 2)
    u, v = (_mirrored(p) for p in position)
    fine, coarse = (_bilinear(album, photo, u, 1 - v, one.long()) for one in (below, below + 1))
    red, green, blue = torch.lerp(fine, coarse, (level - below)[:, None]).unbind(1)
    return red, green, blue


def _mirrored(p: Tensor) -> Tensor:
    return 1 - (torch.remainder(p, 2) - 1).abs()


def _bilinear(album: Album, photo: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    side = torch.tensor([SIDE >> i for i in range(_LEVELS)], device=u.device)[level]
    offset = torch.tensor(_OFFSETS, device=u.device)[level] + photo.long() * _OFFSETS[-1]
    x, y = ((p * side - 0.5).clamp_min(0).minimum(side - 1.0) for p in (u, v))
    left, top = x.floor(), y.floor()
    a, b = (x - left)[:, None], (y - top)[:, None]
    i, j = top.long(), left.long()
    right, bottom = (j + 1).minimum(side - 1), (i + 1).minimum(side - 1)
    flat = album.texels.view(-1, 3)
    upper = torch.lerp(flat[offset + i * side + j], flat[offset + i * side + right], a)
    lower = torch.lerp(flat[offset + bottom * side + j], flat[offset + bottom * side + right], a)
    return torch.lerp(upper, lower, b)
