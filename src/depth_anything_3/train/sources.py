"""Data sets of :mod:`depth_anything_3.datasets` as sources of training samples."""

from __future__ import annotations

import fnmatch
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from depth_anything_3.datasets.base import DATASETS, CorruptSample, Dataset, View
from depth_anything_3.datasets.benchmark.scannetpp import SCENES as SCANNETPP_SCENES
from depth_anything_3.datasets.procedural import shared_surface
from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.train.augment import Pictures

BENCHMARK_SCENES: tuple[str, ...] = (
    "procedural/1?????????",  # the held-out set; sources of the procedural world check their seeds themselves
    "hiroom/*",
    "eth3d/*",
    "7scenes/*",
    "dtu/*",
    *(f"scannetpp/{scene}*" for scene in SCANNETPP_SCENES),
    "tanks_and_temples/*",
    "megadepth/500[0-9]/*",
    "megadepth/501[0-8]/*",
    "megadepth_dense/500[0-9]/*",
    "megadepth_dense/501[0-8]/*",
    "rgbd_folder/princeton_box50*",
    "rgbd_folder/redwood_livingroom1*",
    "rgbd_folder/open3d_redwood5*",
    "rgbd_folder/tum_fr1_rpy*",
    "rgbd_folder/middlebury_motorcycle*",
    "rgbd_folder/lund_door12*",
    "rgbd_folder/alicevision_buddha13*",
)
"""Patterns of the ids of scenes on which results are reported; training on one is an error."""

_NEIGHBOURS = 48  # frames around the first one that a sample's other views are looked for among
_GRID = (24, 32)
_ATTEMPTS = 20


def refuse_benchmark_scenes(scenes: tuple[str, ...]) -> None:
    """Raise unless no scene is on the benchmark list.

    Raises:
        InputError: names the scenes that are.
    """
    found = [s for s in scenes if any(fnmatch.fnmatch(s, pattern) for pattern in BENCHMARK_SCENES)]
    if found:
        raise InputError("sources", f"scenes that results are reported on: {', '.join(found[:5])}", "other scenes")


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """Scenes of a data set on disk.

    Attributes:
        dataset: its name in :data:`depth_anything_3.datasets.base.DATASETS`.
        root: where it lies.
        single: take single views only, for data without poses.
    """

    dataset: str
    root: Path
    single: bool = False
    skipped: Counter[str] = field(default_factory=Counter, init=False, compare=False)

    @property
    def metric(self) -> bool:
        """Whether its depth is in metres."""
        return self._opened.metric

    @property
    def _opened(self) -> Dataset:
        return _open(self.dataset, self.root)

    def check(self) -> None:
        """Raise unless there are scenes, and none of them is one that results are reported on.

        Raises:
            InputError: no scene, or a benchmark scene.
        """
        scenes = self._opened.scenes()
        if not scenes:
            raise InputError("sources", f"{self.root} without a scene", f"the layout of {self.dataset}")
        refuse_benchmark_scenes(scenes)

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """Views of a random scene. Damaged files are passed over and counted in ``skipped``.

        Raises:
            DA3Error: twenty samples in a row were damaged.
        """
        dataset = self._opened
        scenes = dataset.scenes()
        for _ in range(_ATTEMPTS):
            scene = scenes[int(rng.integers(len(scenes)))]
            try:
                return scene, _stacked(self._views(dataset, scene, rng, views, overlap))
            except CorruptSample as error:
                self.skipped[str(error)] += 1
        raise DA3Error(f"{self.root}: {_ATTEMPTS} damaged samples in a row, the last: {next(reversed(self.skipped))}")

    def _views(
        self, dataset: Dataset, scene: str, rng: np.random.Generator, views: int, overlap: tuple[float, float]
    ) -> list[View]:
        from depth_anything_3.train.data import choose_views

        frames = dataset.frames(scene)
        first = int(rng.integers(len(frames)))
        anchor = dataset.load(scene, frames[first])
        if views == 1 or self.single:
            return [anchor] * views
        cameras = dataset.cameras(scene)
        if cameras.extrinsics is None or len(frames) < views:
            raise CorruptSample(self.root / scene, f"no poses, or fewer than {views} frames")
        near = np.argsort(np.abs(np.arange(len(frames)) - first), kind="stable")[:_NEIGHBOURS]
        usable = near[np.isfinite(cameras.extrinsics[near]).all((1, 2))]
        shared = frustum_overlap(anchor, cameras.intrinsics[usable], cameras.extrinsics[usable])
        chosen = choose_views(shared, views, rng, overlap, first=0 if usable[0] == first else None)
        return [dataset.load(scene, frames[int(usable[i])]) for i in chosen]


def frustum_overlap(anchor: View, intrinsics: np.ndarray, extrinsics: np.ndarray) -> np.ndarray:
    """How much the cameras would share if everything were as far away as what the anchor sees: (F, F).

    Args:
        anchor: a view with depth; without any, a unit distance is taken.
        intrinsics, extrinsics: of F cameras of the anchor's image size.
    """
    height, width = anchor.image.shape[:2]
    known = anchor.depth[anchor.depth > 0] if anchor.depth is not None else np.zeros(0)
    distance = float(np.median(known)) if len(known) else 1.0
    scale = np.array([_GRID[1] / width, _GRID[0] / height, 1.0], dtype=np.float32)
    flat = np.full((len(intrinsics), *_GRID), distance, dtype=np.float32)
    return shared_surface(flat, intrinsics * scale[:, None], extrinsics, stride=2, tolerance=1.0)


def _stacked(views: list[View]) -> Pictures:
    size = views[0].image.shape
    for view in views:
        if view.image.shape != size or view.depth is None:
            raise CorruptSample("a sample", "pictures of different sizes, or without depth")
    identity = np.eye(3, 4, dtype=np.float32)
    return Pictures(
        images=np.stack([v.image for v in views]),
        depth=np.stack([v.depth for v in views if v.depth is not None]),
        sky=np.stack([_nothing_there(v) for v in views]),
        intrinsics=np.stack([v.intrinsics for v in views]),
        extrinsics=np.stack([identity if v.extrinsics is None else v.extrinsics for v in views]),
        sky_known=all(v.sky is not None or v.mask is not None for v in views),
        objects=all(v.mask is not None for v in views),
    )


def _nothing_there(view: View) -> np.ndarray:
    """Sky, or what is around a single object: open: the paper has masks of both; one output has to do."""
    if view.mask is not None:
        return ~view.mask
    return np.zeros(view.image.shape[:2], dtype=bool) if view.sky is None else view.sky


@lru_cache
def _open(dataset: str, root: Path) -> Dataset:
    return DATASETS[dataset](root)  # type: ignore[call-arg]
