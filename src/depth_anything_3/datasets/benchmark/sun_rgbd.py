"""SUN RGB-D, the 5050 test pictures (Song et al., 2015).

Layout: below ``kv1``, ``kv2``, ``realsense`` and ``xtion`` folders that hold ``intrinsics.txt``, ``image/*.jpg`` and
``depth/*.png`` (16 bit, rotated left by 13, millimetres). The list of the toolbox, ``allsplit.mat``, says which are for
testing; a text file ``test.txt`` with one path per line does as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3._optional import require
from depth_anything_3.datasets._folder import folders_holding
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_numbers
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset

_SENSORS = ("kv1", "kv2", "realsense", "xtion")


class SunRgbd(ListedDataset):
    """Scenes are folders of one picture (``sun_rgbd/kv1/NYUdata/NYU0001``)."""

    name = "sun_rgbd"
    title = "SUN RGB-D"
    modes = ("metric", "mono")
    depth_range = (1e-3, 10.0)
    max_frames = None
    layout = "kv1|kv2|realsense|xtion/.../ with intrinsics.txt, image/ and depth/, and allsplit.mat or test.txt"

    def _find(self) -> Iterator[tuple[str, Path]]:
        if self._list_file is None:
            return
        for folder in folders_holding(self.root, "intrinsics.txt", "image", "depth", depth=8):
            sensor = next((part for part in _SENSORS if part in folder.parts), None)
            if sensor is not None:
                yield "/".join(folder.parts[folder.parts.index(sensor) :]), folder

    def _unwanted(self, scene: str) -> str | None:
        return None if scene in self._tested else "not for testing"

    @cached_property
    def _list_file(self) -> Path | None:
        return next((f for n in ("allsplit.mat", "test.txt") for f in sorted(self.root.rglob(n))), None)

    @cached_property
    def _tested(self) -> frozenset[str]:
        file = self._list_file
        assert file is not None
        with damage_in(file):
            if file.suffix == ".txt":
                return frozenset(line.strip().strip("/") for line in file.read_text().splitlines() if line.strip())
            stored = require("scipy.io", extra="bench").loadmat(str(file))["alltest"].ravel()
        return frozenset(_below_sensor(str(np.asarray(entry).ravel()[0])) for entry in stored)

    def _open(self, scene: str, place: Path) -> Listed:
        pictures, depths = (
            sorted((place / part).glob(f"*{end}")) for part, end in (("image", ".jpg"), ("depth", ".png"))
        )
        for part, found in (("image", pictures), ("depth", depths)):
            if len(found) != 1:
                raise CorruptSample(place / part, f"{len(found)} files instead of one")
        k = read_numbers(place / "intrinsics.txt", count=9).reshape(1, 3, 3)
        return Listed(
            place=place,
            frames=(pictures[0].stem,),
            images=tuple(pictures),
            depths=tuple(depths),
            intrinsics=k,
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        stored = read_grey_16(file)
        return ((stored >> 3) | (stored << 13)).astype(np.float32) / np.float32(1000)


def _below_sensor(path: str) -> str:
    """The path from the sensor down, of the machine that the list was made on."""
    parts = path.replace("\\", "/").strip("/").split("/")
    start = next((i for i, part in enumerate(parts) if part in _SENSORS), 0)
    return "/".join(parts[start:])


DATASET = SunRgbd
