"""Cameras from matched keypoints, one view after the other, with a network's answer as a prior.

Matches decide wherever enough of them agree; the prior says where to look for them, decides what they leave open (the
focal length of a rectified pair, the unit, the frame), and stands for views that nothing connects.

Letters: N views, P points, O observations.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rotation_vectors import nearest_rotation, vector_from_rotation
from depth_anything_3.metrics.pose import relative_poses
from depth_anything_3.metrics.trajectory import align_by_orientations
from depth_anything_3.refine.bundle_terms import Focal
from depth_anything_3.refine.depth_alignment import SeenPoints, align_depth
from depth_anything_3.refine.features import Features, PairMatches
from depth_anything_3.refine.focal import common_focal
from depth_anything_3.refine.growth import (
    LIMITS_PX,
    Model,
    Scene,
    agreeing,
    finished,
    grow_models,
    reprojection_rms,
)
from depth_anything_3.refine.rectified import disparity_offset
from depth_anything_3.refine.tracks import Observations
from depth_anything_3.refine.triangulate import Triangulated
from depth_anything_3.refine.view_graph import (
    SAFE_MATCHES,
    ViewPair,
    connect_more,
    connect_views,
    rotation_away,
    rotation_error,
    with_poses,
)
from depth_anything_3.types.refinement import PoseSource

Array = npt.NDArray[np.float64]

WELL_SEEN = 150
"""Observations of a view from which on a second look, or a second matcher, gives no more."""

_NOISE_PX = 0.7  # of keypoints, for how well a point's depth is known
_GIVEN: PoseSource = "given"
_NO_TURN, _ALONG_AXIS = np.radians(0.3), np.radians(1.0)  # of a rectified pair: rotation, baseline off an axis
_KNOWN_ROTATION = 0.02  # radians, of cameras that are given
_FOUND_ROTATION, _FOUND_SEARCH, _FOUND_ENOUGH = (
    0.03,
    0.03,
    300,
)  # radians; of the longer side: where a first look says to look again
_ERROR_OF_ONE = 3.5  # radians: k points tell the orientation of a view to about this over k, as it turned out
_WRONG_ROTATION = 0.07  # radians between cameras that are given and what the matches say: 4 degrees
_TRUSTED_ROTATION = 0.35  # radians: a prior that errs by more does not know where to look
_IMPOSSIBLE_SIGMAS, _UNLIKELY_SIGMAS = 4.0, 2.5  # a pair that is farther from a prior is wrong; one of few matches
_UNLIKELY_LENS = 2.0  # standard deviations of the prior's focal length
_FOCAL_ROUNDS, _FOCAL_MOVED = 3, 0.02  # what the first views say of the lens can let more views be placed
_SEARCH_SIGMAS, _LEAST_SEARCH, _MOST_SEARCH = 3.0, 0.04, 0.25  # how far from where the prior says; of the longer side


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What a network says about N views, in pixels of the images that keypoints were found in, and how sure it is.

    Attributes:
        extrinsics: world-to-camera.
        intrinsics: camera matrices.
        depth: z-depth maps in the unit of the translations, of any size.
        rotation_sigma: of relative rotations about each axis, in radians.
        focal_sigma: of the logarithm of the focal lengths; 0 where the camera matrices are known, and stay.
        share_focal: whether all views were taken with one lens.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    depth: Float[np.ndarray, "n h w"]
    rotation_sigma: float = 0.25
    focal_sigma: float = 0.3
    share_focal: bool = True

    @property
    def focal(self) -> Focal:
        """How focal lengths are adjusted."""
        if self.focal_sigma == 0:
            return "fixed"
        return "shared" if self.share_focal else "per view"


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

    @property
    def seen(self) -> Int[np.ndarray, " n"]:
        """Observations of each view."""
        return np.bincount(self.observations.view, minlength=len(self.source))

    def says_more_than(self, other: Reconstruction) -> bool:
        """Whether it places more views, or as many of them by more observations."""
        mine, its = ((r.source.count("matches"), len(r.observations.point)) for r in (self, other))
        return mine[0] > its[0] or (mine[0] == its[0] and mine[1] > its[1])

    @property
    def seen_points(self) -> SeenPoints:
        """Depth of each point in each of its views; known the better, the wider the angle it is seen under."""
        view, point = self.observations.view, self.observations.point
        local = np.einsum("oij,oj->oi", self.extrinsics[view, :, :3], self.places[point]) + self.extrinsics[view, :, 3]
        good = local[:, 2] > 0
        sigma = _NOISE_PX / self.intrinsics[view, 0, 0] / np.maximum(self.angle[point], 1e-6)
        return SeenPoints(
            view=view[good], xy=self.observations.xy[good], depth=local[good, 2], sigma=np.minimum(sigma[good], 10.0)
        )


def reconstruct(
    features: Sequence[Features],
    sizes: Sequence[tuple[int, int]],
    prior: Prior,
    *,
    also: PairMatches | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Cameras of N views.

    Args:
        features: keypoints of every view.
        sizes: rows and columns of every image.
        prior: what the network says.
        also: per pair of views, matches that did not come from descriptors.
        seed: of the search for relative poses.

    Raises:
        InputError: the numbers of views differ.
    """
    count = len(features)
    if not len(sizes) == len(prior.extrinsics) == len(prior.intrinsics) == len(prior.depth) == count:
        raise InputError("prior", f"{len(prior.extrinsics)} views", f"{count}, one per view with keypoints")
    longer = float(max(max(size) for size in sizes))
    connected = connect_views(features, sizes, also=also)
    lenses = np.array(prior.intrinsics, np.float64)
    if prior.focal == "shared":
        lenses = _one_focal(lenses)
    if prior.focal != "fixed":
        lenses[:, :2, :2] *= common_focal(connected, features, lenses, longer, prior.focal_sigma)
    for _ in range(_FOCAL_ROUNDS):
        pairs, sigma = _posed(connected, features, sizes, lenses, prior, seed)
        scene = Scene.of(features, pairs, lenses, longer, prior.focal)
        models = [_believable(model, prior, sigma) for model in grow_models(scene)]
        if not models or len(models[0].joined) == count:
            break
        moved = np.abs(np.log(models[0].lenses[:, 0, 0] / lenses[:, 0, 0])).max()
        if moved < _FOCAL_MOVED:
            break
        lenses = models[0].lenses
    found = _completed(scene, models, prior, sizes)
    return _second_look(features, sizes, found, prior, seed)


