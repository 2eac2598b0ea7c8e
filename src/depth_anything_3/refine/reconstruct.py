"""Cameras from matched keypoints, one view after the other, with a network's answer as a prior.

Matches decide wherever enough of them agree; the prior says where to look for them, decides what they leave open (the
focal length of a rectified pair, the unit, the frame), and stands for views that nothing connects.

Letters: N views, P points, O observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import nearest_rotation, vector_from_rotation
from depth_anything_3.refine.bundle import BundleOptions, Priors, adjust_bundle
from depth_anything_3.refine.features import Features
from depth_anything_3.refine.rectified import disparity_offset
from depth_anything_3.refine.tracks import Observations, Tracks, build_tracks, pairwise
from depth_anything_3.refine.triangulate import Triangulated, triangulate
from depth_anything_3.refine.view_graph import (
    ViewPair,
    common_focal,
    connect_more,
    connect_views,
    rotation_error,
    with_poses,
)
from depth_anything_3.types.refinement import PoseSource

Array = npt.NDArray[np.float64]

_GIVEN: PoseSource = "given"
_LEAST_SEEN = 8  # points from which a view can be placed
_LEAST_SHARE = 0.15  # of them that have to agree,
_SHARE_OF_FEW, _FEW = 0.7, 12  # and where that would be few, this share
_NEARLY_AS_MANY = 0.6  # of the points that the first new view sees
_PLACED_PX = 8.0  # per 1000 pixels of the longer side: error of a point that agrees with a new view
_LIMITS_PX = (16.0, 8.0, 4.0)  # per 1000 pixels, one round of adjustment after the other
_WIDE_ANGLE = 0.15  # radians: more parallax makes a first pair no better
_NO_TURN, _ALONG_AXIS = np.radians(0.3), np.radians(1.0)  # of a rectified pair: rotation, baseline off an axis
_STARTS = 3  # pairs that are tried as the first
_KNOWN_ROTATION = 0.02  # radians, of cameras that are given
_TRUSTED_ROTATION = 0.35  # radians: a prior that errs by more does not know where to look
_FOCAL_SIGMA = 0.1  # of what the pairs agree on
_TOLERANCE = 1e-4  # relative change of the cost at which an adjustment ends
_FOCAL_ROUNDS, _FOCAL_MOVED = 3, 0.02  # what the first views say of the lens can let more views be placed


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What a network says about N views, in pixels of the images that keypoints were found in, and how sure it is.

    Attributes:
        extrinsics: world-to-camera.
        intrinsics: camera matrices.
        depth: z-depth maps in the unit of the translations, of any size.
        rotation_sigma: of relative rotations about each axis, in radians.
        focal_sigma: of the logarithm of the focal lengths.
        share_focal: whether all views were taken with one lens.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    depth: Float[np.ndarray, "n h w"]
    rotation_sigma: float = 0.25
    focal_sigma: float = 0.3
    share_focal: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """Result of :func:`reconstruct`.

    Attributes:
        extrinsics: world-to-camera; one of the views is where the prior has it.
        intrinsics: with refined focal lengths.
        source: where each view's pose comes from.
        observations: of the points, in the views whose pose comes from matches.
        places: of the points in the world.
        angle: largest angle between two rays to each point, in radians.
        rms_px: reprojection error of each view; NaN without observations.
        pairs: views that are connected, with their relative poses.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    source: tuple[PoseSource, ...]
    observations: Observations
    places: Float[np.ndarray, "p 3"]
    angle: Float[np.ndarray, " p"]
    rms_px: Float[np.ndarray, " n"]
    pairs: tuple[ViewPair, ...]


