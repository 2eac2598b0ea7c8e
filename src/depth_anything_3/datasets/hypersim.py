"""Hypersim: photo-realistic still lives of indoor scenes, with high dynamic range.

Roberts et al., "Hypersim: A Photorealistic Synthetic Dataset for Holistic Indoor Scene Understanding", 2021. Layout:
``ai_VVV_NNN/`` with ``_detail/metadata_scene.csv``, ``_detail/cam_00/camera_keyframe_{positions,orientations}.hdf5``
and ``images/scene_cam_00_{final_hdf5,geometry_hdf5,final_preview}/frame.0000.*``. The table
``metadata_camera_parameters.csv`` comes with the tools of the authors and must lie in the root folder; the list of what
is public, ``metadata_images_split_scene_v1.csv``, is heeded where it lies there. Needs h5py.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    check_size,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, read_hdf5, read_image, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.geometry.stored_poses import extrinsics_from_opengl

PARAMETERS, PUBLIC = "metadata_camera_parameters.csv", "metadata_images_split_scene_v1.csv"
"""Tables of the authors: the cameras of all scenes, and which pictures are public."""

BRIGHT, GAMMA = (0.9, 0.8), 2.2
"""Tone mapping as the authors do it: the 90th percentile of brightness becomes 0.8 behind a gamma of 1 / 2.2."""

_BRIGHTNESS = np.array([0.3, 0.59, 0.11], np.float32)
_NOTHING = -1  # id of pixels without an object


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trajectory(SceneFiles):
    camera: str
    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"]
    world_from_camera: dict[int, Float[np.ndarray, "3 4"]]


class Hypersim(FolderDataset[_Trajectory]):
    """Hypersim; scenes are trajectories of a camera (``hypersim/ai_001_001/cam_00``), frames ``0000``, ``0001``, ...

    Pictures are made from the high dynamic range where it is there, and otherwise are the previews. Depth is stored as
    distance, and turned into z with the camera matrix of the scene, which is not the same for all.

    Args:
        root: the folder of scenes.
        clean: leave out scenes with a tilted image plane (their camera matrix has a skew), and pictures that are not
            public.
    """

    name = "hypersim"
    metric = True
    real = False
    layout = f"{PARAMETERS}, and folders ai_VVV_NNN that hold _detail/ and images/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "_detail", "images", depth=3):
            for camera in sorted((folder / "_detail").glob("cam_*/")):
                yield f"{folder.name}/{camera.name}", folder

    def _unwanted(self, scene: str) -> str | None:
        row = self._parameters.get(scene.split("/")[0])
        return "cleaning: a tilted image plane" if row is not None and _matrix(row)[0, 1] != 0 else None

    def _open(self, scene: str, place: Path) -> _Trajectory:
        _, name, camera = scene.split("/")
        if name not in self._parameters:
            raise CorruptSample(self.root / PARAMETERS, f"no row of {name}")
        row = self._parameters[name]
        images = names_matching(_folder(place, camera, "final_hdf5"), "frame.", ".color.hdf5")
        images |= names_matching(_folder(place, camera, "final_preview"), "frame.", ".tonemap.jpg")
        complete = images & names_matching(_folder(place, camera, "geometry_hdf5"), "frame.", ".depth_meters.hdf5")
        poses = _poses(place, camera)
        posed = {frame for frame in complete if frame.isdecimal() and int(frame) in poses}
        public = {frame for frame in posed if self._public is None or (name, camera, int(frame)) in self._public}
        skipped = {"no depth": len(images - complete), "no pose": len(complete - posed)}
        return _Trajectory(
            place=place,
            frames=tuple(by_number(public)),
            skipped={**skipped, "cleaning: not public": len(posed - public)},
            camera=camera,
            size=_size(row),
            intrinsics=_matrix(row),
            world_from_camera=poses,
        )

    def _camera(self, files: _Trajectory, index: int) -> CameraOfFrame:
        return files.intrinsics, extrinsics_from_opengl(files.world_from_camera[int(files.frames[index])])

    def _view(
        self,
        files: _Trajectory,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        stem = f"frame.{files.frames[index]}"
        depth_file = _folder(files.place, files.camera, "geometry_hdf5") / f"{stem}.depth_meters.hdf5"
        image_file, image = _picture(files, stem)
        check_size(image_file, image, files.size)
        distance = read_hdf5(depth_file, "dataset").astype(np.float32)
        check_size(depth_file, distance, files.size)
        rays = np.linalg.solve(files.intrinsics, [*pixel_centres(*files.size).reshape(-1, 2).T, np.ones(distance.size)])
        z = distance / np.linalg.norm(rays, axis=0).reshape(files.size).astype(np.float32)
        depth, _ = valid_depth(z)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)

    @cached_property
    def _parameters(self) -> dict[str, dict[str, str]]:
        file = self.root / PARAMETERS
        if not file.is_file():
            raise InputError("root", f"{self.root} without {PARAMETERS}", "this table of the authors' tools in it")
        return {row["scene_name"]: row for row in _rows(file)}

    @cached_property
    def _public(self) -> frozenset[tuple[str, str, int]] | None:
        file = self.root / PUBLIC
        if not self.clean or not file.is_file():
            return None
        with damage_in(file):
            kept = [row for row in _rows(file) if row["included_in_public_release"].strip().lower() == "true"]
            return frozenset((row["scene_name"], row["camera_name"], int(row["frame_id"])) for row in kept)


def _rows(file: Path) -> list[dict[str, str]]:
    with damage_in(file), file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _folder(place: Path, camera: str, kind: str) -> Path:
    return place / "images" / f"scene_{camera}_{kind}"


def _size(row: dict[str, str]) -> tuple[int, int]:
    """Height and width."""
    return int(float(row["settings_output_img_height"])), int(float(row["settings_output_img_width"]))


def _matrix(row: dict[str, str]) -> Float[np.ndarray, "3 3"]:
    """Camera matrix from OpenGL's projection matrix (image coordinates from -1 to 1, y up, z backward)."""
    height, width = _size(row)
    m = {key: float(row[f"M_proj_{key}"]) for key in ("00", "01", "02", "11", "12")}
    x, y = width / 2, height / 2
    return np.array([[m["00"] * x, -m["01"] * x, (1 - m["02"]) * x], [0, m["11"] * y, (1 + m["12"]) * y], [0, 0, 1]])


