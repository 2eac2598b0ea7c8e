"""What every data set for scoring gives on top of :class:`~depth_anything_3.datasets.base.Dataset`, and all by name.

Here lie facts of the data sets: where depth can be trusted, which part of the picture is scored, the true surface, how
the published evaluation fuses depth, which frames it takes. What is made of them is decided in ``bench``.

Every module of this package whose name has no leading underscore, except this one, is one data set: its name is the
name of the data set, and it defines ``DATASET``, a subclass of :class:`BenchDataset`. Other packages add data sets
through the entry-point group ``depth_anything_3.bench_dataset``.
"""

from __future__ import annotations

import pkgutil
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from depth_anything_3.datasets.base import Dataset
from depth_anything_3.errors import InputError
from depth_anything_3.registry import Registry

FrameRule = Literal["released", "paper"]
"""Which frames of a long scene are taken: as the released evaluation code does, or as the paper's text says."""

FRAME_RULES: tuple[str, ...] = get_args(FrameRule)

_SHUFFLE_SEED = 42
_EXACT = 1e-6  # of a pixel: shares that stand for whole pixels must not fall below them


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How depth maps become a cloud, and when a point is right; lengths in the unit of the data set.

    Attributes:
        voxel: side of the voxels of the volume, and of the cubes that clouds are thinned out with.
        truncation: of the signed distance.
        max_depth: depth beyond is not fused.
        threshold: distance below which a point is right.
        margin: predicted points farther than this outside the box around the true points are dropped; None keeps all.
    """

    voxel: float
    truncation: float
    max_depth: float
    threshold: float
    margin: float | None = None

    def scaled(self, factor: float) -> Fusion:
        """The same in another unit, or relative to a length."""
        return Fusion(
            voxel=self.voxel * factor,
            truncation=self.truncation * factor,
            max_depth=self.max_depth * factor,
            threshold=self.threshold * factor,
            margin=None if self.margin is None else self.margin * factor,
        )


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The part of a picture that is scored, as shares of its height and width; rows and columns are rounded down.

    Attributes:
        rows: first, and the one after the last.
        columns: first, and the one after the last.
    """

    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)

    def mask(self, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """True inside."""
        inside = np.zeros((height, width), np.bool_)
        rows = slice(*(int(end * height + _EXACT) for end in self.rows))
        columns = slice(*(int(end * width + _EXACT) for end in self.columns))
        inside[rows, columns] = True
        return inside


@dataclass(frozen=True, kw_only=True)
class NovelViews:
    """Which views of a scene are seen, and which pictures are asked for.

    Attributes:
        context: how many views are seen, by farthest-point sampling; fewer where there are not so many.
        every: every so manieth view is a target, and none of the others; None where the angle decides.
        angle_deg: without ``every``, targets are all views that see the scene at least so far off every context view;
            see :func:`depth_anything_3.bench.novel_views.view_angle_deg`.
        size: height and width to which pictures are scaled and cut at the centre; None leaves them.
    """

    context: int
    every: int | None = None
    angle_deg: float = 0.0
    size: tuple[int, int] | None = None


PUBLISHED_NOVEL_VIEWS = NovelViews(context=12, every=8, size=(270, 480))
"""Of sets of photographs (paper, section 6.3)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """The true surface of a scene.

    Attributes:
        points: vertices of a mesh, or a cloud; in the world of the cameras.
        faces: triangles by their corners; None for a cloud.
    """

    points: Float64[np.ndarray, "p 3"]
    faces: Int64[np.ndarray, "t 3"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedVolume:
    """Where a scanner saw: what DTU restricts its scores to. Lengths in the unit of the points.

    Attributes:
        mask: voxels that were seen.
        low, high: corners of the box around the mask.
        resolution: side of a voxel.
        plane: (a, b, c, d): true points count where a x + b y + c z + d is positive.
    """

    mask: Bool[np.ndarray, "x y z"]
    low: Float64[np.ndarray, " 3"]
    high: Float64[np.ndarray, " 3"]
    resolution: float
    plane: Float64[np.ndarray, " 4"]


class BenchDataset(Dataset):
    """A data set that methods are scored on.

    Attributes:
        title: as in tables.
        modes: names of the benchmark modes that it has the truth for.
        fusion: see :class:`Fusion`; None where nothing is published.
        fusion_unit: whether the lengths in ``fusion`` are in the data set's unit, or multiples of the median depth.
        depth_range: where depth is scored: above the first number, up to the second.
        crop: the part of each picture where depth is scored.
        novel_views: how views are split for pictures of unseen ones; None where there is no rule.
        max_frames: of a scene, by default; None takes all.
        paper_stride: every so manieth frame is taken by the rule ``"paper"``; None where the paper names none.
        ordered: frames of a long scene are taken at even distances instead of at random.
        made: whether it is made when it is needed, so that it has no folder.
    """

    title: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    fusion: ClassVar[Fusion | None] = None
    fusion_unit: ClassVar[Literal["data set", "median depth"]] = "data set"
    depth_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    crop: ClassVar[Crop] = Crop()
    novel_views: ClassVar[NovelViews | None] = None
    max_frames: ClassVar[int | None] = 100
    paper_stride: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False
    made: ClassVar[bool] = False

    def scenes_for(self, mode: str) -> tuple[str, ...]:
        """Scenes that have the truth for a mode; all of them unless a data set says otherwise."""
        return self.scenes() if mode in self.modes else ()

    def surface(self, scene: str) -> Surface | None:
        """The true surface; None where only the depth maps are known.

        Raises:
            CorruptSample: its file is damaged or missing.
        """
        return None

    def median_depth(self, scene: str) -> float | None:
        """Median depth of a scene, where it is known without looking at its pictures; rules for novel views need it."""
        return None

    def observed(self, scene: str) -> ObservedVolume | None:
        """Where the truth was measured; None where a data set does not say.

        Raises:
            CorruptSample: a file is damaged or missing.
        """
        return None

    def select(self, scene: str, rule: FrameRule = "released", max_frames: int | None = None) -> tuple[str, ...]:
        """The frames that are scored, in the order of :meth:`frames`.

        The released code shuffles the numbers of the frames with Python's generator and the seed 42, keeps the first
        ones and sorts them, so that the choice depends on their number alone. The paper speaks of every n-th frame.

        Args:
            scene: its id.
            rule: see :data:`FrameRule`; without effect where the paper names no distance.
            max_frames: how many at most; None for the data set's own number, 0 for all.

        Raises:
            InputError: an unknown rule, or a negative number.
        """
        if rule not in FRAME_RULES:
            raise InputError("rule", repr(rule), "a rule for the frames of long scenes", FRAME_RULES)
        limit = self.max_frames if max_frames is None else max_frames or None
        if limit is not None and limit < 0:
            raise InputError("max_frames", repr(limit), "0 for all frames, or how many at most")
        frames = self.frames(scene)
        if rule == "paper" and self.paper_stride is not None:
            frames = frames[:: self.paper_stride]
        if limit is None or len(frames) <= limit:
            return frames
        return tuple(frames[i] for i in (_evenly if self.ordered else shuffled)(len(frames), limit))


def shuffled(count: int, wanted: int) -> list[int]:
    """Ascending numbers that the released evaluation keeps of ``count`` frames."""
    order = list(range(count))
    random.Random(_SHUFFLE_SEED).shuffle(order)
    return sorted(order[:wanted])


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(i) for i in np.rint(np.linspace(0, count - 1, wanted))]


@dataclass(frozen=True, kw_only=True)
class Archives:
    """Published archives of data sets: where they are, and which file holds which data set.

    Attributes:
        hub_id: repository of data sets.
        files: name of the archive by name of the data set.
    """

    hub_id: str
    files: Mapping[str, str] = field(default_factory=dict)


PUBLISHED_ARCHIVES = Archives(
    hub_id="depth-anything/DA3-BENCH",
    files={
        "hiroom": "hiroom.zip",
        "eth3d": "eth3d.zip",
        "dtu49": "dtu.zip",
        "dtu64": "dtu64.zip",
        "seven_scenes": "7scenes.zip",
        "scannetpp": "scannetpp.zip",
    },
)
"""The data sets of the paper's visual-geometry benchmark as its authors publish them."""


def open_dataset(name: str, root: str | Path | None) -> BenchDataset:
    """A data set by name.

    Args:
        name: in :data:`BENCH_DATASETS`.
        root: the folder of the data set, or one above it; without effect on data sets that are made, not read.

    Raises:
        UnknownNameError: there is no such data set.
        InputError: the folder is missing, or holds nothing in the layout.
    """
    kind = BENCH_DATASETS[name]
    if kind.made:
        return kind()
    if root is None:
        raise InputError("root", "none", f"the folder that holds the data set {name}")
    return kind(root)  # type: ignore[call-arg]


def sorted_scenes(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Those of the known scenes whose id, or its end, is among the names; all where there is no name.

    Raises:
        InputError: a name fits no scene.
    """
    if not names:
        return tuple(known)
    found = {name: [scene for scene in known if scene == name or scene.endswith(f"/{name}")] for name in names}
    for name, scenes in found.items():
        if not scenes:
            raise InputError("scenes", repr(name), "the id of a scene or its last parts", known[:8])
    wanted = {scene for scenes in found.values() for scene in scenes}
    return tuple(scene for scene in known if scene in wanted)


def _find_datasets() -> Registry[type[BenchDataset]]:
    registry: Registry[type[BenchDataset]] = Registry("bench_dataset")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "base" and not module.name.startswith("_"):
            registry.register_lazy(module.name, f"{__package__}.{module.name}:DATASET")
    return registry


BENCH_DATASETS: Registry[type[BenchDataset]] = _find_datasets()
"""Data sets for scoring by name, imported when first asked for."""