def reconstruct(
    features: Sequence[Features], sizes: Sequence[tuple[int, int]], prior: Prior, *, seed: int = 0
) -> Reconstruction:
    """Cameras of N views.

    Args:
        features: keypoints of every view.
        sizes: rows and columns of every image.
        prior: what the network says.
        seed: of the search for relative poses.

    Raises:
        InputError: the numbers of views differ.
    """
    count = len(features)
    if not len(sizes) == len(prior.extrinsics) == len(prior.intrinsics) == len(prior.depth) == count:
        raise InputError("prior", f"{len(prior.extrinsics)} views", f"{count}, one per view with keypoints")
    longer = float(max(max(size) for size in sizes))
    connected = connect_views(features)
    factor = common_focal(connected, prior.intrinsics, longer, prior.focal_sigma)
    lenses = _with_focal(prior.intrinsics, factor)
    if prior.share_focal:
        lenses = _one_focal(lenses)
    for _ in range(_FOCAL_ROUNDS):
        pairs = _posed(connected, features, sizes, lenses, prior, seed)
        scene = _Scene.of(features, pairs, lenses, longer, prior.share_focal)
        model = _best_model(scene)
        moved = np.abs(np.log(model.lenses[:, 0, 0] / lenses[:, 0, 0])).max()
        if len(model.joined) == count or moved < _FOCAL_MOVED:
            break
        lenses = model.lenses
    for limit in _LIMITS_PX:
        model = _adjusted(scene, model, limit, 15)
    model = replace(model, lenses=_with_offset(scene, model, prior, sizes))
    return _in_frame_of_prior(scene, model, prior, sizes)


def triangulate_matches(
    features: Sequence[Features], sizes: Sequence[tuple[int, int]], prior: Prior, *, seed: int = 0
) -> Reconstruction:
    """Points of matches between N views whose cameras are known and stay.

    Args:
        features, sizes, seed: as in :func:`reconstruct`.
        prior: with the true cameras.
    """
    longer = float(max(max(size) for size in sizes))
    lenses = np.array(prior.intrinsics, np.float64)
    known = replace(prior, rotation_sigma=_KNOWN_ROTATION)
    pairs = _posed(connect_views(features), features, sizes, lenses, known, seed)
    scene = _Scene.of(features, pairs, lenses, longer, prior.share_focal)
    poses = np.array(prior.extrinsics, np.float64)
    model = _Model(poses=poses, lenses=lenses, joined=tuple(range(len(poses))))
    seen, found = _agreeing(scene, model, _LIMITS_PX[-1])
    return Reconstruction(
        extrinsics=poses,
        intrinsics=lenses,
        source=tuple(_GIVEN for _ in poses),
        observations=seen,
        places=np.where(np.isfinite(found.places), found.places, 0.0),
        angle=found.angle,
        rms_px=_rms(scene, model, seen),
        pairs=tuple(pairs),
    )


def _posed(
    connected: Sequence[ViewPair], features: Sequence[Features], sizes: Sequence[tuple[int, int]], lenses: Array,
    prior: Prior, seed: int,
) -> list[ViewPair]:  # fmt: skip
    """Pairs with relative poses; a prior that proves right on the safe ones is asked about the others."""
    turns = np.asarray(prior.extrinsics, np.float64)[..., :3]
    pairs = with_poses(connected, features, lenses, turns, prior.rotation_sigma, seed=seed)
    error = rotation_error(pairs, turns)
    sigma = prior.rotation_sigma if error is None else max(error, prior.rotation_sigma)
    if sigma > _TRUSTED_ROTATION:
        return pairs
    more = connect_more(pairs, features, sizes, lambda i, j: expected_pixels(features[i].xy, i, j, prior, sizes))
    found = {pair.views: pair for pair in pairs}
    for pair in with_poses(more, features, lenses, turns, sigma, seed=seed):
        if pair.views not in found or pair.support > found[pair.views].support:
            found[pair.views] = pair
    return [found[views] for views in sorted(found)]


def expected_pixels(
    xy: Float[np.ndarray, "k 2"], i: int, j: int, prior: Prior, sizes: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "k 2"]:
    """Where the prior expects pixels of view i in view j; NaN where it knows no depth, or puts them behind view j."""
    z = depth_at(prior.depth[i], xy, sizes[i])
    ray = np.c_[xy, np.ones(len(xy))] @ np.linalg.inv(prior.intrinsics[i]).T
    world = (ray * z[:, None] - prior.extrinsics[i, :, 3]) @ prior.extrinsics[i, :, :3]
    local = world @ prior.extrinsics[j, :, :3].T + prior.extrinsics[j, :, 3]
    there = local @ prior.intrinsics[j].T
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = there[:, :2] / there[:, 2:]
    return np.where((z[:, None] > 0) & (local[:, 2:] > 0) & np.isfinite(pixels), pixels, np.nan)


