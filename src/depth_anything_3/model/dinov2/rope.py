"""Two-dimensional rotary position embedding.

A head's channels split in two halves: the first is rotated by the token's row, the second by its column. Within a
half of size d, channel j and channel j + d/2 form a pair that turns by position * 100^(-2j/d).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.model.tables import cached_table

BASE = 100.0


def rotate(x: Float[Tensor, "*batch n head"], table: Float[Tensor, "2 n head"]) -> Float[Tensor, "*batch n head"]:
    """Turn queries or keys by a table from :func:`local_table` or :func:`global_table`."""
    cos, sin = table.unbind(0)
    a, b, c, d = x.chunk(4, -1)
    return x * cos + torch.cat([-b, a, -d, c], -1) * sin


def angles_table(positions: Int[Tensor, "n 2"], head_dim: int) -> Float[Tensor, "2 n head"]:
    """Cosines and sines for tokens at integer (row, column) positions."""
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = positions.float()[..., None] * (1.0 / BASE**exponents)  # (n, 2, half / 2)
    angles = torch.cat([angles, angles], -1).flatten(1)
    return torch.stack([angles.cos(), angles.sin()])


@cached_table
def local_table(grid_h: int, grid_w: int, head_dim: int, device: torch.device) -> Tensor:
    """Within a view: the special token at (0, 0), the patch in row r and column c at (r + 1, c + 1)."""
    rows, columns = torch.arange(1, grid_h + 1, device=device), torch.arange(1, grid_w + 1, device=device)
    patches = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
    return angles_table(torch.cat([patches.new_zeros(1, 2), patches]), head_dim)


@cached_table
def global_table(views: int, patches: int, head_dim: int, device: torch.device) -> Tensor:
    """Across views: special tokens at (0, 0), every patch of every view at (1, 1).

    Cross-view attention therefore sees no spatial position, only which tokens are special.
    """
    positions = torch.ones(1 + patches, 2, dtype=torch.int64, device=device)
    positions[0] = 0
    return angles_table(positions.repeat(views, 1), head_dim)