def _completed(scene: Scene, models: Sequence[Model], prior: Prior, sizes: Sequence[tuple[int, int]]) -> Reconstruction:
    models = [_surer(scene, finished(scene, model), prior.rotation_sigma) for model in models]
    models = [model for model in models if len(model.joined) > 1 and not _far_fetched(scene, model, prior)]
    if models and prior.focal != "fixed":
        models[0] = replace(models[0], lenses=_with_offset(scene, models[0], prior, sizes))
    return _put_together(scene, models, prior, sizes)


def _second_look(
    features: Sequence[Features], sizes: Sequence[tuple[int, int]], found: Reconstruction, prior: Prior, seed: int
) -> Reconstruction:
    """The same with what was found as the prior, which tells far better where to look for matches.

    Kept if it places more views, or as many of them by more observations.
    """
    placed, count = found.source.count("matches"), len(found.source)
    if placed < 3 or (placed == count and found.seen.min() >= WELL_SEEN):
        return found
    depth = align_depth(prior.depth, _at_one_size(found.seen_points, sizes), sizes[0]).depth
    sure = replace(
        prior, extrinsics=found.extrinsics, intrinsics=found.intrinsics, depth=depth, rotation_sigma=_FOUND_ROTATION
    )
    longer = float(max(max(size) for size in sizes))
    pairs = _guided(found.pairs, features, sizes, found.intrinsics, sure, _FOUND_SEARCH * longer, seed, _FOUND_ENOUGH)
    scene = Scene.of(features, pairs, found.intrinsics, longer, prior.focal)
    models = [_believable(model, prior, prior.rotation_sigma) for model in grow_models(scene)]
    again = _completed(scene, models, prior, sizes)
    return again if again.says_more_than(found) else found


def _at_one_size(points: SeenPoints, sizes: Sequence[tuple[int, int]]) -> SeenPoints:
    """Points in pictures of several sizes as if all had that of the first; depth maps have one size anyway."""
    height_width = np.array(sizes, np.float64)
    return replace(points, xy=points.xy * (height_width[0] / height_width[points.view])[:, ::-1])