def depth_at(
    depth: Float[np.ndarray, "h w"], xy: Float[np.ndarray, "k 2"], size: tuple[int, int]
) -> Float[np.ndarray, " k"]:
    """Depth under pixels of an image of ``size`` rows and columns, which the map covers entirely."""
    rows = (xy[:, 1] * depth.shape[0] / size[0]).astype(int).clip(0, depth.shape[0] - 1)
    columns = (xy[:, 0] * depth.shape[1] / size[1]).astype(int).clip(0, depth.shape[1] - 1)
    found: Array = np.asarray(depth, np.float64)[rows, columns]
    return found


def _with_focal(intrinsics: Array, factor: float) -> Array:
    scaled = np.array(intrinsics, np.float64)
    scaled[:, :2, :2] *= factor
    return scaled


def _one_focal(intrinsics: Array) -> Array:
    """Each view scaled to the mean focal length; how much wider its pixels are than high stays."""
    own = np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])
    scaled = np.array(intrinsics, np.float64)
    scaled[:, :2, :2] *= (np.exp(np.log(own).mean()) / own)[:, None, None]
    return scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """What does not change while views are added."""

    pairs: Sequence[ViewPair]
    tracks: Tracks
    lenses: Array
    pixel: float  # a thousandth of the longer side
    share_focal: bool

    @classmethod
    def of(
        cls, features: Sequence[Features], pairs: Sequence[ViewPair], lenses: Array, longer: float, share_focal: bool
    ) -> _Scene:
        tracks = build_tracks(
            pairwise([pair.views for pair in pairs], [f.xy for f in features], [pair.agreeing for pair in pairs])
        )
        return cls(pairs=pairs, tracks=tracks, lenses=lenses, pixel=longer / 1000, share_focal=share_focal)

    @property
    def seen(self) -> Observations:
        return self.tracks.observations


@dataclass(frozen=True, kw_only=True, eq=False)
class _Model:
    """Views that were placed; the poses of others mean nothing."""

    poses: Array
    lenses: Array
    joined: tuple[int, ...]

    def observed(self, scene: _Scene) -> Observations:
        """Observations in the placed views, of points that at least two of them see."""
        inside = np.isin(scene.seen.view, self.joined)
        views = np.bincount(scene.seen.point[inside], minlength=scene.tracks.count)
        return scene.seen.where(inside & (views[scene.seen.point] >= 2))


def _triangulated(scene: _Scene, model: _Model) -> tuple[Observations, Triangulated]:
    seen = model.observed(scene)
    return seen, triangulate(seen, scene.tracks.count, model.poses, model.lenses)


def _agreeing(scene: _Scene, model: _Model, limit: float) -> tuple[Observations, Triangulated]:
    """Observations near where their points are projected, of points that keep at least two."""
    seen, found = _triangulated(scene, model)
    kept = seen.where(~found.behind[seen.point] & (found.errors_px < limit * scene.pixel))
    enough = np.bincount(kept.point, minlength=scene.tracks.count) >= 2
    return kept.where(enough[kept.point]), found


def _adjusted(scene: _Scene, model: _Model, limit: float, rounds: int) -> _Model:
    kept, found = _agreeing(scene, model, limit)
    if not len(kept.point):
        return model
    shared: Literal["shared", "per view"] = "shared" if scene.share_focal else "per view"
    result = adjust_bundle(
        kept,
        model.poses,
        model.lenses,
        np.where(np.any(found.points, axis=1)[:, None], found.points, [0.0, 0.0, 0.0, 1.0]),
        priors=Priors(focal_px=scene.lenses[:, 0, 0], focal_sigma=_FOCAL_SIGMA),
        options=BundleOptions(focal=shared if len(model.joined) > 2 else "fixed", rounds=rounds, tolerance=_TOLERANCE),
    )
    return replace(model, poses=result.extrinsics, lenses=result.intrinsics)


