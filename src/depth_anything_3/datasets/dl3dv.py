"""DL3DV-10K: videos of real places with cameras, and sparse depth, from structure from motion.

Ling et al., "DL3DV-10K: A Large-Scale Scene Dataset for Deep Learning-based 3D Vision", 2024. Layout:
``{1K..11K}/{hash}/`` with ``transforms.json`` and the pictures in ``images_8``, ``images_4``, ``images_2`` or
``images``; the COLMAP cache, where it is unpacked into the same folder, adds sparse depth. The layout of the benchmark
(``{hash}/nerfstudio/``) is read too. The 140 scenes of the benchmark must be kept out of training by the caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from depth_anything_3.datasets._colmap import observed_points, sparse_depth
from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles, assemble, check_size, folders
from depth_anything_3.datasets._reading import damage_in, read_image, read_image_size, read_json
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.distortion import pinhole_intrinsics, undistort_image
from depth_anything_3.geometry.stored_poses import extrinsics_from_opengl
from depth_anything_3.io.colmap import ColmapImage, ColmapPoints, find_model, read_images, read_points
from depth_anything_3.types.cameras import Lens

IMAGE_FOLDERS = ("images_4", "images_8", "images_2", "images")
"""Where the pictures may be; the first that is there is used."""

APPLIED_TRANSFORM = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
"""What was applied to the world of COLMAP, where ``transforms.json`` does not say."""

_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_SAME_POSE = 1e-3  # difference that comes from printing digits
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene(SceneFiles):
    images: tuple[Path, ...]
    size: tuple[int, int]
    taken_with: Float64[np.ndarray, "3 3"]
    lens: Lens
    intrinsics: Float64[np.ndarray, "3 3"]
    poses: tuple[Any, ...]
    applied: Float64[np.ndarray, "4 4"]
    observed: tuple[ColmapImage | None, ...]
    points: ColmapPoints | None


class Dl3dv(FolderDataset[_Scene]):
    """DL3DV-10K; scenes are ``dl3dv/{hash}``, frames ``frame_00001``, ...

    Pictures are freed from lens distortion; they keep their size and centre. Depth is sparse, in the unit of the
    reconstruction: 0 but for the pixels where a point of COLMAP was observed. Without the COLMAP cache it is None.

    Args:
        root: the folder of subsets, or one of them.
        clean: portrait videos count as corrupt; weak points give no depth.
        images: which folder of pictures to use; by default the first of :data:`IMAGE_FOLDERS`.
    """

    name = "dl3dv"
    metric = False
    real = True
    layout = "folders of scenes that hold transforms.json and images_4/ (or images_8/, images_2/, images/)"

    def __init__(self, root: str | os.PathLike[str], *, clean: bool = True, images: str | None = None) -> None:
        if images not in (None, *IMAGE_FOLDERS):
            raise InputError("images", repr(images), "a folder of pictures", IMAGE_FOLDERS)
        self.images = images
        super().__init__(root, clean=clean)

    def _find(self) -> Iterator[tuple[str, Path]]:
        wanted = set(IMAGE_FOLDERS) if self.images is None else {self.images}
        for folder, inner, files in folders(self.root, depth=5):
            if "transforms.json" in files and wanted & set(inner):
                inner.clear()
                hashes = [part for part in folder.parts if _HASH.fullmatch(part)]
                yield hashes[-1] if hashes else folder.name, folder

    def _open(self, scene: str, place: Path) -> _Scene:
        file = place / "transforms.json"
        with damage_in(file):
            content = read_json(file)
            entries = sorted(content["frames"], key=lambda entry: str(entry["file_path"]))
            taken_with, lens = _camera_of(file, content)
            applied = np.eye(4)
            applied[:3] = content.get("applied_transform", APPLIED_TRANSFORM)
        folder = place / next(name for name in (self.images, *IMAGE_FOLDERS) if name and (place / name).is_dir())
        images = [folder / PurePosixPath(entry["file_path"]).name for entry in entries]
        kept = [index for index, image in enumerate(images) if image.is_file()]
        if not kept:
            raise CorruptSample(folder, "none of the pictures of transforms.json is there")
        size = read_image_size(images[kept[0]])
        if self.clean and size[0] > size[1]:
            raise CorruptSample(place, "a portrait video")
        taken_with = _at_size(file, content, taken_with, size)
        observed, points = _read_sparse(place, [entries[index] for index in kept])
        return _Scene(
            place=place,
            frames=tuple(images[index].stem for index in kept),
            skipped={"no image": len(images) - len(kept)},
            images=tuple(images[index] for index in kept),
            size=size,
            taken_with=taken_with,
            lens=lens,
            intrinsics=pinhole_intrinsics(taken_with, lens, *size),
            poses=tuple(entries[index].get("transform_matrix") for index in kept),
            applied=applied,
            observed=observed,
            points=points,
        )

    def _camera(self, files: _Scene, index: int) -> CameraOfFrame:
        with damage_in(files.place / "transforms.json"):
            stored = np.array(files.poses[index], np.float64).reshape(4, 4)
        extrinsics = extrinsics_from_opengl(np.linalg.solve(files.applied, stored))
        observed = files.observed[index]
        if observed is not None and not _is_same_pose(extrinsics, observed.extrinsics):
            raise CorruptSample(
                files.place / "transforms.json", f"frame {files.frames[index]} stands elsewhere in COLMAP"
            )
        return files.intrinsics, extrinsics

    def _view(
        self,
        files: _Scene,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        image = read_image(files.images[index])
        check_size(files.images[index], image, files.size)
        if not files.lens.is_pinhole:
            image = undistort_image(image, files.taken_with, files.lens, files.intrinsics)
        depth = None
        observed = files.observed[index]
        if files.points is not None and observed is not None and extrinsics is not None:
            xyz = files.points.xyz[observed_points(files.points, observed, clean=self.clean)]
            depth = (files.place, sparse_depth(xyz, files.intrinsics, extrinsics.astype(np.float64), files.size))
        return assemble(image, depth, intrinsics=intrinsics, extrinsics=extrinsics)


def _camera_of(file: Path, content: dict[str, Any]) -> tuple[Float64[np.ndarray, "3 3"], Lens]:
    """Camera matrix at the size of the recording, and the distortion."""
    model = content.get("camera_model", "OPENCV")
    if model not in _MODELS:
        raise CorruptSample(file, f"camera_model is {model}; known are {', '.join(_MODELS)}")
    fx, fy, cx, cy = (float(content[key]) for key in ("fl_x", "fl_y", "cx", "cy"))
    lens = Lens("OPENCV", tuple(float(content.get(key, 0.0)) for key in ("k1", "k2", "p1", "p2")))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), lens


def _at_size(
    file: Path, content: dict[str, Any], intrinsics: Float64[np.ndarray, "3 3"], size: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    """The camera matrix in pixels of the pictures, which are copies of the recording at another size."""
    with damage_in(file):
        factors = np.array([size[1] / float(content["w"]), size[0] / float(content["h"])])
    if not abs(factors[0] / factors[1] - 1) < 0.02:
        shape = f"{content['w']}x{content['h']} in it, {size[1]}x{size[0]} in the pictures"
        raise CorruptSample(file, f"width and height do not fit: {shape}")
    return intrinsics * np.array([*factors, 1.0])[:, None]


def _is_same_pose(first: Float64[np.ndarray, "3 4"], second: Float64[np.ndarray, "3 4"]) -> bool:
    """Whether rotations, and translations but for their size, are alike; not where one is not finite."""
    size = np.array([1, 1, 1, 1 + np.linalg.norm(second[:, 3])])
    return bool((np.abs(first - second) < _SAME_POSE * size).all())


# --- sparse depth ----------------------------------------------------------------------------------------------------


def _read_sparse(
    place: Path, entries: list[dict[str, Any]]
) -> tuple[tuple[ColmapImage | None, ...], ColmapPoints | None]:
    """What COLMAP observed in each frame; images are found by file name, or by id if no name fits."""
    model = find_model(place) or (find_model(place.parent) if place.name == "nerfstudio" else None)
    if model is None:
        return (None,) * len(entries), None
    with damage_in(model):
        images, points = read_images(model), read_points(model)
    by_name = {PurePosixPath(image.name).name: image for image in images.values()}
    observed = [by_name.get(PurePosixPath(entry["file_path"]).name) for entry in entries]
    if not any(observed):
        observed = [images.get(entry.get("colmap_im_id", -1)) for entry in entries]
    return tuple(observed), points


DATASET = Dl3dv
