"""Views placed one after the other: from a pair on, whatever sees enough of the points there are so far.

Letters: N views, P points, O observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.refine.bundle import BundleOptions, BundleResult, Priors, adjust_bundle
from depth_anything_3.refine.bundle_terms import Focal
from depth_anything_3.refine.features import Features
from depth_anything_3.refine.tracks import Observations, Tracks, build_tracks, pairwise
from depth_anything_3.refine.triangulate import Triangulated, triangulate
from depth_anything_3.refine.view_graph import ViewPair

Array = npt.NDArray[np.float64]

LIMITS_PX = (16.0, 8.0, 4.0)
"""Errors per 1000 pixels of the longer side up to which an observation counts, one adjustment after the other."""

_LEAST_SEEN = 8  # points from which a view can be placed
_LEAST_SHARE = 0.15  # of them that have to agree,
_SHARE_OF_FEW, _FEW = 0.7, 12  # and where that would be few, this share
_NEARLY_AS_MANY = 0.6  # of the points that the first new view sees
_PLACED_PX = 8.0  # per 1000 pixels: error of a point that agrees with a new view
_WIDE_ANGLE = 0.15  # radians: more parallax makes a first pair no better
_LEAST_OF_PLANE = 0.035  # radians: a plane seen under less could as well be turned about, and its depth be anything
_STARTS = 3  # pairs that are tried as the first
_FOCAL_SIGMA = 0.1  # of what the pairs agree on
_MIDDLE_SIGMA = 20.0  # of principal points about those that lenses start with; per 1000 pixels of the longer side
_MIDDLE_GAIN, _MIDDLE_LEAST = 0.03, 10.0  # share of the cost, and nats, that moving them has to save
_NOISE_PX, _CAUCHY_PX = 0.5, 1.0  # of keypoints that agree, and where they begin not to
_QUICK, _THOROUGH = (5, 1e-3), (15, 1e-4)  # while views are added, and at the end: rounds, and the gain that ends them
_WHILE_GROWING = 600  # observations in each view; all of them count at the end


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What does not change while views are added.

    Attributes:
        pairs: views that are connected, with relative poses.
        tracks: of their matches.
        lenses: camera matrices to start from.
        pixel: a thousandth of the longer side.
        focal: how focal lengths are adjusted.
    """

    pairs: Sequence[ViewPair]
    tracks: Tracks
    lenses: Float[np.ndarray, "n 3 3"]
    pixel: float
    focal: Focal

    @classmethod
    def of(
        cls, features: Sequence[Features], pairs: Sequence[ViewPair], lenses: Array, longer: float, focal: Focal
    ) -> Scene:
        """Tracks of the matches that agree with the relative poses."""
        matches = [pair.agreeing for pair in pairs]
        weights = [
            np.minimum(features[pair.views[0]].weights(m[:, 0]), features[pair.views[1]].weights(m[:, 1]))
            for pair, m in zip(pairs, matches, strict=True)
        ]
        tracks = build_tracks(pairwise([pair.views for pair in pairs], [f.xy for f in features], matches, weights))
        return cls(pairs=pairs, tracks=tracks, lenses=lenses, pixel=longer / 1000, focal=focal)

    @property
    def seen(self) -> Observations:
        """All observations of all tracks."""
        return self.tracks.observations

    def thinned(self, most: int) -> Scene:
        """With fewer observations: the longest tracks, and of views that have few of these, as many more as it takes
        for ``most`` in each."""
        seen = self.seen
        length = np.bincount(seen.point, minlength=self.tracks.count)
        first = np.searchsorted(seen.point, np.arange(self.tracks.count + 1))
        kept, count = np.zeros(self.tracks.count, bool), np.zeros(len(self.lenses), np.int64)
        for track in np.argsort(-length, kind="stable"):
            views = seen.view[first[track] : first[track + 1]]
            if count[views].min(initial=most) < most:
                kept[track] = True
                count[views] += 1
        return replace(self, tracks=replace(self.tracks, observations=seen.where(kept[seen.point])))


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Views that were placed in a world of their own.

    Attributes:
        poses: world-to-camera; those of views that were not placed mean nothing.
        lenses: camera matrices.
        joined: views that were placed.
        points: unit 4-vectors where the last adjustment left them; zero for those that it did not have. None before.
    """

    poses: Float[np.ndarray, "n 3 4"]
    lenses: Float[np.ndarray, "n 3 3"]
    joined: tuple[int, ...]
    points: Float[np.ndarray, "p 4"] | None = None

    def adjusted(self, result: BundleResult) -> Model:
        """The model as an adjustment has it."""
        points = np.zeros_like(result.points)
        points[result.problem.point] = result.points[result.problem.point]
        return replace(self, poses=result.extrinsics, lenses=result.intrinsics, points=points)

    def observed(self, scene: Scene) -> Observations:
        """Observations in the placed views, of points that at least two of them see."""
        inside = np.isin(scene.seen.view, self.joined)
        views = np.bincount(scene.seen.point[inside], minlength=scene.tracks.count)
        return scene.seen.where(inside & (views[scene.seen.point] >= 2))


def triangulated(scene: Scene, model: Model) -> tuple[Observations, Triangulated]:
    """Observations in placed views, and their points."""
    seen = model.observed(scene)
    return seen, triangulate(seen, scene.tracks.count, model.poses, model.lenses)


def agreeing(scene: Scene, model: Model, limit: float) -> tuple[Observations, Triangulated]:
    """Observations near where their points are projected, of points that keep at least two; and all points, with the
    errors of these observations."""
    seen, found = triangulated(scene, model)
    near = ~found.behind[seen.point] & (found.errors_px < limit * scene.pixel)
    kept = near & (np.bincount(seen.point[near], minlength=scene.tracks.count) >= 2)[seen.point]
    return seen.where(kept), replace(found, errors_px=found.errors_px[kept])


def _adjusted(scene: Scene, model: Model, limit: float, effort: tuple[int, float], *, middle: bool = False) -> Model:
    kept, found = agreeing(scene, model, limit)
    return _bundle(scene, model, kept, found.points, effort, middle=middle)[0]


def _bundle(
    scene: Scene, model: Model, kept: Observations, points: Array, effort: tuple[int, float], *, middle: bool
) -> tuple[Model, BundleResult | None]:
    """The model adjusted to observations of points, and how; None where there are none."""
    if not len(kept.point):
        return model, None
    # Wrong observations pull at triangulated points; those of the last adjustment are nearer to where this one ends.
    if model.points is not None:
        points = np.where(model.points.any(1, keepdims=True), model.points, points)
    result = adjust_bundle(
        kept,
        model.poses,
        model.lenses,
        np.where(np.any(points, axis=1)[:, None], points, [0.0, 0.0, 0.0, 1.0]),
        priors=Priors(
            focal_px=scene.lenses[:, 0, 0],
            focal_sigma=_FOCAL_SIGMA,
            middle_px=scene.lenses[:, :2, 2],
            middle_sigma=_MIDDLE_SIGMA * scene.pixel,
        ),
        options=BundleOptions(
            focal=scene.focal if len(model.joined) > 2 else "fixed",
            middle=middle,
            noise_px=_NOISE_PX,
            cauchy_px=_CAUCHY_PX,
            rounds=effort[0],
            tolerance=effort[1],
        ),
    )
    return model.adjusted(result), result


def _grown(scene: Scene, start: ViewPair, free: frozenset[int]) -> Model:
    """All free views that can be placed, from two on."""
    assert start.pose is not None and start.pose.rotation is not None
    poses = np.tile(np.eye(3, 4), (len(scene.lenses), 1, 1))
    poses[start.views[1]] = np.c_[start.pose.rotation, start.pose.direction]
    model = Model(poses=poses, lenses=scene.lenses, joined=start.views)
    model = _adjusted(scene, model, LIMITS_PX[0], _QUICK)
    while (larger := _with_more(scene, model, free)) is not None:
        model = _adjusted(scene, larger, LIMITS_PX[0], _QUICK)
    return model


def _with_more(scene: Scene, model: Model, free: frozenset[int]) -> Model | None:
    """Place the view that sees the most points, and those that see nearly as many; if none can be, the next ones."""
    _, found = triangulated(scene, model)
    known = found.good[scene.seen.point]
    count = np.bincount(scene.seen.view[known], minlength=len(model.poses))
    count[[v for v in range(len(count)) if v in model.joined or v not in free]] = 0
    poses, added, most = model.poses.copy(), [], 0
    for view in np.argsort(-count, kind="stable").tolist():
        if count[view] < max(_LEAST_SEEN, _NEARLY_AS_MANY * most):
            break
        mine = known & (scene.seen.view == view)
        pose = _placed(found.places[scene.seen.point[mine]], scene.seen.xy[mine], model.lenses[view], scene.pixel)
        if pose is not None:
            poses[view] = pose
            added.append(view)
            most = max(most, int(count[view]))
    return replace(model, poses=poses, joined=(*model.joined, *added)) if added else None


def _placed(points: Array, xy: Array, lens: Array, pixel: float) -> Array | None:
    """(3, 4) pose of a view of known points, if enough of them agree."""
    try:
        done, turn, shift, inliers = cv2.solvePnPRansac(
            points, xy, lens, None, reprojectionError=_PLACED_PX * pixel, iterationsCount=2000, confidence=0.9999,
            flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
    except cv2.error:  # its own assertions, where points are degenerate
        return None
    if not done or inliers is None:
        return None
    share = _LEAST_SHARE if len(inliers) >= _FEW else _SHARE_OF_FEW
    if len(inliers) < max(_LEAST_SEEN, share * len(points)):
        return None
    agreeing = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[agreeing], xy[agreeing], lens, None, turn, shift)
    return np.c_[cv2.Rodrigues(turn)[0], shift]


def grow_models(scene: Scene) -> list[Model]:
    """Models that share no view, from the largest on; none if no two views can be placed.

    Views that cannot join the first may well join each other.
    """
    scene = scene.thinned(_WHILE_GROWING)
    models: list[Model] = []
    free = frozenset(range(len(scene.lenses)))
    while (model := _largest(scene, free)) is not None:
        models.append(model)
        free -= frozenset(model.joined)
    return models


def finished(scene: Scene, model: Model) -> Model:
    """A model adjusted with ever stricter limits; with another principal point where that explains clearly more.

    A little more is always explained: bent rays and wrong matches move a free principal point too.
    """
    few = scene.thinned(_WHILE_GROWING)
    for limit in LIMITS_PX[:-1]:
        model = _adjusted(few, model, limit, _THOROUGH)
    kept, found = agreeing(scene, model, LIMITS_PX[-1])
    model, plain = _bundle(scene, model, kept, found.points, _THOROUGH, middle=False)
    # One shift for all: not where some pictures were turned or cut, and their middles lie elsewhere.
    alike = np.ptp(scene.lenses[:, :2, 2], axis=0).max() < scene.pixel
    if plain is None or len(model.joined) < 3 or scene.focal != "shared" or not alike:
        return model
    # From where the plain one ended, on the same observations: what it costs less is what the shift explains.
    moved, more = _bundle(scene, model, kept, plain.points, _THOROUGH, middle=True)
    assert more is not None
    before, after = plain.report.cost_after, more.report.cost_after
    if before - after < max(_MIDDLE_GAIN * before, _MIDDLE_LEAST):
        return model
    for limit in LIMITS_PX:
        moved = _adjusted(scene, moved, limit, _THOROUGH, middle=True)
    return moved


def _largest(scene: Scene, free: frozenset[int]) -> Model | None:
    """The model of free views that places the most, of those that grow from the most promising pairs."""
    best, most = None, (0, 0)
    for start in _starts(scene.pairs, free):
        model = _grown(scene, start, free)
        worth = len(model.joined), len(agreeing(scene, model, LIMITS_PX[1])[0].point)
        if worth[1] > 0 and worth > most:
            best, most = model, worth
        if len(model.joined) == len(free):
            break
    return best


def _starts(pairs: Sequence[ViewPair], free: frozenset[int]) -> list[ViewPair]:
    """Pairs with many matches and parallax up to some degrees; what lies on a plane leaves a choice of poses."""

    def promise(pair: ViewPair) -> float:
        assert pair.pose is not None
        if pair.pose.kind == "planar" and pair.pose.parallax < _LEAST_OF_PLANE:
            return 0.0
        clear = {"general": 1.0, "planar": 0.2}.get(pair.pose.kind, 0.0)
        return pair.support * min(pair.pose.parallax, _WIDE_ANGLE) * clear

    inside = [pair for pair in pairs if free.issuperset(pair.views)]
    return [pair for pair in sorted(inside, key=promise, reverse=True) if promise(pair) > 0][:_STARTS]


def reprojection_rms(seen: Observations, found: Triangulated, views: int) -> Float[np.ndarray, " n"]:
    """Root mean square error of each of so many views in pixels, of what :func:`agreeing` returns; NaN without
    observations."""
    count = np.bincount(seen.view, minlength=views)
    square = np.bincount(seen.view, found.errors_px**2, views)
    return np.sqrt(np.divide(square, count, out=np.full(len(count), np.nan), where=count > 0))
