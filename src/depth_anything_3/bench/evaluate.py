"""The protocol "held-out": scenes at 1, 2, 4 and 8 views, with and without given cameras, against the truth.

A run is one predictor on some views of one scene. What is scored:

===================  ===============================================================================================
absrel               mean of \\|p - g\\| / g: of the pixels of a view, then of the views
delta_1.25           part of the pixels with a ratio below 1.25, likewise
pose_auc_5, _15, _30 area under the curve of the larger of rotation and translation error of all pairs of views
rotation_auc_30      the same of the rotation error alone
median_rotation_deg  median rotation error of all pairs, degrees
focal_error          mean relative error of the focal lengths
matching_top1        part of the patches with a counterpart in another view whose best match there is that counterpart
f_score              of the points of all views within 2 % of the median true depth, up to a hundred times that depth
===================  ===============================================================================================

Depth and points come after one scale per scene, the median of true / predicted depth over all views. Without given
cameras the scale holds for the predicted camera positions too, and the worlds are laid over each other by the
orientations of all cameras, so no fit hides an error between depth and cameras. With given cameras the points are
placed by the true ones, and poses and focal lengths, which were handed in, are not scored.

Only pixels with a true depth are scored, so that what is made up elsewhere costs nothing. A pair of views whose
baseline is at most 2 % of the median depth (of the largest baseline, where a scene has no depth) counts by its rotation
alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from multiprocessing import get_context
from time import process_time
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.bench.scenes import EvalScene, evenly_spaced, select_views
from depth_anything_3.errors import Cancelled, InputError
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.metrics.depth import abs_rel, delta, resized_nearest, scale_factor, valid_pixels
from depth_anything_3.metrics.matching import NO_MATCH, top1_accuracy, true_patch_matches
from depth_anything_3.metrics.pose import auc, errors_of_pairs, focal_errors, relative_poses
from depth_anything_3.metrics.predictors import identity_poses
from depth_anything_3.metrics.reconstruction import f_score
from depth_anything_3.metrics.trajectory import align_by_orientations

if TYPE_CHECKING:
    from depth_anything_3.bench.task import Targets

VIEW_COUNTS = (1, 2, 4, 8)

POINT_THRESHOLD = 0.02
"""Distance below which a point is right, as a part of the median true depth."""

_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

MIN_BASELINE = 0.02
"""Baselines up to this part of the median true depth have no direction."""

_FARTHEST = 100  # times the median depth: farther ground, up to the horizon, is left out of the points
_POINTS = 100_000  # points of a cloud, before it is thinned out evenly
_VOXELS_PER_THRESHOLD = 4

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """What a predictor says about N views.

    What is None has no score.

    Attributes:
        depth: (N, h, w) z-depth in any unit. The size may differ from that of the images, which it covers entirely.
            A pixel that is not finite is an error, not left out.
        extrinsics: (N, 3, 4) world-to-camera in the unit of the depth.
        intrinsics: (N, 3, 3) in pixels of ``depth``, of the images where there is no depth.
        conf: (N, h, w). Not scored so far.
        pair_poses: (N (N - 1) / 2, 3, 4) instead of ``extrinsics``, where not all views are in one world: poses of view
            j relative to view i, as from :func:`~depth_anything_3.metrics.pose.relative_poses`. One that was not found
            is NaN, and counts as an error of 180 degrees.
        pictures: (M, H, W, 3) RGB of M other views, where these were asked for.
    """

    depth: Floats | None = None
    extrinsics: Floats | None = None
    intrinsics: Floats | None = None
    conf: Floats | None = None
    patch_matches: npt.NDArray[np.integer] | None = None
    pair_poses: Floats | None = None
    pictures: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.depth is not None and np.ndim(self.depth) != 3:
            raise InputError("depth", f"shape {np.shape(self.depth)}", "shape (N, h, w)")
        if self.extrinsics is not None and self.pair_poses is not None:
            raise InputError("pair_poses", "extrinsics beside it", "one or the other")
        n = self.views
        shapes = {
            "extrinsics": (n, 3, 4),
            "intrinsics": (n, 3, 3),
            "conf": () if self.depth is None else np.shape(self.depth),
            "pair_poses": (n * (n - 1) // 2, 3, 4),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise InputError(name, f"shape {np.shape(value)}", f"shape {shape}")
            if value is not None and name in ("extrinsics", "intrinsics") and not np.isfinite(value).all():
                raise InputError(name, "values that are not finite", "finite values")

    @property
    def views(self) -> int:
        """How many views it is about."""
        for value in (self.depth, self.extrinsics, self.intrinsics):
            if value is not None:
                return len(value)
        pairs = 0 if self.pair_poses is None else len(self.pair_poses)
        return round((1 + np.sqrt(1 + 8 * pairs)) / 2)


class Predictor(Protocol):
    """Anything that can be called like this."""

    def __call__(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats | None, intrinsics: Floats | None
    ) -> Estimate:
        """Say what N views show.

        Args:
            images: (H, W, 3) RGB.
            extrinsics: (N, 3, 4) float32 world-to-camera, or None where cameras are not given.
            intrinsics: (N, 3, 3) float32 in pixels of the images, or None; both or neither are given.
        """
        ...


class ViewPredictor(Predictor, Protocol):
    """A predictor that also makes pictures of unseen views; it says so by ``"views"`` among its ``gives``."""

    def novel_views(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats, intrinsics: Floats, targets: Targets
    ) -> npt.NDArray[np.uint8]:
        """(M, H, W, 3) RGB from the cameras of the targets; the other arguments as in :class:`Predictor`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """One predictor on some views of one scene.

    Attributes:
        predictor: its name.
        scene: the scene's name.
        slices: the scene's slices.
        views: how many views were shown.
        given_cameras: whether the predictor got the true cameras.
        scores: by the names of the module's table; what the scene or the predictor cannot give is absent.
        error: why there are no scores, or None.
        seconds: of processor time that the predictor took, all threads together.
    """

    predictor: str
    scene: str
    slices: tuple[str, ...]
    views: int
    given_cameras: bool
    scores: Mapping[str, float]
    error: str | None = None
    seconds: float = 0.0