def _grown(scene: _Scene, start: ViewPair) -> _Model:
    """All views that can be placed, from two on."""
    assert start.pose is not None and start.pose.rotation is not None
    poses = np.tile(np.eye(3, 4), (len(scene.lenses), 1, 1))
    poses[start.views[1]] = np.c_[start.pose.rotation, start.pose.direction]
    model = _Model(poses=poses, lenses=scene.lenses, joined=start.views)
    model = _adjusted(scene, model, _LIMITS_PX[0], 8)
    while (larger := _with_more(scene, model)) is not None:
        model = _adjusted(scene, larger, _LIMITS_PX[0], 8)
    return model


def _with_more(scene: _Scene, model: _Model) -> _Model | None:
    """Place the view that sees the most points, and those that see nearly as many; if none can be, the next ones."""
    _, found = _triangulated(scene, model)
    known = found.good[scene.seen.point]
    count = np.bincount(scene.seen.view[known], minlength=len(model.poses))
    count[list(model.joined)] = 0
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
    done, turn, shift, inliers = cv2.solvePnPRansac(
        points, xy, lens, None, reprojectionError=_PLACED_PX * pixel, iterationsCount=2000, confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )  # fmt: skip
    if not done or inliers is None:
        return None
    share = _LEAST_SHARE if len(inliers) >= _FEW else _SHARE_OF_FEW
    if len(inliers) < max(_LEAST_SEEN, share * len(points)):
        return None
    agreeing = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[agreeing], xy[agreeing], lens, None, turn, shift)
    return np.c_[cv2.Rodrigues(turn)[0], shift]


def _best_model(scene: _Scene) -> _Model:
    """The model that places the most views, of those that grow from the most promising pairs; without any, none."""
    poses = np.tile(np.eye(3, 4), (len(scene.lenses), 1, 1))
    best, most = _Model(poses=poses, lenses=scene.lenses, joined=()), (0, 0)
    for start in _starts(scene.pairs):
        model = _grown(scene, start)
        worth = len(model.joined), len(_agreeing(scene, model, _LIMITS_PX[1])[0].point)
        if worth > most:
            best, most = model, worth
        if len(model.joined) == len(scene.lenses):
            break
    return best


def _starts(pairs: Sequence[ViewPair]) -> list[ViewPair]:
    """Pairs with many matches and parallax up to some degrees; what lies on a plane leaves a choice of poses."""

    def promise(pair: ViewPair) -> float:
        assert pair.pose is not None
        clear = {"general": 1.0, "planar": 0.2}.get(pair.pose.kind, 0.0)
        return pair.support * min(pair.pose.parallax, _WIDE_ANGLE) * clear

    return [pair for pair in sorted(pairs, key=promise, reverse=True) if promise(pair) > 0][:_STARTS]


def _with_offset(scene: _Scene, model: _Model, prior: Prior, sizes: Sequence[tuple[int, int]]) -> Array:
    """Camera matrices, for a rectified pair with principal points as the prior's depth wants them.

    Pictures of a stereo rig that were rectified show every point in the same row, whatever their principal points are:
    matches leave open how far these are apart, and with it how far away infinity is.
    """
    lenses = model.lenses.copy()
    if len(model.joined) != 2:
        return lenses
    i, j = model.joined
    turn = model.poses[j, :, :3] @ model.poses[i, :, :3].T
    way = model.poses[j, :, 3] - turn @ model.poses[i, :, 3]
    axis = int(np.abs(way[:2]).argmax())
    turned = np.linalg.norm(vector_from_rotation(turn))
    if turned > _NO_TURN or abs(way[axis]) < np.cos(_ALONG_AXIS) * np.linalg.norm(way):
        return lenses
    seen, _ = _agreeing(scene, model, _LIMITS_PX[-1])
    first, second = (seen.where(seen.view == view) for view in (i, j))
    sign = -np.sign(way[axis])
    disparity = sign * (first.xy[:, axis] - second.xy[:, axis])
    offset = sign * disparity_offset(disparity, depth_at(prior.depth[i], first.xy, sizes[i]))
    lenses[i, axis, 2] -= offset / 2
    lenses[j, axis, 2] += offset / 2
    return lenses


