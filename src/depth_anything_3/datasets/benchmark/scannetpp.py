"""ScanNet++ as the published evaluation has it: twenty scenes, pictures of the phone, poses calibrated anew.

Layout: ``SCENE/merge_dslr_iphone/`` with a COLMAP model in ``colmap/sparse_render_rgb/``, ``images/`` and
``render_depth/NAME.png`` (millimetres), and ``SCENE/scans/mesh_aligned_0.05.ply``. Only pictures with ``iphone`` in
their name are scored.

Pictures are freed of their lens with OpenCV's matrix that keeps all pixels, the one that the rendered depth is in. The
published evaluation shows the network the pictures as taken and undistorts them only for fusion; so small a distortion
matters little, and a pinhole camera then holds for everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Shaped

from depth_anything_3.datasets._folder import folders_holding
from depth_anything_3.datasets._reading import damage_in, millimetres
from depth_anything_3.datasets.base import View
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, nearest, read_surface
from depth_anything_3.datasets.benchmark.base import Fusion, Surface
from depth_anything_3.geometry.distortion import undistort_image
from depth_anything_3.io.cameras.colmap import camera_and_lens
from depth_anything_3.io.colmap import ColmapCamera, read_cameras, read_images

SCENES = (
    "09c1414f1b",
    "1ada7a0617",
    "40aec5fffa",
    "3e8bba0176",
    "acd95847c5",
    "578511c8a9",
    "5f99900f09",
    "c4c04e6d6c",
    "f3d64c30f8",
    "7bc286c1b6",
    "c5439f4607",
    "286b55a2bf",
    "fb5a96b1a2",
    "7831862f02",
    "38d58a7a31",
    "bde1e479ad",
    "9071e139d9",
    "21d970d8de",
    "bcd2436daf",
    "cc5237fd77",
)
"""Scenes of the published evaluation."""

_MERGED, _MODEL = "merge_dslr_iphone", Path("colmap") / "sparse_render_rgb"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene(Listed):
    taken: tuple[ColmapCamera, ...]


class ScanNetPP(ListedDataset):
    """Scenes are ids (``scannetpp/09c1414f1b``)."""

    name = "scannetpp"
    title = "ScanNet++"
    modes = ("pose", "recon_unposed", "recon_posed", "speed")
    fusion = Fusion(voxel=0.02, truncation=0.15, max_depth=5.0, threshold=0.05, margin=0.1)
    paper_stride = 5
    layout = f"folders SCENE/{_MERGED}/ with {_MODEL.as_posix()}/, images/ and render_depth/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, _MERGED, depth=3):
            yield folder.name, folder / _MERGED

    def _unwanted(self, scene: str) -> str | None:
        return None if scene in SCENES else "not in the published evaluation"

    def _open(self, scene: str, place: Path) -> Listed:
        with damage_in(place / _MODEL):
            cameras, images = read_cameras(place / _MODEL), read_images(place / _MODEL)
        kept = sorted((image for image in images.values() if "iphone" in image.name), key=lambda image: image.name)
        taken = tuple(cameras[image.camera] for image in kept)
        return _Scene(
            place=place,
            frames=tuple(image.name for image in kept),
            skipped={"not of the phone": len(images) - len(kept)},
            images=tuple(place / "images" / image.name for image in kept),
            depths=tuple(place / "render_depth" / f"{Path(image.name).stem}.png" for image in kept),
            intrinsics=np.reshape([_all_pixels(camera) for camera in taken], (-1, 3, 3)),
            extrinsics=np.reshape([image.extrinsics for image in kept], (-1, 3, 4)),
            taken=taken,
        )

    def _view(
        self,
        files: Listed,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        view = super()._view(files, index, intrinsics, extrinsics)
        assert isinstance(files, _Scene)
        k, lens = camera_and_lens(files.taken[index])
        if lens.is_pinhole:
            return view
        return replace(view, image=undistort_image(view.image, k, lens, intrinsics.astype(np.float64)))

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return nearest(millimetres(file), size)

    def surface(self, scene: str) -> Surface | None:
        """The mesh of the laser scan."""
        return read_surface(self._scene(scene).place.parent / "scans" / "mesh_aligned_0.05.ply")


def _all_pixels(camera: ColmapCamera) -> np.ndarray:
    """Matrix of the picture without distortion that shows every pixel of the one that was taken."""
    k, lens = camera_and_lens(camera)
    if lens.is_pinhole or lens.model != "OPENCV":
        return k
    size, half = (camera.width, camera.height), np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return cv2.getOptimalNewCameraMatrix(k - half, np.array(lens.coefficients), size, 1.0, size)[0] + half


DATASET = ScanNetPP
