"""Points of any number of frames in bounded memory: one point for each cube of a grid.

Each cube holds the mean place and colour of the points in it, weighted by their confidence. When more cubes are
occupied than may be held, they are written to disk, sorted, and merged again when the cloud is read: a range of cubes
at a time, from all pieces together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.voxels import sum_by

MOST_CUBES = 4_000_000
"""Cubes held at one time, about 100 bytes each while they are merged."""

_BITS = 21  # of the number of a cube along each axis
_HALF = 1 << (_BITS - 1)
_PIECE = np.dtype([("cube", "<i8"), ("weight", "<f8"), ("xyz", "<f8", (3,)), ("rgb", "<f8", (3,))])


class VoxelCloud:
    """Points merged in the cubes of a grid through the origin; a context, at whose end its files are removed.

    Args:
        voxel: side of a cube.
        most: cubes held at one time.

    Raises:
        InputError: the side or the number is not positive.
    """

    def __init__(self, voxel: float, *, most: int = MOST_CUBES) -> None:
        if not 0 < voxel < float("inf"):
            raise InputError("voxel", repr(voxel), "a positive length")
        if most < 1:
            raise InputError("most", repr(most), "at least 1")
        self.voxel, self.most = voxel, most
        self._held = np.zeros(0, _PIECE)
        self._new: list[npt.NDArray[Any]] = []
        self._folder = tempfile.TemporaryDirectory()
        self._pieces: list[Path] = []

    def __enter__(self) -> VoxelCloud:
        return self

    def __exit__(self, *_: object) -> None:
        self._held = np.zeros(0, _PIECE)
        self._folder.cleanup()

    def add(
        self,
        xyz: Float[np.ndarray, "p 3"],
        rgb: UInt8[np.ndarray, "p 3"],
        weight: Float[np.ndarray, " p"] | None = None,
    ) -> None:
        """Add points.

        Raises:
            InputError: a point is more than a million cubes from the origin, or not finite.
        """
        if not len(xyz):
            return
        cell = np.floor(np.asarray(xyz, np.float64) / self.voxel)
        if not (np.abs(cell) < _HALF).all():  # NaN too
            raise InputError("xyz", "a point that is not finite or too far away", f"within {_HALF} cubes of the origin")
        shifted = cell.astype(np.int64) + _HALF
        cube = (shifted[:, 0] << 2 * _BITS) | (shifted[:, 1] << _BITS) | shifted[:, 2]
        some = np.ones(len(xyz)) if weight is None else np.asarray(weight, np.float64)
        piece = np.empty(len(xyz), _PIECE)
        piece["cube"], piece["weight"] = cube, some
        piece["xyz"], piece["rgb"] = some[:, None] * xyz, some[:, None] * rgb
        self._new.append(_merged(piece))
        if sum(map(len, self._new)) > max(self.most // 2, 1):
            self._settle()

    def blocks(self) -> Iterator[tuple[Float[np.ndarray, "m 3"], UInt8[np.ndarray, "m 3"]]]:
        """Place (float32) and colour of every occupied cube, in an order that does not depend on the memory."""
        self._settle()
        sources = [self._held, *(np.load(path, mmap_mode="r") for path in self._pieces)]
        starts = [0] * len(sources)
        for end in self._ends(sources):
            stops = [int(np.searchsorted(source["cube"], end, side="right")) for source in sources]
            parts = [source[a:b] for source, a, b in zip(sources, starts, stops, strict=True)]
            block = _merged(np.concatenate(parts))
            starts = stops
            if len(block):
                mean = block["xyz"] / block["weight"][:, None]
                colour = np.rint(block["rgb"] / block["weight"][:, None]).clip(0, 255).astype(np.uint8)
                yield mean.astype(np.float32), colour

    def _ends(self, sources: list[npt.NDArray[Any]]) -> list[int]:
        """Last cubes of ranges that hold about as many entries as may be held."""
        step = max(self.most // (2 * len(sources)), 1)
        ends = np.unique(np.concatenate([source["cube"][step - 1 :: step] for source in sources]))
        wanted = max(1, len(sources) // 2)  # each source has about one of these ends in a range
        return [*ends[wanted - 1 :: wanted].tolist(), (1 << 3 * _BITS) - 1]

    def _settle(self) -> None:
        self._held = _merged(np.concatenate([self._held, *self._new]))
        self._new = []
        if len(self._held) > self.most:
            path = Path(self._folder.name) / f"{len(self._pieces)}.npy"
            np.save(path, self._held)
            self._pieces.append(path)
            self._held = np.zeros(0, _PIECE)


def _merged(piece: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sorted, with one entry for each cube."""
    cubes, index = np.unique(piece["cube"], return_inverse=True)
    columns = np.concatenate([piece["weight"][:, None], piece["xyz"], piece["rgb"]], 1)
    sums = sum_by(index.reshape(-1), columns, len(cubes))
    merged = np.empty(len(cubes), _PIECE)
    merged["cube"], merged["weight"] = cubes, sums[:, 0]
    merged["xyz"], merged["rgb"] = sums[:, 1:4], sums[:, 4:]
    return merged
