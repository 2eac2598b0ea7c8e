"""PointOdyssey (version 1.1 or later): long simulated videos of moving people and animals.

Zheng et al., "PointOdyssey: A Large-Scale Synthetic Dataset for Long-Term Point Tracking", 2023. Layout:
``{train|val|test}/{sequence}/`` with ``rgbs/rgb_00000.jpg``, ``depths/depth_00000.png`` and ``anno.npz``. Things move
between the frames.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    folders,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_image, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View

DROPPED = frozenset({"animal2_s", "dancingroom3_3rd"})
"""Sequences left out."""

UNIT = 1000 / 65535
"""Metres for each step of the 16-bit depth."""

NOTHING = 65535
"""The stored value of what is too far: sky, but smoke too, so that nothing is said about the sky."""

_ANNOTATIONS = ("anno.npz", "annot.npz")
_VISIBLE = ("visibs", "visibilities")
_TRACK_TOLERANCE = 4.0  # pixels; the mirrored cameras of version 1.0 are off by hundreds


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sequence(SceneFiles):
    intrinsics: Float[np.ndarray, "n 3 3"]
    extrinsics: Float[np.ndarray, "n 4 4"]


class PointOdyssey(FolderDataset[_Sequence]):
    """PointOdyssey; scenes are ``point_odyssey/{split}/{sequence}``, frames ``00000``, ``00001``, ...

    A sequence where the numbers of pictures, depth maps and cameras differ is corrupt, and so is one of version 1.0
    (whose cameras are mirrored): its annotated points are projected to find out.
    """

    name = "point_odyssey"
    metric = True
    real = False
    layout = "folders SPLIT/SEQUENCE that hold rgbs/, depths/ and anno.npz"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=5):
            if "rgbs" in inner and any(name in files for name in _ANNOTATIONS):
                inner.clear()
                yield "/".join(folder.parts[-2:]), folder

    def _unwanted(self, scene: str) -> str | None:
        sequence = scene.split("/")[-1]
        return f"cleaning: sequence {sequence}" if sequence in DROPPED else None

    def _open(self, scene: str, place: Path) -> _Sequence:
        images = names_matching(place / "rgbs", "rgb_", ".jpg")
        depths = names_matching(place / "depths", "depth_", ".png")
        file = next(place / name for name in _ANNOTATIONS if (place / name).is_file())
        with damage_in(file), np.load(file, allow_pickle=False) as annotations:
            intrinsics = annotations["intrinsics"].astype(np.float64)
            extrinsics = annotations["extrinsics"].astype(np.float64)
        if intrinsics.shape[1:] != (3, 3) or extrinsics.shape[1:] != (4, 4):
            raise CorruptSample(file, f"intrinsics {intrinsics.shape} and extrinsics {extrinsics.shape}")
        if images != depths or not len(images) == len(intrinsics) == len(extrinsics):
            counts = f"{len(images)} images, {len(depths)} depth maps, {len(intrinsics)} and {len(extrinsics)} cameras"
            raise CorruptSample(place, f"{counts} do not belong together")
        _check_tracks(file, intrinsics[0], extrinsics[0])
        return _Sequence(place=place, frames=tuple(by_number(images)), intrinsics=intrinsics, extrinsics=extrinsics)

    def _camera(self, files: _Sequence, index: int) -> CameraOfFrame:
        return files.intrinsics[index], files.extrinsics[index, :3]

    def _view(
        self,
        files: _Sequence,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        image = read_image(files.place / "rgbs" / f"rgb_{frame}.jpg")
        depth_file = files.place / "depths" / f"depth_{frame}.png"
        steps = read_grey_16(depth_file)
        depth, _ = valid_depth(np.where(steps == NOTHING, 0, steps * np.float32(UNIT)))
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def _check_tracks(file: Path, intrinsics: Float[np.ndarray, "3 3"], extrinsics: Float[np.ndarray, "4 4"]) -> None:
    """The points annotated in the first frame must be where the camera sees them; files without points pass."""
    with damage_in(file), zipfile.ZipFile(file) as archive:
        world, pixels = _first_row(archive, "trajs_3d"), _first_row(archive, "trajs_2d")
        visible = next((row for row in (_first_row(archive, name) for name in _VISIBLE) if row is not None), None)
    if world is None or pixels is None or world.shape[1:] != (3,) or pixels.shape != (len(world), 2):
        return
    kept = np.isfinite(world).all(1) & (pixels > 0).all(1) & (pixels < 2 * intrinsics[:2, 2]).all(1)
    if visible is not None and visible.shape == kept.shape:
        kept &= visible > 0
    camera = world[kept] @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    with np.errstate(all="ignore"):
        projected = (camera @ intrinsics.T)[:, :2] / camera[:, 2:]
        errors = np.where(camera[:, 2] > 0, np.linalg.norm(projected - pixels[kept], axis=1), np.inf)
    if len(errors) and not np.median(errors) < _TRACK_TOLERANCE:
        raise CorruptSample(file, "the annotated points are not where the cameras see them (version 1.0?)")


def _first_row(archive: zipfile.ZipFile, name: str) -> Float[np.ndarray, "points ..."] | None:
    """The first entry of an array of all frames: the rest, hundreds of megabytes, is not unpacked."""
    if f"{name}.npy" not in archive.namelist():
        return None
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if fortran or len(shape) < 2 or dtype.kind not in "fbiu":
            return None
        content = stream.read(math.prod(shape[1:]) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape[1:]).astype(np.float64)


DATASET = PointOdyssey
