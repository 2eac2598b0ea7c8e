"""IRS (Indoor Robotics Stereo): simulated rooms, as stereo pairs with the disparity of the left picture.

Wang et al., "IRS: A Large Naturalistic Indoor Robotics Stereo Dataset", 2019. A scene is one pair.
Layout: ``{Home|Office|Restaurant|Store}/{place}/`` with ``l_00001.png``, ``r_00001.png``, ``d_00001.exr``; some indices
are not padded, and some archives lack the level of the category.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    check_size,
    folders,
)
from depth_anything_3.datasets._reading import read_exr, read_image, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import InputError

CATEGORIES = ("Home", "Office", "Restaurant", "Store")
SIZE = (540, 960)
FOCAL, BASELINE = 480.0, 0.1
INTRINSICS = np.array([[FOCAL, 0, 480], [0, FOCAL, 270], [0, 0, 1]])
"""The centre is not published; that of the image is taken."""

CLIP = 200.0
"""Metres from which depth is not to be trusted: windows, and what lies outside."""

EDGE_DILATIONS = {"depth": 1, "image": 3}
"""Pixels by which edges are thickened before they are compared; see :func:`edge_overlap`."""

_CANNY = (50.0, 100.0)


class Irs(FolderDataset[SceneFiles]):
    """IRS; a scene (``irs/{category}/{place}/{index}``) is a pair with frames ``left`` (with depth) and ``right``.

    Args:
        root: the folder ``IRSDataset``, or one above or below it.
        clean: invalidate depth beyond :data:`CLIP`, and leave out frames by ``min_edge_overlap``.
        list_file: one of the lists that come with the data (four paths below ``root`` on each line): only what it
            names is used. Files in no list may be leftovers.
        min_edge_overlap: left pictures whose :func:`edge_overlap` is lower count as corrupt. The published cleaning
            does this without giving the number; 0 leaves nothing out.
    """

    name = "irs"
    metric = True
    real = False
    layout = "folders with files l_INDEX.png, r_INDEX.png and d_INDEX.exr"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        clean: bool = True,
        list_file: str | os.PathLike[str] | None = None,
        min_edge_overlap: float = 0.0,
    ) -> None:
        self.list_file = None if list_file is None else Path(list_file)
        if self.list_file is not None and not self.list_file.is_file():
            raise InputError("list_file", f"{list_file}, which is not a file", "a list of files of the data set")
        self.min_edge_overlap = min_edge_overlap
        super().__init__(root, clean=clean)

    def _find(self) -> Iterator[tuple[str, Path]]:
        for file in self._disparities():
            place = file.parent / file.name.removeprefix("d_").removesuffix(".exr")
            yield "/".join(self._parts(place)), place

    def _disparities(self) -> Iterator[Path]:
        if self.list_file is not None:
            paths = (Path(path.lstrip("/")) for path in self.list_file.read_text().split())
            yield from (self.root / path for path in paths if path.match("d_*.exr"))
            return
        for folder, _, files in folders(self.root, depth=6):
            yield from (folder / name for name in files if name.startswith("d_") and name.endswith(".exr"))

    def _parts(self, place: Path) -> tuple[str, ...]:
        """From the category on where there is one, so that ids do not depend on the folder chosen as root."""
        for index, part in reversed(list(enumerate(place.parts))):
            if part in CATEGORIES:
                return place.parts[index:]
        parts = place.relative_to(self.root).parts
        return parts[1:] if parts[0] == "IRSDataset" else parts

    def _open(self, scene: str, place: Path) -> SceneFiles:
        right = (place.parent / f"r_{place.name}.png").is_file()
        return SceneFiles(place=place, frames=("left", "right") if right else ("left",))

    def _camera(self, files: SceneFiles, index: int) -> CameraOfFrame:
        extrinsics = np.eye(4)[:3]
        extrinsics[0, 3] = -BASELINE * index
        return INTRINSICS, extrinsics

    def _view(
        self,
        files: SceneFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        folder, number = files.place.parent, files.place.name
        image_file = folder / f"{'lr'[index]}_{number}.png"
        image = read_image(image_file)
        check_size(image_file, image, SIZE)
        if files.frames[index] == "right":
            return assemble(image, None, intrinsics=intrinsics, extrinsics=extrinsics)
        depth_file = folder / f"d_{number}.exr"
        disparity = read_exr(depth_file, ("R", "G", "Y", "V", "Z"))
        with np.errstate(divide="ignore", invalid="ignore"):
            depth, _ = valid_depth(FOCAL * BASELINE / disparity, far=CLIP if self.clean else np.inf)
        no_sky = np.zeros(depth.shape, np.bool_)
        view = assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=no_sky)
        if self.clean and self.min_edge_overlap > 0:
            overlap = edge_overlap(image, depth)
            if overlap < self.min_edge_overlap:
                raise CorruptSample(image_file, f"only {overlap:.0%} of the edges of its depth are in the image")
        return view


def edge_overlap(image: UInt8[np.ndarray, "h w 3"], depth: Float32[np.ndarray, "h w"]) -> float:
    """Share of the edges of the depth that have an edge of the image beside them; 1 where the depth has none.

    The published cleaning compares Canny edges, dilated by 1 and 3 pixels; the thresholds of the detector, the use of
    the logarithm of depth and the share of which map is counted are choices made here.
    """
    logs = np.log(np.where(depth > 0, depth, depth.max(initial=1e-3)).clip(1e-3))
    span = max(float(np.ptp(logs)), 1e-6)
    grey = np.rint(255 * (logs - logs.min()) / span).astype(np.uint8)
    of_depth = _thick(cv2.Canny(grey, *_CANNY), EDGE_DILATIONS["depth"])
    of_image = _thick(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *_CANNY), EDGE_DILATIONS["image"])
    return float(of_image[of_depth].mean()) if of_depth.any() else 1.0


def _thick(edges: np.ndarray, pixels: int) -> np.ndarray:
    side = 2 * pixels + 1
    return cv2.dilate(edges, np.ones((side, side), np.uint8)) > 0


DATASET = Irs