def triangulate_matches(
    features: Sequence[Features],
    sizes: Sequence[tuple[int, int]],
    prior: Prior,
    *,
    also: PairMatches | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Points of matches between N views whose cameras are known and stay.

    Args:
        features, sizes, also, seed: as in :func:`reconstruct`.
        prior: with the true cameras.

    Warns:
        UserWarning: what matches say of the rotations is far from these.
    """
    longer = float(max(max(size) for size in sizes))
    lenses = np.array(prior.intrinsics, np.float64)
    known = replace(prior, rotation_sigma=_KNOWN_ROTATION)
    pairs, error = _posed(connect_views(features, sizes, also=also), features, sizes, lenses, known, seed)
    if error > _WRONG_ROTATION:
        _warn_of_rotations(pairs, error, np.asarray(prior.extrinsics, np.float64)[..., :3])
    scene = Scene.of(features, pairs, lenses, longer, prior.focal)
    poses = np.array(prior.extrinsics, np.float64)
    model = Model(poses=poses, lenses=lenses, joined=tuple(range(len(poses))))
    seen, found = agreeing(scene, model, LIMITS_PX[-1])
    return Reconstruction(
        extrinsics=poses,
        intrinsics=lenses,
        source=tuple(_GIVEN for _ in poses),
        observations=seen,
        places=np.where(np.isfinite(found.places), found.places, 0.0),
        angle=found.angle,
        rms_px=reprojection_rms(seen, found, len(poses)),
        pairs=tuple(pairs),
    )


def _warn_of_rotations(pairs: Sequence[ViewPair], error: float, given: Array) -> None:
    """Say how far given rotations are from those of the matches, and whether they fit the other way round."""
    inverted = rotation_error(pairs, given.swapaxes(-1, -2))
    text = (
        f"extrinsics: the rotations between the views are {np.degrees(error):.1f} degrees off what matches between the "
        "pictures say. World-to-camera poses with OpenCV axes, in the order of the pictures, are expected"
    )
    if inverted is not None and inverted < error / 4:
        text += (
            f"; after inversion they are {np.degrees(inverted):.1f} degrees off. For camera-to-world ones pass "
            "extrinsics_convention='opencv_c2w' (or 'opengl_c2w'); files of TUM and KITTI hold camera-to-world poses"
        )
    warnings.warn(text, stacklevel=7)


def _posed(
    connected: Sequence[ViewPair], features: Sequence[Features], sizes: Sequence[tuple[int, int]], lenses: Array,
    prior: Prior, seed: int,
) -> tuple[list[ViewPair], float]:  # fmt: skip
    """Pairs with relative poses, and how far off the prior's rotations prove to be.

    A prior that proves right on the safe pairs is asked about the others.
    """
    turns = np.asarray(prior.extrinsics, np.float64)[..., :3]
    pairs = with_poses(connected, features, lenses, turns, prior.rotation_sigma, seed=seed)
    error = rotation_error(pairs, turns)
    sigma = prior.rotation_sigma if error is None else max(error, prior.rotation_sigma)
    # Repeated patterns can agree on a wrong pose. Where most pairs say that the prior is good, they do not outvote it.
    pairs = [pair for pair in pairs if _credible(pair, turns, sigma)]
    if sigma > _TRUSTED_ROTATION:
        return pairs, sigma
    longer = float(max(max(size) for size in sizes))
    reach = _SEARCH_SIGMAS * sigma * float(lenses[:, 0, 0].mean()) + _LEAST_SEARCH * longer
    near = replace(prior, rotation_sigma=sigma)
    pairs = _guided(pairs, features, sizes, lenses, near, min(reach, _MOST_SEARCH * longer), seed)
    return [pair for pair in pairs if not _turned_round(pair, prior)], sigma


def _credible(pair: ViewPair, turns: Array, sigma: float) -> bool:
    """Whether a pair is near enough to a prior that errs by ``sigma``; the fewer its matches are, the nearer."""
    sigmas = _IMPOSSIBLE_SIGMAS if pair.support >= SAFE_MATCHES else _UNLIKELY_SIGMAS
    return rotation_away(pair, turns) < sigmas * sigma


def _turned_round(pair: ViewPair, prior: Prior) -> bool:
    """Whether a few matches that leave a choice of poses, as on a plane, want a translation against that of a prior.

    Something that moves looks like this.
    """
    assert pair.pose is not None
    if pair.support >= SAFE_MATCHES or not pair.pose.ambiguous:
        return False
    (between,) = relative_poses(np.asarray(prior.extrinsics)[list(pair.views)])
    return bool(pair.pose.direction @ between[:, 3] < 0)


def _guided(
    pairs: Sequence[ViewPair], features: Sequence[Features], sizes: Sequence[tuple[int, int]], lenses: Array,
    prior: Prior, radius: float, seed: int, enough: int = SAFE_MATCHES,
) -> list[ViewPair]:  # fmt: skip
    """Pairs, those with few matches with what is found within a radius of where the prior has it."""
    turns = np.asarray(prior.extrinsics, np.float64)[..., :3]
    more = connect_more(
        pairs,
        features,
        sizes,
        lambda i, j: expected_pixels(features[i].xy, i, j, prior, sizes),
        radius=radius,
        enough=enough,
    )
    found = {pair.views: pair for pair in pairs}
    for pair in with_poses(more, features, lenses, turns, prior.rotation_sigma, seed=seed):
        if not _credible(pair, turns, prior.rotation_sigma):
            continue
        if pair.views not in found or pair.support > found[pair.views].support:
            found[pair.views] = pair
    return [found[views] for views in sorted(found)]


def _believable(model: Model, prior: Prior, sigma: float) -> Model:
    """Without the views that turned out far from where the others and the prior together have them."""
    views = list(model.joined)
    turns = prior.extrinsics[views, :, :3].swapaxes(1, 2) @ model.poses[views, :, :3]
    apart = np.linalg.norm(vector_from_rotation(turns[:, None] @ turns[None].swapaxes(2, 3)), axis=-1)
    middle = int(np.median(apart, axis=1).argmin())
    kept = [view for view, away in zip(views, apart[middle], strict=True) if away < _IMPOSSIBLE_SIGMAS * sigma]
    return replace(model, joined=tuple(kept)) if len(kept) > 1 else model


def _surer(scene: Scene, model: Model, sigma: float) -> Model:
    """Without the views whose few points tell less than the prior, as long as there are any."""
    while len(model.joined) > 1:
        count = np.bincount(agreeing(scene, model, LIMITS_PX[-1])[0].view, minlength=len(model.poses))
        weakest = min(model.joined, key=lambda view: count[view])
        if count[weakest] >= _ERROR_OF_ONE / sigma / (1 if len(model.joined) == 2 else 2):
            break
        model = replace(model, joined=tuple(view for view in model.joined if view != weakest))
    return model


def _far_fetched(scene: Scene, model: Model, prior: Prior) -> bool:
    """Whether a model of few points asks for a lens that the prior thinks unlikely: then wrong matches made both."""
    views = list(model.joined)
    moved = np.abs(np.log(model.lenses[views, 0, 0] / prior.intrinsics[views, 0, 0]))
    if np.median(moved) <= _UNLIKELY_LENS * prior.focal_sigma:
        return False
    count = np.bincount(agreeing(scene, model, LIMITS_PX[-1])[0].view, minlength=len(model.poses))
    return bool(count.max() < SAFE_MATCHES)


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


def _one_focal(intrinsics: Array) -> Array:
    """Each view scaled to the mean focal length; how much wider its pixels are than high stays."""
    own = np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])
    scaled = np.array(intrinsics, np.float64)
    scaled[:, :2, :2] *= (np.exp(np.log(own).mean()) / own)[:, None, None]
    return scaled


def _with_offset(scene: Scene, model: Model, prior: Prior, sizes: Sequence[tuple[int, int]]) -> Array:
    """Camera matrices, for a rectified pair with principal points as the prior's depth wants them.

    Pictures of a stereo rig that were rectified show every point in the same row, whatever their principal points are:
    matches leave open how far these are apart, and with it how far away infinity is.
    """
    lenses = model.lenses.copy()
    if len(model.joined) != 2:
        return lenses
    i, j = model.joined
    (between,) = relative_poses(model.poses[[i, j]])
    turn, way = between[:, :3], between[:, 3]
    axis = int(np.abs(way[:2]).argmax())
    turned = np.linalg.norm(vector_from_rotation(turn))
    if turned > _NO_TURN or abs(way[axis]) < np.cos(_ALONG_AXIS) * np.linalg.norm(way):
        return lenses
    seen, _ = agreeing(scene, model, LIMITS_PX[-1])
    first, second = (seen.where(seen.view == view) for view in (i, j))
    sign = -np.sign(way[axis])
    disparity = sign * (first.xy[:, axis] - second.xy[:, axis])
    offset = sign * disparity_offset(disparity, depth_at(prior.depth[i], first.xy, sizes[i]))
    lenses[i, axis, 2] -= offset / 2
    lenses[j, axis, 2] += offset / 2
    return lenses


def _put_together(
    scene: Scene, models: Sequence[Model], prior: Prior, sizes: Sequence[tuple[int, int]]
) -> Reconstruction:
    """All models in one world: each where its cameras are on the whole for the prior, in the unit of its depth.

    What the models leave free, the prior decides, and views that belong to none stay where it has them. At the end all
    is moved so that the first view is where it was.
    """
    extrinsics = np.array(prior.extrinsics, np.float64)
    extrinsics[:, :, :3] = nearest_rotation(extrinsics[:, :, :3])
    lenses = (models[0] if models else scene).lenses.copy()
    first, points = extrinsics[:1].copy(), _Points.none()
    rms = np.full(len(extrinsics), np.nan)
    for model in models:
        seen, found = agreeing(scene, model, LIMITS_PX[-1])
        views = list(model.joined)
        unit = _unit(seen, found, model, prior, sizes)
        move = align_by_orientations(model.poses[views], extrinsics[views], scale=unit)
        extrinsics[views] = move.on_extrinsics(model.poses[views])
        lenses[views] = model.lenses[views]
        rms[views] = reprojection_rms(seen, found, len(rms))[views]
        points = points.joined(
            seen, move.on_points(np.where(np.isfinite(found.places), found.places, 0.0)), found.angle
        )
    placed = {view for model in models for view in model.joined}
    extrinsics, turned = _turned_along(scene.pairs, extrinsics, placed)
    home = align_by_orientations(extrinsics[:1], first, scale=1.0)

    def source(view: int) -> PoseSource:
        return "matches" if view in placed else "rotation" if view in turned else "network"

    return Reconstruction(
        extrinsics=home.on_extrinsics(extrinsics),
        intrinsics=lenses,
        source=tuple(source(view) for view in range(len(extrinsics))),
        observations=points.observations,
        places=home.on_points(points.places),
        angle=points.angle,
        rms_px=rms,
        pairs=tuple(scene.pairs),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """Points of several models, numbered one after the other."""

    observations: Observations
    places: Array
    angle: Array

    @classmethod
    def none(cls) -> _Points:
        index = np.zeros(0, np.int64)
        empty = Observations(point=index, view=index, xy=np.zeros((0, 2)), weight=np.zeros(0))
        return cls(observations=empty, places=np.zeros((0, 3)), angle=np.zeros(0))

    def joined(self, seen: Observations, places: Array, angle: Array) -> _Points:
        """With the points that are seen, and only those."""
        names, point = np.unique(seen.point, return_inverse=True)
        old = self.observations
        both = Observations(
            point=np.concatenate([old.point, point + len(self.places)]),
            view=np.concatenate([old.view, seen.view]),
            xy=np.concatenate([old.xy, seen.xy]),
            weight=np.concatenate([old.weight, seen.weight]),
        )
        return _Points(
            observations=both,
            places=np.concatenate([self.places, places[names]]),
            angle=np.concatenate([self.angle, angle[names]]),
        )


def _unit(
    seen: Observations, found: Triangulated, model: Model, prior: Prior, sizes: Sequence[tuple[int, int]]
) -> float:
    """How much deeper than the model the prior has the points, in the median over them."""
    z = np.einsum("oj,oj->o", model.poses[seen.view, 2, :3], found.places[seen.point]) + model.poses[seen.view, 2, 3]
    said = np.zeros(len(z))
    for view, size in enumerate(sizes):
        mine = seen.view == view
        said[mine] = depth_at(prior.depth[view], seen.xy[mine], size)
    usable = found.good[seen.point] & (z > 0) & (said > 0) & np.isfinite(said)
    return float(np.median(said[usable] / z[usable])) if usable.any() else 1.0


def _turned_along(pairs: Sequence[ViewPair], extrinsics: Array, placed: set[int]) -> tuple[Array, list[int]]:
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
        extrinsics[j] = np.c_[rotation, -rotation @ camera_centres(extrinsics[i])]
        known.add(j)
        added.append(j)