def evaluate(
    predictors: Mapping[str, Predictor],
    scenes: Iterable[EvalScene],
    *,
    view_counts: Sequence[int] = VIEW_COUNTS,
    given_cameras: Sequence[bool] = (False, True),
    on_run: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Run every predictor on every scene. A predictor that fails on one gets a run with its error; the rest goes on.

    Args:
        predictors: by name.
        scenes: taken one at a time, so a generator keeps only one in memory.
        view_counts: numbers of views; those that a scene does not have are left out for it.
        given_cameras: which of both modes to run. Scenes without depth have nothing to score with given cameras.
        on_run: called after each run.

    Raises:
        InputError: two scenes have one name, or a number of views is below 1.
    """
    _check_counts(view_counts)
    runs: list[Run] = []
    seen: set[str] = set()
    for scene in scenes:
        _check_new(scene, seen)
        for run in runs_of_scene(predictors, scene, view_counts=view_counts, given_cameras=given_cameras):
            runs.append(run)
            if on_run is not None:
                on_run(run)
    return runs


def evaluate_in_parallel(
    make_predictors: Callable[[], Mapping[str, Predictor]],
    scenes: Iterable[EvalScene],
    *,
    workers: int,
    view_counts: Sequence[int] = VIEW_COUNTS,
    given_cameras: Sequence[bool] = (False, True),
    on_run: Callable[[Run], None] | None = None,
) -> list[Run]:
    """As :func:`evaluate`, with the scenes shared out among processes of one thread each; the runs keep their order.

    Args:
        make_predictors: called once in every process; has to be picklable.
        scenes, view_counts, given_cameras, on_run: as there.
        workers: processes.

    Raises:
        InputError: as there, or fewer than one worker.
    """
    _check_counts(view_counts)
    seen: set[str] = set()

    def checked() -> Iterator[EvalScene]:
        for scene in scenes:
            _check_new(scene, seen)
            yield scene

    work = partial(runs_of_scene, view_counts=tuple(view_counts), given_cameras=tuple(given_cameras))
    return run_in_processes(make_predictors, checked(), work, workers=workers, on_run=on_run)


def run_in_processes(
    make_predictors: Callable[[], Mapping[str, Predictor]],
    scenes: Iterable[EvalScene],
    work: Callable[[Mapping[str, Predictor], EvalScene], Iterator[Run]],
    *,
    workers: int,
    on_run: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Runs of scenes that are shared out among processes of one thread each, in the order of the scenes.

    Args:
        make_predictors: called once in every process; has to be picklable.
        scenes: taken as they are needed.
        work: the runs of one scene; has to be picklable.
        workers: processes.
        on_run: called after each run.

    Raises:
        InputError: fewer than one worker.
    """
    if workers < 1:
        raise InputError("workers", repr(workers), "at least 1")
    runs: list[Run] = []
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (make_predictors,))
    with _one_thread_in_new_processes(), pool:
        waiting: deque[Future[list[Run]]] = deque()
        for scene in scenes:
            waiting.append(pool.submit(_work, work, scene))
            if len(waiting) > 2 * workers:  # no more scenes in memory than are soon worked on
                runs += _told(waiting.popleft().result(), on_run)
        for future in waiting:
            runs += _told(future.result(), on_run)
    return runs


