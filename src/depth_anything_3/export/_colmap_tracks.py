"""Points with the pixels that see them: matched by refinement, or where views agree on depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.export._points import point_pixels, thinned
from depth_anything_3.export._source_pixels import source_from_processed, source_intrinsics
from depth_anything_3.export.colmap import Options
from depth_anything_3.geometry.pinhole import pixel_centres, project, unproject
from depth_anything_3.refine.triangulate import triangulate
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.prediction import Prediction, usable_pixels

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_LEAST_ANGLE = np.radians(0.25)  # between the rays to a matched point: its depth is nothing but noise below


@dataclass(frozen=True)
class Tracks:
    """P points and O observations.

    Attributes:
        xyz: (P, 3) in the world of the prediction.
        rgb: (P, 3).
        point: (O,) row of the point, ascending.
        view: (O,).
        xy: (O, 2) where, in pixels of the upright source pictures.
    """

    xyz: Array
    rgb: npt.NDArray[np.uint8]
    point: Index
    view: Index
    xy: Array


def find_tracks(prediction: Prediction, views: Index, options: Options) -> Tracks:
    """The points of a model.

    Args:
        prediction: with cameras and pictures.
        views: those with usable cameras.
        options: ``tracks`` says where the points come from.

    Raises:
        InputError: ``tracks="matches"`` for a prediction that was not refined.
    """
    matched = _NOTHING if options.tracks == "depth" else matched_tracks(prediction, views, options)
    if options.tracks == "matches":
        if prediction.observations is None:
            raise InputError("tracks", "'matches' for a prediction without any", "a refined one", ("auto", "depth"))
        return matched
    room = options.num_max_points - len(matched.xyz)
    if not room:
        return matched
    agreed = _depth_tracks(prediction, views, replace(options, num_max_points=room))
    return _joined([matched, _unseen(agreed)]) if len(matched.xyz) else agreed


def matched_tracks(prediction: Prediction, views: Index, options: Options) -> Tracks:
    """The points that refinement matched, triangulated with the cameras as they are; none where there are none.

    What is behind a camera or seen along nearly one ray is left out, as are observations of pixels without usable
    depth and points with fewer observations than asked for.
    """
    seen = prediction.observations
    if seen is None or len(views) < 2:
        return _NOTHING
    row, column = _processed_pixels(prediction, seen.view, seen.xy)
    used: npt.NDArray[np.bool_] = np.isin(seen.view, views) & usable_pixels(prediction)[seen.view, row, column]
    seen = seen.where(used)
    assert prediction.extrinsics is not None
    order = np.argsort(seen.point, kind="stable")
    names, point = np.unique(seen.point[order], return_inverse=True)
    seen = replace(seen.where(order), point=point.astype(np.int64))
    number = np.full(len(prediction.depth), -1)
    number[views] = np.arange(len(views))
    found = triangulate(
        replace(seen, view=number[seen.view]),
        len(names),
        prediction.extrinsics[views].astype(np.float64),
        source_intrinsics(prediction)[views],
        least_angle=_LEAST_ANGLE,
    )
    good = found.good & np.isfinite(found.places).all(-1)
    tracks = Tracks(np.where(good[:, None], found.places, 0), _colours(prediction, seen), point, seen.view, seen.xy)
    tracks = _long_enough(_take(tracks, good), max(min(options.min_views, len(views)), 2))
    return _longest(tracks, options.num_max_points)


def _processed_pixels(prediction: Prediction, view: Index, xy: Array) -> tuple[Index, Index]:
    """Row and column of the processed pixel under each source pixel, the nearest one where that was cropped."""
    matrices = np.linalg.inv(source_from_processed(prediction))[view]
    place = np.einsum("oij,oj->oi", matrices[:, :2, :2], xy) + matrices[:, :2, 2]
    height, width = prediction.depth.shape[1:]
    column, row = np.floor(place).astype(np.int64).T
    return row.clip(0, height - 1), column.clip(0, width - 1)


def _colours(prediction: Prediction, seen: Observations) -> npt.NDArray[np.uint8]:
    """(P, 3): of the first observation of each point."""
    assert prediction.processed_images is not None
    _, first = np.unique(seen.point, return_index=True)
    row, column = _processed_pixels(prediction, seen.view[first], seen.xy[first])
    return prediction.processed_images[seen.view[first], row, column]


def _longest(tracks: Tracks, count: int) -> Tracks:
    """At most so many points, those that most views see."""
    if len(tracks.xyz) <= count:
        return tracks
    length = np.bincount(tracks.point, minlength=len(tracks.xyz))
    chosen = np.zeros(len(length), np.bool_)
    chosen[np.argsort(-length, kind="stable")[:count]] = True
    return _take(tracks, chosen)


def _unseen(tracks: Tracks) -> Tracks:
    """The points without their observations."""
    return replace(_NOTHING, xyz=tracks.xyz, rgb=tracks.rgb)


def _joined(parts: list[Tracks]) -> Tracks:
    first = np.cumsum([0, *(len(part.xyz) for part in parts)])
    shifted = [replace(part, point=part.point + start) for part, start in zip(parts, first[:-1], strict=True)]
    names = ("xyz", "rgb", "point", "view", "xy")
    return Tracks(**{name: np.concatenate([getattr(part, name) for part in shifted]) for name in names})


def _depth_tracks(prediction: Prediction, views: Index, options: Options) -> Tracks:
    """Points of each view in turn, at pixels where no point of an earlier view was observed."""
    usable = np.isin(np.arange(len(prediction.depth)), views)
    keep = point_pixels(prediction, options) & usable[:, None, None]
    free, quota = keep.copy(), -(-options.num_max_points // len(views))
    least = min(options.min_views, len(views))
    parts = [_NOTHING]
    for view in views.tolist():
        seeds = thinned(free[view], quota)
        if not seeds.any():
            continue
        part = _tracks_of_view(prediction, keep, view, seeds, views, options.depth_tolerance)
        part = _long_enough(part, least)
        for other in views.tolist():
            column, row = np.floor(part.xy[part.view == other]).astype(int).T
            free[other, row, column] = False
        parts.append(part)
    found = _joined(parts)
    return _to_source(prediction, _take(found, np.arange(len(found.xyz)) < options.num_max_points))


def _to_source(prediction: Prediction, tracks: Tracks) -> Tracks:
    matrices = source_from_processed(prediction)[tracks.view]
    return replace(tracks, xy=np.einsum("oij,oj->oi", matrices[:, :2, :2], tracks.xy) + matrices[:, :2, 2])


_NOTHING = Tracks(
    np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
)


def _tracks_of_view(
    prediction: Prediction,
    keep: npt.NDArray[np.bool_],
    view: int,
    seeds: npt.NDArray[np.bool_],
    views: Index,
    tolerance: float,
) -> Tracks:
    """All seeds, each with its observations in processed pixels; a point is the mean of what its views say."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    assert prediction.processed_images is not None
    depth = np.where(seeds, prediction.depth[view], 1).astype(np.float64)
    points = unproject(depth, prediction.intrinsics[view], prediction.extrinsics[view])[seeds]
    own = pixel_centres(*seeds.shape)[seeds]
    rows, total, seen = np.arange(len(points)), points.copy(), np.ones(len(points))
    found: list[tuple[Index, int, Array]] = [(rows, view, own)]
    for other in views.tolist():
        if other == view:
            continue
        agree, xy, said = _agreement(prediction, keep[other], other, points, tolerance)
        total[agree] += said
        seen[agree] += 1
        found.append((rows[agree], other, xy))
    point = np.concatenate([index for index, _, _ in found])
    order = np.argsort(point, kind="stable")
    return Tracks(
        xyz=total / seen[:, None],
        rgb=prediction.processed_images[view][seeds],
        point=point[order],
        view=np.repeat([v for _, v, _ in found], [len(index) for index, _, _ in found])[order],
        xy=np.concatenate([xy for _, _, xy in found])[order],
    )


