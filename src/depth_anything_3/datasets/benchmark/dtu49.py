"""DTU, 22 scans of 49 pictures with structured-light points, as MVSNet lays it out; millimetres.

Layout: ``Rectified/SCAN/*.png`` (the number of a file less one is that of its camera), ``Cameras/00000000_cam.txt``,
``depth_raw/Depths/SCAN/depth_visual_0000.png`` (above 10: the object), ``Points/stl/stl001_total.ply``,
``SampleSet/mvs_data/ObsMask/ObsMask1_10.mat`` and ``Plane1.mat`` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from depth_anything_3._optional import require
from depth_anything_3.datasets._folder import folders
from depth_anything_3.datasets._reading import damage_in, read_mask
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, nearest, read_surface
from depth_anything_3.datasets.benchmark.base import ObservedVolume, Surface
from depth_anything_3.datasets.benchmark.dtu64 import reference_first

SCANS = (1, 4, 9, 10, 11, 12, 13, 15, 23, 24, 29, 32, 33, 34, 48, 49, 62, 75, 77, 110, 114, 118)
"""Scans of the published evaluation."""

_OBJECT = 10


class Dtu49(ListedDataset):
    """Scenes are scans (``dtu49/scan1``); the mask of a view is the object."""

    name = "dtu49"
    title = "DTU-49"
    modes = ("recon_unposed", "recon_posed", "speed")
    metric = False  # millimetres
    layout = "Rectified/SCAN/ with pictures, Cameras/ and depth_raw/Depths/SCAN/ with masks"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=3):
            if folder.parent.name == "Rectified" and _scan(folder.name) in SCANS:
                inner.clear()
                yield folder.name, folder

    def _open(self, scene: str, place: Path) -> Listed:
        cameras = self._above(place) / "Cameras"
        return reference_first(place, sorted(place.glob("*.png")), lambda p: cameras / f"{_camera(p):08d}_cam.txt")

    def _above(self, place: Path) -> Path:
        return place.parent.parent

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        raise CorruptSample(file, "DTU-49 has points, and no depth that is used")

    def _read_mask(self, files: Listed, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
        name = f"depth_visual_{_camera(files.images[index]):04d}.png"
        file = self._above(files.place) / "depth_raw" / "Depths" / files.place.name / name
        return nearest(read_mask(file), size) > _OBJECT

    def surface(self, scene: str) -> Surface | None:
        """The points of the scanner."""
        place = self._scene(scene).place
        return read_surface(self._above(place) / "Points" / "stl" / f"stl{_scan(place.name):03d}_total.ply")

    def observed(self, scene: str) -> ObservedVolume | None:
        """Where the scanner saw, and the table top."""
        place = self._scene(scene).place
        folder, number = self._above(place) / "SampleSet" / "mvs_data" / "ObsMask", _scan(place.name)
        seen = _read_mat(folder / f"ObsMask{number}_10.mat", ("ObsMask", "BB", "Res"))
        plane = _read_mat(folder / f"Plane{number}.mat", ("P",))
        return ObservedVolume(
            mask=seen["ObsMask"].astype(bool),
            low=seen["BB"][0].astype(np.float64),
            high=seen["BB"][1].astype(np.float64),
            resolution=float(seen["Res"].ravel()[0]),
            plane=plane["P"].astype(np.float64).ravel(),
        )


def _read_mat(file: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    loader = require("scipy.io", extra="bench")
    with damage_in(file):
        if not file.is_file():
            raise FileNotFoundError
        found = loader.loadmat(str(file))
    if missing := [name for name in names if name not in found]:
        raise CorruptSample(file, f"without {', '.join(missing)}")
    return {name: np.asarray(found[name]) for name in names}


def _scan(name: str) -> int:
    match = re.fullmatch(r"scan(\d+)", name)
    return int(match[1]) if match else -1


def _camera(picture: Path) -> int:
    """Number of the camera: the first number in the name of the file, less one."""
    match = re.search(r"\d+", picture.stem)
    if match is None:
        raise CorruptSample(picture, "no number in its name")
    return int(match[0]) - 1


DATASET = Dtu49
