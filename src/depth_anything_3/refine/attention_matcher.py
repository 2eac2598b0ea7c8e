"""Matches where texture is thin: the network says which patches are alike, the pictures say where exactly.

Each patch has one keypoint, its most corner-like pixel. Where the best patch of another view looks back, the window
round the keypoint is searched there by normalised cross-correlation, and what is found must lead back to the keypoint.
So one keypoint is followed into every view: what is found there are keypoints of these views, which match it and each
other. Found within a pixel or so of a patch's own keypoint, it is that keypoint, which joins the two.

Where correlation fails, the attention alone is off by a good part of a patch, dozens of pixels of the picture: far
more than what an epipolar line tolerates, so that there is then no match.

Letters: N views, P patches, k keypoints of a view.
"""

from __future__ import annotations

from itertools import combinations, permutations

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Float32, Int

from depth_anything_3.refine.features import Features
from depth_anything_3.refine.matchers import Matched, NetworkPatches, ViewsToMatch, needed_patches
from depth_anything_3.types.options import PATCH_SIZE

Array = npt.NDArray[np.float64]
Picture = npt.NDArray[np.float32]
Track = dict[int, int]

_WINDOW = 15  # pixels to either side of a keypoint
_LEAST_CORRELATION = 0.85
_LEAST_CORNER = 1e-5  # smaller eigenvalue of the structure tensor, of brightness from 0 to 1
_BACK_PX, _SAME_PX = 1.5, 1.5  # how near a match has to come back; how near two keypoints are one
_FEWEST = 15  # patches that look at each other in two views that are worth a search
_REACH = 1.5  # patches to either side of the middle of the one that is searched
_WEIGHT = 0.25  # of an observation: located half as well as a good keypoint


def match_attention(views: ViewsToMatch) -> Matched:
    """Keypoints of patches, and where other views show them.

    Args:
        views: with patches of the network.

    Raises:
        CapabilityError: without these.
    """
    patches = needed_patches(views)
    best = patches.best()
    pictures = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for image in views.images]
    masks = [None] * len(pictures) if views.masks is None else list(views.masks)
    corners = [
        patch_corners(picture, _edges(patches, view), patches.grid, mask)
        for view, (picture, mask) in enumerate(zip(pictures, masks, strict=True))
    ]
    xy = [list(found) for found in corners]
    tracks = [dict[int, Track]() for _ in pictures]
    for i, j in permutations(range(len(pictures)), 2):
        for patch, place in _found(pictures, corners, best, patches, i, j).items():
            keypoint = _own(corners[j], place)
            if keypoint is None:
                keypoint = len(xy[j])
                xy[j].append(place)
            tracks[i].setdefault(patch, {i: patch})[j] = keypoint
    return Matched(features=[_features(np.array(places)) for places in xy], pairs=_pairs(tracks))


