"""Which views see the same things: matches between all pairs of views, and the relative poses that follow.

Letters: N views, M matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from depth_anything_3.geometry.rotation_vectors import vector_from_rotation
from depth_anything_3.refine.features import (
    Features,
    PairMatches,
    all_pairs,
    match_features,
    near_prediction,
    strongest,
)
from depth_anything_3.refine.threads import in_threads
from depth_anything_3.refine.two_view import PosePrior, TwoView, relative_pose

Array = npt.NDArray[np.float64]

FEWEST_MATCHES = 15
"""Matches on epipolar lines under which two views count as not connected."""

SAFE_MATCHES = 60
"""Matches from which a pair of views is safe from chance and needs no help."""

EPIPOLAR_PX = 1.5
"""Distance from the epipolar line up to which a match agrees."""

_LEAST_OVERLAY, _MOST_OVERLAY = 0.2, 0.5  # shares of the matches and of the area
_CELLS = 16  # along the longer side, in which area is counted
_POSE_TOLERANCE_PX = 3.0
_GLANCE, _GLANCE_LEAST, _GLANCE_FROM = 512, 6, 8  # strongest keypoints, matches among them, views
_MANY, _PARTNERS = 60, 20  # views from which on each is matched only with so many others
_USELESS_SIGMA = 0.7  # radians: a prior that is less sure costs time and decides nothing
_FEWEST_AGREEING = 12  # with a relative pose


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewPair:
    """Two views with matches that lie on each other's epipolar lines.

    Attributes:
        views: indices of the two.
        indices: of keypoints in either view, those that agree with the fundamental matrix.
        fundamental: of pixels, ``second^T F first = 0``.
        pose: of the second relative to the first, once it was asked for.
    """

    views: tuple[int, int]
    indices: Int[np.ndarray, "m 2"]
    fundamental: Float[np.ndarray, "3 3"]
    pose: TwoView | None = None

    @property
    def support(self) -> int:
        """Matches that agree with the relative pose, or with the fundamental matrix as long as there is none."""
        return len(self.indices) if self.pose is None else int(self.pose.inliers.sum())

    @property
    def agreeing(self) -> Int[np.ndarray, "m 2"]:
        """Indices of the keypoints that agree with the relative pose."""
        return self.indices if self.pose is None else self.indices[self.pose.inliers]

    def matched(self, features: Sequence[Features]) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, "m 2"]]:
        """Pixels of the matches in the first and in the second view."""
        i, j = self.views
        return features[i].xy[self.indices[:, 0]], features[j].xy[self.indices[:, 1]]


Expectation = Callable[[int, int], Float[np.ndarray, "k 2"]]
"""(first, second) view to where the keypoints of the first are expected in the second, NaN for anywhere."""


def connect_views(
    features: Sequence[Features], sizes: Sequence[tuple[int, int]], *, also: PairMatches | None = None
) -> list[ViewPair]:
    """Match every two views; keep the pairs that are connected.

    Of many views most pairs have nothing in common; there a look at the strongest keypoints decides first (preemptive
    matching; Wu, "Towards linear-time incremental structure from motion", 2013). Of more than 60 views each is
    matched with the 20 others alone whose strongest keypoints match best, so that time grows with the number of views.

    Args:
        features: keypoints of every view.
        sizes: rows and columns of every image.
        also: per pair of views, matches of keypoints that did not come from descriptors.
    """
    known = {} if also is None else also

    def connect(views: tuple[int, int]) -> ViewPair | None:
        i, j = views
        indices = match_features(features[i], features[j]) if views in alike else np.zeros((0, 2), np.int64)
        return _on_epipolar_lines(features, sizes, views, np.concatenate([indices, known.get(views, indices[:0])]))

    alike = set(_promising(features))
    pairs = [views for views in all_pairs(len(features)) if views in alike or views in known]
    return [pair for pair in in_threads(connect, pairs) if pair is not None]


def _promising(features: Sequence[Features]) -> list[tuple[int, int]]:
    """Pairs of views that may have something in common."""
    pairs = all_pairs(len(features))
    if len(features) <= _GLANCE_FROM:
        return pairs
    few = [strongest(one, _GLANCE) for one in features]
    common = in_threads(lambda views: len(match_features(few[views[0]], few[views[1]])), pairs)
    seen = {views: count for views, count in zip(pairs, common, strict=True) if count >= _GLANCE_LEAST}
    return _best_partners(seen, len(features))


def _best_partners(scores: Mapping[tuple[int, int], float], views: int) -> list[tuple[int, int]]:
    """Of more than 60 views, the pairs that are among the 20 best of either of their views; otherwise all of them."""
    if views <= _MANY:
        return list(scores)
    taken, ranked = np.zeros(views, np.int64), sorted(scores, key=lambda pair: -scores[pair])
    kept = set()
    for pair in ranked:
        if min(taken[list(pair)]) < _PARTNERS:
            kept.add(pair)
            taken[list(pair)] += 1
    return [pair for pair in scores if pair in kept]


def connect_more(
    pairs: Sequence[ViewPair],
    features: Sequence[Features],
    sizes: Sequence[tuple[int, int]],
    expected: Expectation,
    *,
    radius: float,
    enough: int = SAFE_MATCHES,
) -> list[ViewPair]:
    """Pairs that gained by looking for matches only near where each keypoint is expected.

    Asked are those that have few matches or none, of more than 60 views only those of which most is expected to be in
    common (20 for each view); what they had stays where it was better.

    Args:
        pairs: from :func:`connect_views`.
        features: keypoints of every view.
        sizes: rows and columns of every image.
        expected: where.
        radius: how far from there, in pixels.
        enough: matches from which a pair is not asked.
    """
    had = {pair.views: pair.support for pair in pairs}

    def inside(views: tuple[int, int]) -> int:
        places = expected(*views)
        return int(np.count_nonzero(((places >= 0) & (places < np.array(sizes[views[1]])[::-1])).all(1)))

    def connect(views: tuple[int, int]) -> ViewPair | None:
        i, j = views
        places = expected(i, j)
        near = near_prediction(features[i], features[j], places, radius)
        found = _on_epipolar_lines(features, sizes, views, match_features(features[i], features[j], allowed=near))
        return found if found is not None and found.support > had.get(views, 0) else None

    weak = [views for views in all_pairs(len(features)) if had.get(views, 0) < enough]
    shared = {views: count for views in weak if (count := inside(views)) >= FEWEST_MATCHES}
    weak = _best_partners(shared, len(features))
    return [pair for pair in in_threads(connect, weak) if pair is not None]


def _on_epipolar_lines(
    features: Sequence[Features], sizes: Sequence[tuple[int, int]], views: tuple[int, int], indices: Array
) -> ViewPair | None:
    indices = _without_overlay(features, sizes[views[0]], views, indices)
    found = _fundamental(features[views[0]].xy[indices[:, 0]], features[views[1]].xy[indices[:, 1]])
    return None if found is None else ViewPair(views=views, indices=indices[found[1]], fundamental=found[0])


def _without_overlay(
    features: Sequence[Features], size: tuple[int, int], views: tuple[int, int], indices: Array
) -> Array:
    """Matches without those of something that lies over the pictures, as a watermark or a picture in the picture does.

    Such a thing moves by the same vector everywhere, and not as the rest of the picture does. A wall that a camera
    moves along does the former as well, but lies on the epipolar lines of the rest.
    """
    first, second = features[views[0]].xy[indices[:, 0]], features[views[1]].xy[indices[:, 1]]
    moved = second - first
    group = _same_vector(moved)
    if np.count_nonzero(group) < max(FEWEST_MATCHES, _LEAST_OVERLAY * len(indices)):
        return indices
    if _covered(first[group], size) > _MOST_OVERLAY:
        return indices
    found = _fundamental(first[~group], second[~group])
    if found is not None:
        line = np.c_[first[group], np.ones(np.count_nonzero(group))] @ found[0].T
        away = np.abs((line * np.c_[second[group], np.ones(len(line))]).sum(1)) / np.linalg.norm(line[:, :2], axis=1)
        if np.median(away) < EPIPOLAR_PX:
            return indices
    return indices[~group]


def _same_vector(moved: Array) -> npt.NDArray[np.bool_]:
    """Matches that moved by the most frequent vector."""
    if not len(moved):
        return np.zeros(0, np.bool_)
    bins, member, count = np.unique(np.round(moved), axis=0, return_inverse=True, return_counts=True)
    near = np.abs(bins[:, None] - bins[count.argmax()]).max(-1)[:, 0] <= 1
    return near[member.ravel()]


def _fundamental(first: Array, second: Array) -> tuple[Array, npt.NDArray[np.bool_]] | None:
    """A fundamental matrix, and which of the matches agree with it; None where too few do."""
    if len(first) < FEWEST_MATCHES:
        return None
    try:
        fundamental, inlier = cv2.findFundamentalMat(first, second, cv2.USAC_ACCURATE, EPIPOLAR_PX, 0.999, 5000)
    except cv2.error:  # its own assertion, where every sample is degenerate
        return None
    if np.shape(fundamental) != (3, 3) or int(inlier.sum()) < FEWEST_MATCHES:  # (0, 0), None or several
        return None
    return np.asarray(fundamental, np.float64), inlier.ravel() > 0


def _covered(xy: Array, size: tuple[int, int]) -> float:
    """Share of the cells of a picture that have a match in them."""
    cell = max(size) / _CELLS
    cells = np.unique((xy // cell).astype(np.int64), axis=0)
    return len(cells) / (np.ceil(size[0] / cell) * np.ceil(size[1] / cell))


def with_poses(
    pairs: Sequence[ViewPair],
    features: Sequence[Features],
    intrinsics: Float[np.ndarray, "n 3 3"],
    rotations: Float[np.ndarray, "n 3 3"],
    rotation_sigma: float,
    *,
    seed: int = 0,
) -> list[ViewPair]:
    """Relative poses of all pairs; those without any, or with next to no matches that agree, are left out.

    Args:
        pairs: from :func:`connect_views`.
        features: keypoints of every view.
        intrinsics: of every view.
        rotations: of the prior, world-to-camera.
        rotation_sigma: of the prior's relative rotations, in radians.
        seed: of the search.
    """

    useful = rotation_sigma < _USELESS_SIGMA

    def posed(pair: ViewPair) -> ViewPair:
        i, j = pair.views
        pose = relative_pose(
            *pair.matched(features),
            intrinsics[i],
            intrinsics[j],
            prior=PosePrior(rotation=rotations[j] @ rotations[i].T, rotation_sigma=rotation_sigma) if useful else None,
            tolerance_px=_POSE_TOLERANCE_PX,
            seed=seed,
        )
        return replace(pair, pose=pose)

    # Not in threads: so many small steps only wait for each other there.
    return [pair for pair in map(posed, pairs) if pair.pose is not None and pair.support >= _FEWEST_AGREEING]


def rotation_error(pairs: Sequence[ViewPair], rotations: Float[np.ndarray, "n 3 3"]) -> float | None:
    """How far the relative rotations of a prior are from those of the matches: median over safe pairs, in radians.

    Args:
        pairs: with poses.
        rotations: of the prior, world-to-camera.

    Returns:
        None if there is no safe pair.
    """
    angles = [rotation_away(pair, rotations) for pair in pairs if pair.support >= SAFE_MATCHES]
    return float(np.median(angles)) if angles else None


def rotation_away(pair: ViewPair, rotations: Float[np.ndarray, "n 3 3"]) -> float:
    """Angle between the relative rotation of a pair and that of a prior, in radians.

    Args:
        pair: with a pose.
        rotations: of the prior, world-to-camera.
    """
    assert pair.pose is not None and pair.pose.rotation is not None
    i, j = pair.views
    return float(np.linalg.norm(vector_from_rotation(pair.pose.rotation @ rotations[i] @ rotations[j].T)))