def _poses(place: Path, camera: str) -> dict[int, Float[np.ndarray, "3 4"]]:
    """Frame -> camera-to-world pose with OpenGL axes, in metres."""
    detail = place / "_detail"
    table = detail / "metadata_scene.csv"
    with damage_in(table):
        unit = {row["parameter_name"]: row["parameter_value"] for row in _rows(table)}["meters_per_asset_unit"]
        metres = float(unit)
    positions, orientations = (
        read_hdf5(detail / camera / f"camera_keyframe_{kind}.hdf5", "dataset").astype(np.float64)
        for kind in ("positions", "orientations")
    )
    if positions.shape[1:] != (3,) or orientations.shape != (len(positions), 3, 3):
        raise CorruptSample(detail / camera, f"positions {positions.shape} and orientations {orientations.shape}")
    poses = np.concatenate((orientations, metres * positions[..., None]), -1)
    return dict(enumerate(poses))


def _picture(files: _Trajectory, stem: str) -> tuple[Path, UInt8[np.ndarray, "h w 3"]]:
    """The file of a picture, and its pixels."""
    file = _folder(files.place, files.camera, "final_hdf5") / f"{stem}.color.hdf5"
    preview = _folder(files.place, files.camera, "final_preview") / f"{stem}.tonemap.jpg"
    if not file.is_file() and preview.is_file():
        return preview, read_image(preview)
    radiance = read_hdf5(file, "dataset").astype(np.float32)
    if radiance.ndim != 3 or radiance.shape[2] != 3:
        raise CorruptSample(file, f"shape {radiance.shape}")
    ids = _folder(files.place, files.camera, "geometry_hdf5") / f"{stem}.render_entity_id.hdf5"
    shown = read_hdf5(ids, "dataset") != _NOTHING if ids.is_file() else np.ones(radiance.shape[:2], np.bool_)
    check_size(ids, shown, radiance.shape[:2])
    return file, tone_mapped(radiance, shown)


def tone_mapped(radiance: Float32[np.ndarray, "h w 3"], shown: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of a picture with high dynamic range, see :data:`BRIGHT`.

    Args:
        radiance: linear; what is not finite counts as black.
        shown: the pixels whose brightness counts.
    """
    radiance = np.where(np.isfinite(radiance), radiance, 0).clip(min=0)
    brightness = (radiance @ _BRIGHTNESS)[shown]
    share, target = BRIGHT
    level = float(np.quantile(brightness, share)) if len(brightness) else 0.0
    scale = target**GAMMA / level if level > 1e-4 else 0.0
    return np.rint(255 * (scale * radiance).clip(max=1) ** (1 / GAMMA)).astype(np.uint8)


DATASET = Hypersim