def _agreement(
    prediction: Prediction, keep: npt.NDArray[np.bool_], view: int, points: Array, tolerance: float
) -> tuple[npt.NDArray[np.bool_], Array, Array]:
    """Which points a view sees at its own depth; where it sees those; and where it says that they are."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    intrinsics, pose = (m[view].astype(np.float64) for m in (prediction.intrinsics, prediction.extrinsics))
    xy, z = project(points, intrinsics, pose)
    depth = _depth_at(prediction.depth[view], keep, xy)
    with np.errstate(invalid="ignore"):
        agree = (z > 0) & (np.abs(depth - z) <= tolerance * z)
    # Along the same ray, at this view's depth: z-depth and distance to the centre grow together.
    rotation = pose[:, :3]
    centre = -np.linalg.solve(rotation, pose[:, 3])
    share = depth[agree] / z[agree]
    return agree, xy[agree], centre + (points[agree] - centre) * share[:, None]


def _depth_at(depth: npt.NDArray[np.float32], keep: npt.NDArray[np.bool_], xy: Array) -> Array:
    """Depth between the centres of four kept pixels, NaN elsewhere: bilinear in 1 / depth, as planes are."""
    height, width = depth.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.where(keep, 1 / depth.astype(np.float64), np.nan)
        inside = np.asarray(((xy >= 0.5) & (xy < [width - 0.5, height - 0.5])).all(-1))
    place = np.where(inside[:, None], xy - 0.5, 0)
    column, row = np.floor(place).astype(int).T
    x, y = (place % 1).T
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    upper = (1 - x) * inverse[row, column] + x * inverse[row, right]
    lower = (1 - x) * inverse[below, column] + x * inverse[below, right]
    return np.asarray(np.where(inside, 1 / ((1 - y) * upper + y * lower), np.nan))


def _long_enough(tracks: Tracks, least: int) -> Tracks:
    lengths = np.bincount(tracks.point, minlength=len(tracks.xyz))
    return _take(tracks, lengths >= least)


def _take(tracks: Tracks, chosen: npt.NDArray[np.bool_]) -> Tracks:
    number, mine = np.cumsum(chosen) - 1, chosen[tracks.point]
    return Tracks(
        tracks.xyz[chosen], tracks.rgb[chosen], number[tracks.point[mine]], tracks.view[mine], tracks.xy[mine]
    )
