"""One scene before one predictor: what the modes see of both.

A mode asks for views, cameras and predictions here. Predictions are looked up in the cache first and kept there, apart
from their evaluation, so that metrics can change without a network running again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.cache import PredictionCache, digest
from depth_anything_3.bench.evaluate import Estimate, Floats
from depth_anything_3.datasets.base import View
from depth_anything_3.datasets.benchmark.base import FRAME_RULES, BenchDataset, FrameRule, Surface
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.types.options import check_choice

Images = list[npt.NDArray[np.uint8]]
Disturb = Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What changes the numbers of a run, whatever the model.

    Attributes:
        frames: which frames of long scenes are taken.
        max_frames: of a scene; None for the data set's own number, 0 for all.
        longest_side: larger pictures are scaled down to it before anyone sees them, and the true depth with them; 0
            leaves them as they are.
        seed: of what is drawn at random: points on surfaces, noise in pictures.
        surface_points: points that are sampled on a mesh.
    """

    frames: FrameRule = "released"
    max_frames: int | None = None
    longest_side: int = 2048
    seed: int = 42
    surface_points: int = 1_000_000

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, FRAME_RULES)
        for name, least in (("longest_side", 0), ("seed", 0), ("surface_points", 1)):
            if getattr(self, name) < least:
                raise InputError(name, repr(getattr(self, name)), f"at least {least}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Views that pictures are asked for, and only the cameras given.

    Attributes:
        frames: their names.
        extrinsics: (M, 3, 4) world-to-camera.
        intrinsics: (M, 3, 3) in pixels of the pictures.
        size: height and width of the pictures.
    """

    frames: tuple[str, ...]
    extrinsics: Floats
    intrinsics: Floats
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What a predictor is asked.

    Attributes:
        dataset: name of the data set.
        scene: id of the scene.
        frames: names of the frames that are asked for.
        scored: names of all frames of the scene that are scored.
        images: gives the N pictures; whoever does not need them does not load them.
        truth: gives all that is known of the frames, and then of the targets: for references that show what a score
            means, and for no one else.
        extrinsics: (N, 3, 4) world-to-camera where cameras are given, or None.
        intrinsics: (N, 3, 3) in pixels of the pictures where they are given, or None.
        targets: views that pictures are asked for, instead of depth and poses; None in all modes but ``nvs``.
    """

    dataset: str
    scene: str
    frames: tuple[str, ...]
    scored: tuple[str, ...]
    images: Callable[[], Images]
    truth: Callable[[], list[View]]
    extrinsics: Floats | None = None
    intrinsics: Floats | None = None
    targets: Targets | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """A predictor under test.

    Attributes:
        name: in tables.
        identity: of the weights and options; part of the name under which predictions are kept.
        answer: gives the estimate.
        gives: of ``"depth"``, ``"poses"``, ``"pairs"`` (relative poses without a common world) and ``"views"``
            (pictures of unseen views).
        given_cameras: whether it can use given cameras.
        cacheable: whether its predictions are worth keeping.
        licence: of the weights, where there is one.
    """

    name: str
    identity: str
    answer: Callable[[Request], Estimate]
    gives: frozenset[str] = frozenset({"depth", "poses", "pairs"})
    given_cameras: bool = True
    cacheable: bool = True
    licence: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One scene, one predictor.

    Attributes:
        dataset: where the scene is from.
        scene: its id.
        contender: the predictor.
        cache: where predictions are kept.
        options: of the run.
        spent: seconds that predictions took when they were made, without reading pictures; filled as they are asked
            for.
        noted: lists that a mode keeps beside its scores.
    """

    dataset: BenchDataset
    scene: str
    contender: Contender
    cache: PredictionCache
    options: BenchOptions
    spent: list[float] = field(default_factory=list)
    noted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def frames(self) -> tuple[str, ...]:
        """Names of the frames that are scored."""
        return self.dataset.select(self.scene, self.options.frames, self.options.max_frames)

    @cached_property
    def poses(self) -> npt.NDArray[np.float64]:
        """(N, 3, 4) true world-to-camera poses; no picture is read.

        Raises:
            InputError: a pose is not known.
        """
        every = self.dataset.cameras(self.scene)
        index = {frame: i for i, frame in enumerate(self.dataset.frames(self.scene))}
        if every.extrinsics is None:
            raise InputError("scene", f"{self.scene}, which has no poses", "a scene with poses")
        poses = every.extrinsics[[index[frame] for frame in self.frames]].astype(np.float64)
        if not np.isfinite(poses).all():
            raise InputError("scene", f"{self.scene} with damaged poses", "a pose for every frame")
        return poses

    def view(self, index: int, size: tuple[int, int] | None = None) -> View:
        """One frame, not larger than :attr:`BenchOptions.longest_side`, or cut to a size; read anew each time."""
        loaded = self.dataset.load(self.scene, self.frames[index])
        return shrunk(loaded, self.options.longest_side) if size is None else cut(loaded, size)

    def surface(self) -> Surface | None:
        """See :meth:`~depth_anything_3.datasets.benchmark.base.BenchDataset.surface`."""
        return self.dataset.surface(self.scene)

    def predict(
        self,
        views: Sequence[int] | None = None,
        *,
        given_cameras: bool = False,
        given_intrinsics: bool = False,
        disturbed: tuple[str, Disturb] | None = None,
        targets: Sequence[int] = (),
        size: tuple[int, int] | None = None,
        keep: bool = True,
    ) -> Estimate:
        """What the predictor says about some views together.

        Args:
            views: their numbers; None for all.
            given_cameras: hand the true cameras in.
            given_intrinsics: hand the true camera matrices in, without poses.
            disturbed: a name for the cache, and what is done to the picture with a number before it is shown.
            targets: numbers of views that pictures are asked for.
            size: height and width that all pictures are cut to.
            keep: look in the cache, and put the prediction there.

        Raises:
            InputError: the answer is not about as many views as were asked for.
        """
        chosen = range(len(self.frames)) if views is None else views
        frames = tuple(self.frames[i] for i in chosen)
        key = {
            "predictor": self.contender.identity,
            "dataset": self.dataset.name,
            "scene": self.scene,
            "frames": frames,
            "longest_side": self.options.longest_side,
            "given": (given_cameras, given_intrinsics),
            "disturbed": None if disturbed is None else disturbed[0],
        }
        if targets:
            key |= {"targets": tuple(self.frames[i] for i in targets), "size": size}
        keep = keep and self.contender.cacheable
        if keep and (found := self.cache.find(key)) is not None:
            self.spent.append(found[1])
            return found[0]
        reading: list[float] = []
        request = self._request(
            list(chosen), list(targets), size, given_cameras, given_intrinsics, disturbed, reading=reading
        )
        start = perf_counter()
        estimate = self.contender.answer(request)
        self.spent.append(perf_counter() - start - sum(reading))
        _check_count(estimate, len(frames), len(targets))
        if keep:
            self.cache.put(key, estimate, self.spent[-1])
        return estimate

    def _request(
        self,
        chosen: list[int],
        targets: list[int],
        size: tuple[int, int] | None,
        given_cameras: bool,
        given_intrinsics: bool,
        disturbed: tuple[str, Disturb] | None,
        *,
        reading: list[float],
    ) -> Request:
        def images() -> Images:
            start = perf_counter()
            pictures = known or [self.view(i, size).image for i in chosen]
            shown = [p.copy() if disturbed is None else disturbed[1](p, i) for i, p in enumerate(pictures)]
            reading.append(perf_counter() - start)
            return shown

        known, k = [], None
        if given_cameras or given_intrinsics:
            read = [(view.image, view.intrinsics) for view in (self.view(i, size) for i in chosen)]
            known, k = [image for image, _ in read], np.stack([matrix for _, matrix in read])
        return Request(
            dataset=self.dataset.name,
            scene=self.scene,
            frames=tuple(self.frames[i] for i in chosen),
            scored=self.frames,
            images=images,
            truth=lambda: [self.view(i, size) for i in (*chosen, *targets)],
            extrinsics=self.poses[chosen].astype(np.float32) if given_cameras else None,
            intrinsics=k,
            targets=self._targets(targets, size) if targets else None,
        )

    def _targets(self, targets: list[int], size: tuple[int, int] | None) -> Targets:
        views = [self.view(i, size) for i in targets]
        height, width = views[0].image.shape[:2]
        return Targets(
            frames=tuple(self.frames[i] for i in targets),
            extrinsics=self.poses[targets].astype(np.float32),
            intrinsics=np.stack([view.intrinsics for view in views]),
            size=(height, width),
        )

    def identity(self) -> str:
        """Of everything that decides the numbers, but for the code that computes them."""
        return digest(
            {
                "predictor": self.contender.identity,
                "dataset": self.dataset.name,
                "scene": self.scene,
                "frames": self.frames,
                "options": vars(self.options),
            }
        )


def _check_count(estimate: Estimate, views: int, targets: int) -> None:
    if targets and (estimate.pictures is None or len(estimate.pictures) != targets):
        came = "none" if estimate.pictures is None else f"{len(estimate.pictures)}"
        raise InputError("pictures", came, f"{targets}, one per target")
    if not targets and estimate.views != views:
        raise InputError("depth", f"{estimate.views} views", f"{views}, one per image")


def cut(view: View, size: tuple[int, int]) -> View:
    """A view scaled until it covers a height and width, and cut at its centre; without depth and masks."""
    old, new = np.array(view.image.shape[1::-1]), np.array(size[::-1])
    scaled = np.maximum(np.ceil(old * (new / old).max() - 1e-9), new).astype(int)
    image = cv2.resize(view.image, tuple(scaled.tolist()), interpolation=cv2.INTER_AREA)
    left, top = ((scaled - new) // 2).tolist()
    k = view.intrinsics * np.array([*(scaled / old), 1.0])[:, None]
    k[:2, 2] -= [left, top]
    image = np.ascontiguousarray(image[top : top + new[1], left : left + new[0]], np.uint8)
    return View(image=image, intrinsics=k.astype(np.float32), extrinsics=view.extrinsics)


def shrunk(view: View, longest_side: int) -> View:
    """A view that is not larger; maps come from the nearest pixel, intrinsics follow. 0 leaves it as it is."""
    height, width = view.image.shape[:2]
    if not longest_side or max(height, width) <= longest_side:
        return view
    h, w = (max(round(side * longest_side / max(height, width)), 1) for side in (height, width))
    maps: Mapping[str, Any] = {
        name: resized_nearest(value[None], h, w)[0]
        for name in ("depth", "sky", "mask")
        if (value := getattr(view, name)) is not None
    }
    return replace(
        view,
        image=cv2.resize(view.image, (w, h), interpolation=cv2.INTER_AREA),
        intrinsics=(view.intrinsics * np.array([[w / width], [h / height], [1.0]])).astype(np.float32),
        **maps,
    )