def _in_frame_of_prior(scene: _Scene, model: _Model, prior: Prior, sizes: Sequence[tuple[int, int]]) -> Reconstruction:
    """Moved so that the first placed view is where the prior has it, in the unit of the prior's depth."""
    seen, found = _agreeing(scene, model, _LIMITS_PX[-1])
    extrinsics = np.array(prior.extrinsics, np.float64)
    extrinsics[:, :, :3] = nearest_rotation(extrinsics[:, :, :3])
    places = np.where(np.isfinite(found.places), found.places, 0.0)
    if model.joined:
        anchor = min(model.joined)
        unit = _unit(seen, found, model, prior, sizes)
        turn = model.poses[anchor, :, :3].T @ extrinsics[anchor, :, :3]  # model to prior, applied from the right
        home, centre = _centre(extrinsics[anchor]), _centre(model.poses[anchor])
        places = home + unit * (places - centre) @ turn
        for view in model.joined:
            rotation = model.poses[view, :, :3] @ turn
            extrinsics[view] = np.c_[rotation, -rotation @ (home + unit * (_centre(model.poses[view]) - centre) @ turn)]
    extrinsics, turned = _turned_along(scene.pairs, extrinsics, model.joined)

    def source(view: int) -> PoseSource:
        return "matches" if view in model.joined else "rotation" if view in turned else "network"

    return Reconstruction(
        extrinsics=extrinsics,
        intrinsics=model.lenses,
        source=tuple(source(view) for view in range(len(extrinsics))),
        observations=seen,
        places=places,
        angle=found.angle,
        rms_px=_rms(scene, model, seen),
        pairs=tuple(scene.pairs),
    )


def _unit(
    seen: Observations, found: Triangulated, model: _Model, prior: Prior, sizes: Sequence[tuple[int, int]]
) -> float:
    """How much deeper than the model the prior has the points, in the median over them."""
    z = np.einsum("oj,oj->o", model.poses[seen.view, 2, :3], found.places[seen.point]) + model.poses[seen.view, 2, 3]
    said = np.concatenate(
        [np.zeros(0)] + [depth_at(prior.depth[v], seen.xy[seen.view == v], sizes[v]) for v in range(len(sizes))]
    )
    order = np.argsort(seen.view, kind="stable")
    z, good = z[order], found.good[seen.point[order]]
    usable = good & (z > 0) & (said > 0) & np.isfinite(said)
    return float(np.median(said[usable] / z[usable])) if usable.any() else 1.0


def _rms(scene: _Scene, model: _Model, seen: Observations) -> Array:
    if not len(seen.point):
        return np.full(len(model.poses), np.nan)
    found = triangulate(seen, scene.tracks.count, model.poses, model.lenses)
    count = np.bincount(seen.view, minlength=len(model.poses))
    square = np.bincount(seen.view, found.errors_px**2, len(model.poses))
    return np.sqrt(np.divide(square, count, out=np.full(len(count), np.nan), where=count > 0))


def _centre(pose: Array) -> Array:
    """Position of a camera in the world."""
    centre: Array = -pose[:, :3].T @ pose[:, 3]
    return centre


def _turned_along(pairs: Sequence[ViewPair], extrinsics: Array, placed: Sequence[int]) -> tuple[Array, list[int]]:
    """Views that only turned against a placed one stand where it stands; without any, all that turn together do."""
    turning = [pair for pair in pairs if pair.pose is not None and pair.pose.kind == "rotation"]
    turning.sort(key=lambda pair: -pair.support)
    known, added = set(placed), []
    if not known and turning:
        known = {min(turning[0].views)}
        added = sorted(known)
    extrinsics = extrinsics.copy()
    while True:
        step = next((pair for pair in turning if (pair.views[0] in known) != (pair.views[1] in known)), None)
        if step is None:
            return extrinsics, added
        assert step.pose is not None and step.pose.rotation is not None
        (i, j), turn = step.views, step.pose.rotation
        if j in known:
            i, j, turn = j, i, turn.T
        rotation = turn @ extrinsics[i, :, :3]
        extrinsics[j] = np.c_[rotation, -rotation @ _centre(extrinsics[i])]
        known.add(j)
        added.append(j)