def looking_back(there: Int[np.ndarray, " P"], back: Int[np.ndarray, " P"], columns: int) -> Bool[np.ndarray, " P"]:
    """Patches whose best patch looks back at them or at a patch beside them.

    Args:
        there: best patches of another view.
        back: those of its patches in this view.
        columns: patches in a row of this view.
    """
    own, returned = np.arange(len(there)), back[there]
    beside = np.maximum(np.abs(own // columns - returned // columns), np.abs(own % columns - returned % columns))
    return beside <= 1


def patch_corners(
    picture: Float32[np.ndarray, "h w"],
    edges: tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " rows"]],
    grid: tuple[int, int],
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> Float[np.ndarray, "P 2"]:
    """The most corner-like pixel of every patch (Shi and Tomasi 1994); NaN where there is none.

    Args:
        picture: brightness from 0 to 1.
        edges: x of the left sides and of the last right side of the columns of patches, likewise y of the rows.
        grid: rows and columns of patches.
        mask: where keypoints may lie.
    """
    corner = cv2.cornerMinEigenVal(picture, blockSize=5, ksize=3)
    inside = np.zeros(picture.shape, np.bool_)
    inside[_WINDOW + 1 : -_WINDOW - 1, _WINDOW + 1 : -_WINDOW - 1] = True
    corner[~inside if mask is None else ~(inside & mask)] = 0
    x, y = (np.round(edge).astype(int).clip(0, side) for edge, side in zip(edges, picture.shape[::-1], strict=True))
    found = np.full((grid[0] * grid[1], 2), np.nan)
    for patch in range(len(found)):
        row, column = divmod(patch, grid[1])
        cell = corner[y[row] : y[row + 1], x[column] : x[column + 1]]
        if cell.size and cell.max() > _LEAST_CORNER:
            place = np.unravel_index(cell.argmax(), cell.shape)
            found[patch] = x[column] + place[1] + 0.5, y[row] + place[0] + 0.5
    return found


def find_window(one: Picture, xy: Array, other: Picture, around: Array, reach: Array) -> Array | None:
    """Where a picture shows the window round a pixel of another one, to a fraction of a pixel; None if nowhere.

    Args:
        one: brightness.
        xy: pixel of it.
        other: brightness.
        around: pixel of the other picture, in the middle of what is searched.
        reach: how far to either side, in x and y.
    """
    x, y = np.floor(xy).astype(int)
    low = np.maximum(np.floor(around - reach).astype(int) - _WINDOW, 0)
    high = np.minimum(np.floor(around + reach).astype(int) + _WINDOW + 1, other.shape[::-1])
    window = one[max(y - _WINDOW, 0) : y + _WINDOW + 1, max(x - _WINDOW, 0) : x + _WINDOW + 1]
    side = 2 * _WINDOW + 1
    if window.shape != (side, side) or (high - low < side + 2).any():
        return None
    score: Picture = np.asarray(
        cv2.matchTemplate(other[low[1] : high[1], low[0] : high[0]], window, cv2.TM_CCOEFF_NORMED), np.float32
    )
    _, top, _, (column, row) = cv2.minMaxLoc(score)
    if not np.isfinite(top) or top < _LEAST_CORRELATION:
        return None
    if not (0 < row < score.shape[0] - 1 and 0 < column < score.shape[1] - 1):
        return None  # the best is likely to lie beyond
    offset = np.array([_peak(score[row, column - 1 : column + 2]), _peak(score[row - 1 : row + 2, column])])
    found: Array = low + np.array([column, row]) + _WINDOW + 0.5 + offset + (xy - np.floor(xy) - 0.5)
    return found


def _peak(values: Picture) -> float:
    """Top of the parabola through three values, from the middle one, which is the largest."""
    left, middle, right = (float(v) for v in values)
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend


def _found(
    pictures: list[Picture], corners: list[Array], best: npt.NDArray[np.int64], patches: NetworkPatches, i: int, j: int
) -> dict[int, Array]:
    """Per patch of view i, where view j shows its keypoint."""
    mutual = np.flatnonzero(looking_back(best[i, j], best[j, i], patches.grid[1]))
    if len(mutual) < _FEWEST:
        return {}
    centres = _centres(patches, j)
    reach_there, reach_back = (_REACH * _patch_size(patches, view) for view in (j, i))
    found: dict[int, Array] = {}
    for patch in mutual[np.isfinite(corners[i][mutual, 0])].tolist():
        start = corners[i][patch]
        place = find_window(pictures[i], start, pictures[j], centres[best[i, j, patch]], reach_there)
        if place is None:
            continue
        back = find_window(pictures[j], place, pictures[i], start, reach_back)
        if back is not None and np.linalg.norm(back - start) < _BACK_PX:
            found[patch] = place
    return found


def _own(corners: Array, place: Array) -> int | None:
    """The patch whose keypoint lies at a place."""
    away = np.linalg.norm(np.nan_to_num(corners, nan=np.inf) - place, axis=1)
    nearest = int(away.argmin())
    return nearest if away[nearest] < _SAME_PX else None


def _pairs(tracks: list[dict[int, Track]]) -> dict[tuple[int, int], npt.NDArray[np.int64]]:
    """Matches between all views that a keypoint was found in."""
    found: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for track in (track for view in tracks for track in view.values()):
        for i, j in combinations(sorted(track), 2):
            found.setdefault((i, j), set()).add((track[i], track[j]))
    return {pair: np.array(sorted(matches), np.int64) for pair, matches in sorted(found.items())}


def _features(places: Array) -> Features:
    known = np.isfinite(places)
    return Features(
        xy=np.where(known, places, 0.0),  # a patch without a keypoint, which nothing matches
        descriptors=np.zeros((len(places), 0), np.float32),
        weight=np.full(len(places), _WEIGHT),
    )


def _edges(patches: NetworkPatches, view: int) -> tuple[Array, Array]:
    to_picture, (rows, columns) = patches.pictures[view], patches.grid
    x = np.arange(columns + 1) * PATCH_SIZE * to_picture[0, 0] + to_picture[0, 2]
    y = np.arange(rows + 1) * PATCH_SIZE * to_picture[1, 1] + to_picture[1, 2]
    return x, y


def _centres(patches: NetworkPatches, view: int) -> Array:
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in _edges(patches, view))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _patch_size(patches: NetworkPatches, view: int) -> Array:
    return PATCH_SIZE * np.diag(patches.pictures[view])[:2]
