"""Which Gaussians touch which tile of the picture, in bands that bound the memory.

A tile is a square of pixels; tiles are counted row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

TILE = 8
"""Side of a tile in pixels."""

MAX_PAIRS = 1 << 22
"""Pairs of a Gaussian and a tile that are listed at a time, unless a single row of tiles has more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Lists of Gaussians for some rows of tiles.

    Attributes:
        first: first row of tiles.
        rows: number of rows.
        members: indices of Gaussians; those of one tile are next to each other, the nearest first.
        start: per tile of the band, where its list begins in ``members``.
        length: per tile of the band, how many are in its list.
    """

    first: int
    rows: int
    members: Int[Tensor, " pairs"]
    start: Int[Tensor, " tiles"]
    length: Int[Tensor, " tiles"]


def tile_bands(box: Int[Tensor, "g 4"], size: tuple[int, int], *, max_pairs: int = MAX_PAIRS) -> Iterator[Band]:
    """The lists of all tiles, band after band from the top.

    Args:
        box: first column, first row, last column + 1, last row + 1 of the pixels of each Gaussian, nearest first.
        size: height and width of the picture.
        max_pairs: so many pairs per band, as far as whole rows of tiles allow.
    """
    rows, columns = -(-size[0] // TILE), -(-size[1] // TILE)
    tiles = torch.cat((box[:, :2] // TILE, (box[:, 2:] - 1) // TILE + 1), -1)
    first = 0
    for end in _band_ends(tiles, rows, max_pairs):
        yield _band(tiles, first, end, columns)
        first = end


def _band_ends(tiles: Int[Tensor, "g 4"], rows: int, max_pairs: int) -> list[int]:
    """Where each band ends; every band has at least one row."""
    x0, y0, x1, y1 = tiles.long().unbind(-1)
    change = torch.zeros(rows + 1, dtype=torch.long, device=tiles.device)
    change.index_add_(0, y0, x1 - x0).index_add_(0, y1, x0 - x1)
    ends, pairs = [], 0
    for row, more in enumerate(change.cumsum(0)[:rows].tolist()):
        if row and pairs + more > max_pairs:
            ends.append(row)
            pairs = 0
        pairs += more
    return [*ends, rows]


def _band(tiles: Int[Tensor, "g 4"], first: int, end: int, columns: int) -> Band:
    inside = ((tiles[:, 1] < end) & (tiles[:, 3] > first)).nonzero()[:, 0]
    x0, y0, x1, y1 = tiles[inside].unbind(-1)
    y0, y1 = y0.clamp_min(first) - first, y1.clamp_max(end) - first
    wide = x1 - x0
    count = (wide * (y1 - y0)).long()
    owner = torch.repeat_interleave(count)
    step = torch.arange(len(owner), device=tiles.device, dtype=torch.int32)
    step -= (count.cumsum(0) - count).int()[owner]
    down = step // wide[owner]
    tile = (y0 * columns + x0)[owner] + down * columns + (step - down * wide[owner])
    # Stable: Gaussians come nearest first, and stay so within every tile.
    order = tile.argsort(stable=True)
    length = torch.bincount(tile, minlength=(end - first) * columns)
    return Band(
        first=first,
        rows=end - first,
        members=inside[owner[order]].int(),
        start=length.cumsum(0) - length,
        length=length,
    )
