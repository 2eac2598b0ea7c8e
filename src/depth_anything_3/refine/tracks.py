"""Tracks: keypoints of several views that are the same place.

Matches between pairs of views join keypoints. A wrong match can join two places, which shows when a track holds two
keypoints of one view. Throwing such a track away would let one wrong match cost two good tracks; here matches are
taken from the strongest to the weakest, and one that would put two keypoints of a view into a track is refused, so
that a contaminated track falls apart where it is weakest. What is wrong and consistent stays, for robust losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.types.observations import Observations

__all__ = ["KeypointMatches", "Observations", "Tracks", "build_tracks", "pairwise"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeypointMatches:
    """Matches between keypoints of pairs of views.

    Attributes:
        views: the two views of each match; the order within a match has no meaning.
        keypoints: index of the keypoint in either view.
        xy: its pixel in either view, the centre of the top-left one at (0.5, 0.5).
        weight: from 0 to 1.
    """

    views: Int[np.ndarray, "m 2"]
    keypoints: Int[np.ndarray, "m 2"]
    xy: Float[np.ndarray, "m 2 2"]
    weight: Float[np.ndarray, " m"]

    def __post_init__(self) -> None:
        count = len(self.views)
        shapes = {"views": (count, 2), "keypoints": (count, 2), "xy": (count, 2, 2), "weight": (count,)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise InputError(name, f"shape {np.shape(getattr(self, name))}", f"shape {shape}")
        if count and (self.views.min() < 0 or (self.views[:, 0] == self.views[:, 1]).any()):
            raise InputError("views", "a negative view, or a match of a view with itself", "two different views each")
        if not (np.isfinite(self.xy).all() and np.isfinite(self.weight).all()):
            raise InputError("xy, weight", "a value that is not finite", "finite pixels and weights")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracks:
    """Result of :func:`build_tracks`.

    Attributes:
        count: how many tracks.
        observations: sorted by track and view; a track has at most one in a view. The pixel of a keypoint is the
            weighted mean of what its matches say, its weight that of its strongest match.
        refused: per match, whether it would have put two keypoints of a view into one track.
    """

    count: int
    observations: Observations
    refused: Bool[np.ndarray, " m"]


def build_tracks(matches: KeypointMatches, *, least_views: int = 2) -> Tracks:
    """Join matches to tracks, by union-find from the strongest match to the weakest.

    Keypoints of one view at exactly the same pixel (SIFT gives one per orientation) count as one. Matches of weight
    zero or less are left out, and of equal ones the first comes first.

    Args:
        matches: between any pairs of views.
        least_views: shorter tracks are left out.

    Raises:
        InputError: ``least_views`` is under 2.
    """
    if least_views < 2:
        raise InputError("least_views", str(least_views), "at least 2")
    used = np.flatnonzero(matches.weight > 0)
    order = used[np.argsort(-matches.weight[used], kind="stable")]
    node, view, xy = _nodes(matches, order)
    root, accepted = _join(node, view)
    refused = np.zeros(len(matches.views), np.bool_)
    refused[order[~accepted]] = True
    weight = np.zeros(len(view))
    np.maximum.at(weight, node[accepted], matches.weight[order[accepted], None])
    sizes = np.bincount(root, minlength=len(view))
    kept = np.flatnonzero((sizes[root] >= least_views) & (weight > 0))
    kept = kept[np.lexsort((view[kept], root[kept]))]
    names, track = np.unique(root[kept], return_inverse=True)
    observations = Observations(point=track.astype(np.int64), view=view[kept], xy=xy[kept], weight=weight[kept])
    return Tracks(count=len(names), observations=observations, refused=refused)


def _nodes(matches: KeypointMatches, order: Indices) -> tuple[Indices, Indices, Array]:
    """Keypoints as nodes: node of both ends of each match (M, 2), view (K,) and pixel (K, 2) of each node."""
    ends = np.stack([matches.views[order], matches.keypoints[order]], -1).reshape(-1, 2)
    names, node = np.unique(ends, axis=0, return_inverse=True)
    node = node.reshape(-1)
    share = np.repeat(matches.weight[order], 2)
    total = np.bincount(node, share, len(names))
    flat = matches.xy[order].reshape(-1, 2).astype(np.float64)
    # From the first match on: the mean of equal pixels is then that pixel to the last digit.
    first = np.full((len(names), 2), np.nan)
    first[node[::-1]] = flat[::-1]
    offset = flat - first[node]
    xy = first + np.stack([np.bincount(node, share * offset[:, i], len(names)) for i in (0, 1)], -1) / total[:, None]
    _, chosen, same = np.unique(np.column_stack([names[:, :1], xy]), axis=0, return_index=True, return_inverse=True)
    return same.reshape(-1)[node].reshape(-1, 2), names[chosen, 0].astype(np.int64), xy[chosen]


def _join(node: Indices, view: Indices) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Root of every node (K,), and which matches were accepted (M,)."""
    parent = list(range(len(view)))
    seen = [1 << v for v in view.tolist()]  # the views of a track, as bits of its root
    accepted = np.zeros(len(node), np.bool_)
    for match, (a, b) in enumerate(node.tolist()):
        root_a, root_b = _root(parent, a), _root(parent, b)
        if root_a != root_b:
            if seen[root_a] & seen[root_b]:
                continue
            parent[root_b] = root_a
            seen[root_a] |= seen[root_b]
        accepted[match] = True
    return np.array([_root(parent, k) for k in range(len(parent))], np.int64), accepted


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def pairwise(
    pairs: Sequence[tuple[int, int]],
    keypoints: Sequence[Float[np.ndarray, "k 2"]],
    indices: Sequence[Int[np.ndarray, "m 2"]],
    weights: Sequence[Float[np.ndarray, " m"]] | None = None,
) -> KeypointMatches:
    """Flat matches from what matchers give: one array of index pairs per pair of views.

    Args:
        pairs: the two views of each.
        keypoints: pixels of the keypoints of every view.
        indices: per pair, index of the keypoint in the first and in the second view.
        weights: per pair; None is 1 for all.

    Raises:
        InputError: the lists differ in length, or an index is out of range.
    """
    if len(indices) != len(pairs) or (weights is not None and len(weights) != len(pairs)):
        raise InputError("indices, weights", f"{len(indices)} arrays", f"one per pair, {len(pairs)}")
    views, chosen, xy, weight = [], [], [], []
    for p, (i, j) in enumerate(pairs):
        index = np.asarray(indices[p], np.int64).reshape(-1, 2)
        for side, v in enumerate((i, j)):
            if not 0 <= v < len(keypoints):
                raise InputError("pairs", f"view {v}", f"views from 0 to {len(keypoints) - 1}")
            if len(index) and not 0 <= index[:, side].min() <= index[:, side].max() < len(keypoints[v]):
                raise InputError("indices", f"a keypoint that view {v} lacks", f"0 to {len(keypoints[v]) - 1}")
        views.append(np.tile(np.array([[i, j]], np.int64), (len(index), 1)))
        chosen.append(index)
        xy.append(np.stack([keypoints[i][index[:, 0]], keypoints[j][index[:, 1]]], 1).astype(np.float64))
        weight.append(np.ones(len(index)) if weights is None else np.asarray(weights[p], np.float64))
    return KeypointMatches(
        views=np.concatenate([np.zeros((0, 2), np.int64), *views]),
        keypoints=np.concatenate([np.zeros((0, 2), np.int64), *chosen]),
        xy=np.concatenate([np.zeros((0, 2, 2)), *xy]),
        weight=np.concatenate([np.zeros(0), *weight]),
    )
