"""Seven small real scenes with known cameras, and depth where there is some.

Layout: a folder for each scene with ``scene.npz`` (names, K, camera-to-world), ``images/`` and, where there is one,
``depth/`` (16 bit, millimetres).
``real_mini.json`` pins the frames that are scored: one list for each of 2,
4, 8 and 16 views, or for as many as there are. They are evenly spaced, over all frames but for ``tum_fr1_rpy``, whose
camera turns away and back: there they come from a stretch in which every view shares much of what it shows with another
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles, assemble, folders
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_image
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.benchmark.base import BenchDataset, FrameRule, Fusion
from depth_anything_3.geometry.stored_poses import invert_rigid

_CAMERAS = ("pose", "odometry", "speed")
_DEPTH = ("recon_unposed", "recon_posed", "mono", "metric", "robustness")


@dataclass(frozen=True, kw_only=True)
class RealScene:
    """What the note beside a scene says about using it.

    Attributes:
        slices: groups that the scene is reported in.
        half: to add to the principal point, where the top-left pixel's centre counts as (0, 0).
        depth_range: depth outside of it is noise.
    """

    slices: tuple[str, ...]
    half: float = 0.0
    depth_range: tuple[float, float] = (0.0, np.inf)


REAL_SCENES: dict[str, RealScene] = {
    "alicevision_buddha13": RealScene(slices=("real", "object", "cameras only")),
    # Its lens has some radial distortion, which is left in.
    "lund_door12": RealScene(slices=("real", "outdoor", "cameras only")),
    # The right depth map is empty: it would only be a derived one.
    "middlebury_motorcycle": RealScene(slices=("real", "indoor")),
    # Five frames of the sequence below, with other depth and poses: not an independent scene.
    "open3d_redwood5": RealScene(slices=("rendered", "indoor"), half=0.5),
    "princeton_box50": RealScene(slices=("real", "object"), depth_range=(0.2, 0.8)),
    "redwood_livingroom1_micro": RealScene(slices=("rendered", "indoor"), half=0.5),
    "tum_fr1_rpy": RealScene(slices=("real", "indoor", "rotation"), half=0.5),
}
"""The scenes by folder name."""


def frame_lists() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Names of the pinned frames by scene: one list per number of views, in ascending order."""
    text = resources.files("depth_anything_3.datasets.benchmark").joinpath("real_mini.json").read_text(encoding="utf-8")
    return {scene: tuple(tuple(frames) for frames in lists) for scene, lists in json.loads(text).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene(SceneFiles):
    facts: RealScene
    intrinsics: Float[np.ndarray, "n 3 3"]
    world_from_camera: Float[np.ndarray, "n 4 4"]


class RealMini(FolderDataset[_Scene], BenchDataset):
    """The seven scenes (``real_mini/tum_fr1_rpy``); those of the folder that are known."""

    name = "real_mini"
    title = "real mini"
    modes = (*_CAMERAS, *_DEPTH)
    metric = True
    real = True
    layout = "folders named " + ", ".join(REAL_SCENES) + ", each with scene.npz and images/"
    max_frames = 8
    ordered = True
    fusion = Fusion(voxel=0.01, truncation=0.04, max_depth=10.0, threshold=0.02)
    fusion_unit = "median depth"

    def scenes_for(self, mode: str) -> tuple[str, ...]:
        """Two scenes have cameras alone, and the unit of these is not the metre."""
        known = super().scenes_for(mode)
        return tuple(s for s in known if mode in _CAMERAS or "cameras only" not in self._facts(s).slices)

    def select(self, scene: str, rule: FrameRule = "released", max_frames: int | None = None) -> tuple[str, ...]:
        """The longest pinned list within ``max_frames``, 8 by default; 0 takes the longest."""
        super().select(scene, rule, max_frames)  # checks the arguments
        limit = self.max_frames if max_frames is None else max_frames
        lists = [frames for frames in frame_lists()[scene.split("/")[-1]] if len(frames) <= (limit or len(frames))]
        return max(lists, key=len) if lists else frame_lists()[scene.split("/")[-1]][0][: limit or None]

    def _facts(self, scene: str) -> RealScene:
        return REAL_SCENES[scene.split("/")[-1]]

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=3):
            if folder.name in REAL_SCENES and "scene.npz" in files:
                inner.clear()
                yield folder.name, folder

    def _open(self, scene: str, place: Path) -> _Scene:
        file = place / "scene.npz"
        with damage_in(file), np.load(file, allow_pickle=False) as data:
            names, intrinsics, c2w = (data[key] for key in ("names", "K", "c2w"))
        facts = self._facts(scene)
        intrinsics = intrinsics.astype(np.float64)
        intrinsics[:, :2, 2] += facts.half
        frames = tuple(str(name) for name in names)
        return _Scene(place=place, frames=frames, facts=facts, intrinsics=intrinsics, world_from_camera=c2w)

    def _camera(self, files: _Scene, index: int) -> CameraOfFrame:
        return files.intrinsics[index], invert_rigid(files.world_from_camera[index].astype(np.float64))

    def _view(
        self,
        files: _Scene,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        # Names may hold a dot, so that `with_suffix` would cut them.
        found = [p for p in (files.place / "images" / f"{frame}{end}" for end in (".png", ".jpg")) if p.is_file()]
        if not found:
            raise CorruptSample(files.place, f"without an image {frame}: images/NAME.png or images/NAME.jpg")
        return assemble(read_image(found[0]), _depth(files, frame), intrinsics=intrinsics, extrinsics=extrinsics)


def _depth(files: _Scene, frame: str) -> tuple[Path, Float32[np.ndarray, "h w"]] | None:
    """Metres; 0 where there is no depth. None for scenes without any."""
    if not (files.place / "depth").is_dir():
        return None
    file = files.place / "depth" / f"{frame}.png"
    if not file.is_file():
        raise CorruptSample(files.place, f"without a depth map {frame}: depth/NAME.png for every image")
    metres = read_grey_16(file).astype(np.float32) / np.float32(1000)
    low, high = files.facts.depth_range
    return file, np.where((metres >= low) & (metres <= high), metres, np.float32(0))


DATASET = RealMini
