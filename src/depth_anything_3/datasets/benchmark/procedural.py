"""The held-out scenes of the procedural world: exact truth for every mode, and nothing to download."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from depth_anything_3.datasets.base import SceneCameras, View
from depth_anything_3.datasets.benchmark.base import BenchDataset, Fusion, NovelViews
from depth_anything_3.errors import InputError
from depth_anything_3.synth.held_out import VIEWS, HeldOutScene, held_out, render_held_out
from depth_anything_3.synth.sample import Sample

_PIXELS = ("pose", "recon_unposed", "recon_posed", "mono", "metric", "odometry", "robustness", "speed")


class ProceduralHeldOut(BenchDataset):
    """200 scenes of eight views that no training may use (``procedural/held_out_000``)."""

    name = "procedural"
    title = "procedural, held out"
    modes = (*_PIXELS, "nvs")
    metric = True
    real = False
    made = True
    ordered = True
    # In multiples of the median depth: scenes reach from a table to a street.
    fusion = Fusion(voxel=0.01, truncation=0.04, max_depth=10.0, threshold=0.02)
    fusion_unit = "median depth"
    novel_views = NovelViews(context=4, angle_deg=10.0)

    def __init__(self) -> None:
        self._specs: dict[str, HeldOutScene] = {f"{self.name}/{spec.name}": spec for spec in held_out()}
        self._rendered = lru_cache(2)(lambda scene: render_held_out(self._spec(scene)))

    def scenes(self) -> tuple[str, ...]:
        """``procedural/held_out_000`` and so on."""
        return tuple(self._specs)

    def frames(self, scene: str) -> tuple[str, ...]:
        """The numbers of the views."""
        self._spec(scene)
        return tuple(str(i) for i in range(VIEWS))

    def cameras(self, scene: str) -> SceneCameras:
        """Cameras as they are written down; nothing is rendered."""
        cameras = self._spec(scene).cameras
        return SceneCameras(
            intrinsics=np.asarray(cameras.intrinsics, np.float32), extrinsics=np.asarray(cameras.extrinsics, np.float32)
        )

    def median_depth(self, scene: str) -> float:
        """As it is written down."""
        return self._spec(scene).stats.median_depth

    def load(self, scene: str, frame: str) -> View:
        """One view; the whole scene is rendered when the first one is asked for."""
        if frame not in self.frames(scene):
            raise InputError("frame", repr(frame), "a frame of this scene", self.frames(scene))
        sample, i = self._rendered(scene), int(frame)
        depth = np.asarray(sample.depth[i], np.float32)
        return View(
            image=_bytes(sample, i),
            intrinsics=np.asarray(sample.intrinsics[i], np.float32),
            extrinsics=np.asarray(sample.extrinsics[i], np.float32),
            depth=np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32),
            sky=np.asarray(sample.sky[i], bool),
        )

    def _spec(self, scene: str) -> HeldOutScene:
        if scene not in self._specs:
            raise InputError("scene", repr(scene), f"one of {len(self._specs)} scenes", list(self._specs)[:3])
        return self._specs[scene]


def _bytes(sample: Sample, view: int) -> Any:
    picture = np.asarray(sample.rgb[view])
    if picture.dtype == np.uint8:
        return picture
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


DATASET = ProceduralHeldOut
