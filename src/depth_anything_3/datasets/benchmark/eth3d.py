"""ETH3D, high-resolution multi-view (Schöps et al., 2017), as the published evaluation reads it.

Layout: ``SCENE/`` with ``dslr_calibration_jpg/`` (COLMAP text), ``images/``, ``combined_mesh.ply``,
``ground_truth_depth/dslr_images/NAME.JPG`` (raw float32, not a JPEG) and ``masks_for_images/dslr_images/NAME.png``
(1: not to be scored). Pictures are taken as they are: as in the published evaluation the lens is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Shaped

from depth_anything_3.datasets._folder import folders_holding
from depth_anything_3.datasets._reading import damage_in, read_mask
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, read_surface
from depth_anything_3.datasets.benchmark.base import Fusion, Surface
from depth_anything_3.io.cameras.colmap import camera_and_lens
from depth_anything_3.io.colmap import read_cameras, read_images

SCENES = (
    "courtyard",
    "delivery_area",
    "electro",
    "facade",
    "kicker",
    "office",
    "pipes",
    "playground",
    "relief",
    "relief_2",
    "terrains",
)
"""Scenes of the published evaluation; meadow and terrace are left out there."""

FILTERED = {
    "delivery_area": range(711, 715),
    "electro": (*range(9289, 9294), 9298),
    "playground": range(587, 593),
    "relief": range(427, 439),
    "relief_2": range(458, 469),
}
"""Numbers of pictures that are left out, because their depth belongs to another orientation or is wrong."""

_CALIBRATION = "dslr_calibration_jpg"


class Eth3d(ListedDataset):
    """Scenes are folders (``eth3d/courtyard``)."""

    name = "eth3d"
    title = "ETH3D"
    modes: ClassVar[tuple[str, ...]] = ("pose", "recon_unposed", "recon_posed", "speed")
    fusion = Fusion(voxel=0.0390625, truncation=0.20, max_depth=1e5, threshold=0.25)
    layout = f"folders of scenes with {_CALIBRATION}/ and images/"
    wanted: ClassVar[tuple[str, ...]] = SCENES

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, _CALIBRATION, "images", depth=3):
            yield folder.name, folder

    def _unwanted(self, scene: str) -> str | None:
        return None if scene in self.wanted else "not in the published evaluation"

    def _open(self, scene: str, place: Path) -> Listed:
        model = place / _CALIBRATION
        with damage_in(model / "images.txt"):
            cameras, images = read_cameras(model), read_images(model)
        kept = [image for image in images.values() if not (self.clean and _is_filtered(place.name, image.name))]
        names = [image.name for image in kept]
        matrices = [camera_and_lens(cameras[image.camera])[0] for image in kept]
        return Listed(
            place=place,
            frames=tuple(names),
            skipped={"cleaning: wrong depth": len(images) - len(kept)},
            images=tuple(place / "images" / name for name in names),
            depths=tuple(self._depth_file(place, name) for name in names),
            intrinsics=np.reshape(matrices, (-1, 3, 3)),
            extrinsics=np.reshape([image.extrinsics for image in kept], (-1, 3, 4)),
        )

    def _depth_file(self, place: Path, name: str) -> Path | None:
        """None where there is none: then every pixel counts."""
        file = place / "ground_truth_depth" / "dslr_images" / Path(name).name
        return file if file.is_file() else None

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        with damage_in(file):
            values = np.fromfile(file, "<f4")
        if values.size != size[0] * size[1]:
            raise CorruptSample(file, f"{values.size} numbers instead of {size[0]} x {size[1]}")
        return values.reshape(size)

    def _read_mask(self, files: Listed, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
        file = files.place / "masks_for_images" / "dslr_images" / f"{Path(files.frames[index]).stem}.png"
        return read_mask(file) != 1 if file.is_file() else None

    def surface(self, scene: str) -> Surface | None:
        """The mesh of the laser scans."""
        return read_surface(self._scene(scene).place / "combined_mesh.ply")


def _is_filtered(scene: str, name: str) -> bool:
    number = re.search(r"(\d+)$", Path(name).stem)
    return number is not None and int(number[1]) in FILTERED.get(scene, ())


DATASET = Eth3d