@contextmanager
def _one_thread_in_new_processes() -> Iterator[None]:
    """numpy's library asks the environment when it is loaded, and cannot be told later."""
    before = {name: os.environ.get(name) for name in _BLAS_THREADS}
    os.environ.update(dict.fromkeys(_BLAS_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_worker: dict[str, Mapping[str, Predictor]] = {}


def _start_worker(make_predictors: Callable[[], Mapping[str, Predictor]]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker["predictors"] = make_predictors()


def _work(work: Callable[[Mapping[str, Predictor], EvalScene], Iterator[Run]], scene: EvalScene) -> list[Run]:
    return list(work(_worker["predictors"], scene))


def _told(runs: list[Run], on_run: Callable[[Run], None] | None) -> list[Run]:
    if on_run is not None:
        for run in runs:
            on_run(run)
    return runs


def runs_of_scene(
    predictors: Mapping[str, Predictor],
    scene: EvalScene,
    *,
    view_counts: Sequence[int],
    given_cameras: Sequence[bool],
) -> Iterator[Run]:
    """All runs of :func:`evaluate` on one scene, as they come; arguments as there."""
    for count in (c for c in view_counts if c <= len(scene.images)):
        shown = select_views(scene, evenly_spaced(len(scene.images), count))
        yield from runs_of_views(predictors, shown, given_cameras=given_cameras)


def runs_of_views(
    predictors: Mapping[str, Predictor], shown: EvalScene, *, given_cameras: Sequence[bool] = (False, True)
) -> Iterator[Run]:
    """All runs of :func:`evaluate` on the views of a scene together, as they come.

    A predictor with ``given_cameras = False`` among its attributes is not run with given cameras.
    """
    for given in (g for g in given_cameras if shown.has_depth or not g):
        for name, predictor in predictors.items():
            if not given or getattr(predictor, "given_cameras", True):
                yield run_once(name, predictor, shown, given_cameras=given)


def _check_counts(view_counts: Sequence[int]) -> None:
    if any(count < 1 for count in view_counts):
        raise InputError("view_counts", repr(tuple(view_counts)), "numbers from 1")


def _check_new(scene: EvalScene, seen: set[str]) -> None:
    if scene.name in seen:
        raise InputError("scenes", f"two scenes named {scene.name!r}", "different names")
    seen.add(scene.name)


def run_once(name: str, predictor: Predictor, scene: EvalScene, *, given_cameras: bool) -> Run:
    """One predictor on all views of a scene; what it raises ends up in the run.

    Args:
        name: of the predictor.
        predictor: gets copies, so that it cannot change the truth.
        scene: with the views to show and no others.
        given_cameras: whether to hand the true cameras in.

    Raises:
        Cancelled: the predictor says that the caller asked it to stop.
    """
    scores: dict[str, float] = {}
    error: str | None = None
    seconds, start = 0.0, process_time()
    try:
        estimate = predictor(
            [image.copy() for image in scene.images],
            extrinsics=scene.extrinsics.astype(np.float32) if given_cameras else None,
            intrinsics=scene.intrinsics.astype(np.float32) if given_cameras else None,
        )
        seconds = process_time() - start
        scores = score(estimate, scene, given_cameras=given_cameras)
    except Cancelled:
        raise
    except Exception as failure:  # a foreign program: one scene must not end the evaluation of the others
        error = f"{type(failure).__name__}: {failure}"
    return Run(
        predictor=name,
        scene=scene.name,
        slices=scene.slices,
        views=len(scene.images),
        given_cameras=given_cameras,
        scores=scores,
        error=error,
        seconds=seconds,
    )


def score(estimate: Estimate, scene: EvalScene, *, given_cameras: bool) -> dict[str, float]:
    """The scores of the module's table, as far as scene and estimate have what they need.

    Raises:
        InputError: the numbers of views differ, or no predicted pixel can be compared with the truth.
    """
    n, height, width = scene.depth.shape
    if estimate.views != n:
        raise InputError("depth", f"{estimate.views} views", f"{n}, one per image")
    intrinsics = _at_size(estimate, height, width)
    scores: dict[str, float] = {}
    if not given_cameras:
        scores |= _camera_scores(estimate, intrinsics, scene)
    if estimate.depth is None or not scene.has_depth:
        return scores
    if estimate.patch_matches is not None and not given_cameras:
        scores |= _matching_scores(estimate.patch_matches, estimate.depth.shape[1:], scene)
    predicted = resized_nearest(np.asarray(estimate.depth, np.float64), height, width)
    scale = scale_factor(predicted, scene.depth)
    scores |= _depth_scores(predicted * scale, scene.depth)
    extrinsics = identity_poses(1) if estimate.extrinsics is None and n == 1 else estimate.extrinsics
    if given_cameras:
        points = unproject(predicted * scale, scene.intrinsics, scene.extrinsics)
        scores["f_score"] = _f_score(points, scene)
    elif extrinsics is not None and intrinsics is not None:
        world = align_by_orientations(extrinsics, scene.extrinsics, scale=scale)
        points = unproject(predicted, intrinsics, np.asarray(extrinsics, np.float64))
        scores["f_score"] = _f_score(world.on_points(points), scene)
    return scores


def _at_size(estimate: Estimate, height: int, width: int) -> npt.NDArray[np.float64] | None:
    if estimate.intrinsics is None or estimate.depth is None:
        return None if estimate.intrinsics is None else np.asarray(estimate.intrinsics, np.float64)
    h, w = estimate.depth.shape[1:]
    scaled: npt.NDArray[np.float64] = estimate.intrinsics * np.array([[width / w], [height / h], [1.0]])
    return scaled


def _depth_scores(predicted: Floats, true: Floats) -> dict[str, float]:
    views = [(p, g) for p, g in zip(predicted, true, strict=True) if valid_pixels(g).any()]
    return {
        "absrel": float(np.mean([abs_rel(p, g) for p, g in views])),
        "delta_1.25": float(np.mean([delta(p, g) for p, g in views])),
    }


def _camera_scores(estimate: Estimate, intrinsics: Floats | None, scene: EvalScene) -> dict[str, float]:
    scores: dict[str, float] = {}
    pairs = estimate.pair_poses if estimate.extrinsics is None else relative_poses(estimate.extrinsics)
    if pairs is not None and len(pairs):
        size = _median_depth(scene) if scene.has_depth else None
        errors = errors_of_pairs(pairs, scene.extrinsics, scene_size=size, min_baseline=MIN_BASELINE)
        scores |= {f"pose_auc_{t}": auc(errors.pair_deg, t) for t in (5, 15, 30)}
        scores["rotation_auc_30"] = auc(errors.rotation_deg, 30)
        scores["median_rotation_deg"] = float(np.median(np.nan_to_num(errors.rotation_deg, nan=180.0)))
    if intrinsics is not None:
        scores["focal_error"] = float(np.mean(focal_errors(intrinsics, scene.intrinsics)))
    return scores


def _matching_scores(best: npt.NDArray[np.integer], size: tuple[int, ...], scene: EvalScene) -> dict[str, float]:
    """Over all ordered pairs of views that share anything, each with the same weight."""
    height, width = scene.depth.shape[1:]
    depth = resized_nearest(scene.depth, *size)
    intrinsics = scene.intrinsics * np.array([[size[1] / width], [size[0] / height], [1.0]])
    tensors = (torch.tensor(np.asarray(v))[None] for v in (depth, intrinsics, scene.extrinsics))
    true = true_patch_matches(*tensors)[0].numpy()
    pairs = [pair for pair in permutations(range(len(depth)), 2) if (true[pair] != NO_MATCH).any()]
    shares = [top1_accuracy(best[pair], true[pair]) for pair in pairs]
    return {"matching_top1": float(np.mean(shares))} if shares else {}


def _f_score(points: Floats, scene: EvalScene) -> float:
    """Of predicted points (N, H, W, 3) in the true world, at the pixels with a true depth."""
    true = unproject(scene.depth.astype(np.float64), scene.intrinsics, scene.extrinsics)
    size = _median_depth(scene)
    valid = valid_pixels(scene.depth) & (scene.depth <= _FARTHEST * size)
    step = int(np.ceil(np.sqrt(valid.sum() / _POINTS)))
    kept = np.zeros_like(valid)
    kept[:, step // 2 :: step, step // 2 :: step] = valid[:, step // 2 :: step, step // 2 :: step]
    kept = kept if kept.any() else valid
    threshold = POINT_THRESHOLD * size
    usable = points[kept & np.isfinite(points).all(-1)]
    # Beyond twice of what is true, how far off a point is makes no difference, but for the size of the grid.
    centre, reach = true[kept].mean(0), 2 * np.abs(true[kept] - true[kept].mean(0)).max() + size
    usable = centre + (usable - centre).clip(-reach, reach)
    return f_score(usable, true[kept], threshold=threshold, voxel=threshold / _VOXELS_PER_THRESHOLD)


def _median_depth(scene: EvalScene) -> float:
    return float(np.median(scene.depth[valid_pixels(scene.depth)]))
