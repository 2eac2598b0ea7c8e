"""DIODE, validation (Vasiljevic et al., 2019).

Layout: ``val/indoors/`` and ``val/outdoor/``, in them ``scene_00000/scan_00000/ID.png``, ``ID_depth.npy`` (metres) and
``ID_depth_mask.npy`` (1 where it is valid).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Shaped

from depth_anything_3.datasets._folder import folders, names_matching
from depth_anything_3.datasets._reading import read_npy
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, same_camera

INTRINSICS = np.array([[886.81, 0, 512], [0, 927.06, 384], [0, 0, 1]])
"""As published; pixels are not square."""


class Diode(ListedDataset):
    """Scenes are scans (``diode/indoors/scene_00019/scan_00183``)."""

    name = "diode"
    title = "DIODE"
    modes: ClassVar[tuple[str, ...]] = ("mono",)
    depth_range = (0.01, 50.0)
    max_frames = None
    layout = "val/indoors|outdoor/SCENE/SCAN/ with ID.png, ID_depth.npy and ID_depth_mask.npy"
    places: ClassVar[tuple[str, ...]] = ("indoors", "outdoor")

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=6):
            if folder.name.startswith("scan_") and folder.parts[-3] in self.places and "train" not in folder.parts:
                inner.clear()
                yield "/".join(folder.parts[-3:]), folder

    def _open(self, scene: str, place: Path) -> Listed:
        names = sorted(names_matching(place, "", ".png") & names_matching(place, "", "_depth.npy"))
        return Listed(
            place=place,
            frames=tuple(names),
            images=tuple(place / f"{name}.png" for name in names),
            depths=tuple(place / f"{name}_depth.npy" for name in names),
            intrinsics=same_camera(INTRINSICS, len(names)),
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return read_npy(file)

    def _read_mask(self, files: Listed, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
        return read_npy(files.place / f"{files.frames[index]}_depth_mask.npy") == 1


DATASET = Diode
