"""A panorama or a fisheye picture as several pinhole pictures, and their depth as one map of distances.

The pinhole pictures stand in one place, so their relative poses are known. The network sees them together where it can
be conditioned on poses. What is left of their disagreement is one factor each, found where they overlap
(:mod:`depth_anything_3.geometry.scales`); the rest is blended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.distortion import rays_through, through_lens
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.geometry.scales import Overlap, common_scales, seam
from depth_anything_3.geometry.sphere import (
    TangentViews,
    equirectangular_pixels,
    equirectangular_rays,
    tangent_views,
)
from depth_anything_3.types.cameras import Lens
from depth_anything_3.types.panorama import Panorama
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

_MOST = 1536  # side of a tangent view in pixels
_EDGE = 1.05  # ratio of distances of neighbours from which on they are of two surfaces
_SAMPLES = 200_000  # rays that overlaps are judged by


Predict = Callable[[Sequence[Picture], Array, Array], Prediction]
"""Depth of N pictures with known (N, 3, 4) world-to-camera poses and (N, 3, 3) intrinsics in pixels, in one unit."""


def infer_panorama(
    predict: Predict,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
    lens: Lens | None = None,
    fov_deg: float = 100.0,
) -> Panorama:
    """Distances on the pixels of a picture that no pinhole can show.

    Args:
        predict: what gives the tangent views their depth.
        image: equirectangular, 360 by 180 degrees; or through ``lens``.
        intrinsics, lens: of a picture that is not equirectangular.
        fov_deg: of the tangent views.

    Raises:
        InputError: an equirectangular picture that is not twice as wide as high, or a lens without intrinsics.
    """
    rays, pixels_per_radian = _camera(image.shape[:2], intrinsics, lens)
    reach = float(np.degrees(np.arccos(np.nanmin(rays[..., 2]).clip(-1, 1)))) if lens is not None else 180.0
    size = round(2 * pixels_per_radian * np.tan(np.deg2rad(fov_deg) / 2))
    views = tangent_views(int(np.clip(size, 14, _MOST)), fov_deg=fov_deg, half_angle_deg=reach)
    pictures = [_tangent_picture(image, views, i, intrinsics, lens) for i in range(len(views))]
    prediction = predict(pictures, views.extrinsics, np.repeat(views.intrinsics[None], len(views), 0))
    return merge_tangent_views(prediction, views, rays)


def merge_tangent_views(prediction: Prediction, views: TangentViews, rays: Float[np.ndarray, "h w 3"]) -> Panorama:
    """The distances that tangent views give to rays, after one factor per view.

    Args:
        prediction: of the views, in their order; each map covers its view entirely.
        views: their cameras.
        rays: unit directions; NaN where nothing is seen.
    """
    height, width = rays.shape[:2]
    step = max(1, int(np.ceil(np.sqrt(height * width / _SAMPLES))))
    coarse = rays[::step, ::step].reshape(-1, 3)
    samples = [_distance_along(prediction, views, i, coarse) for i in range(len(views))]
    overlaps = list(_overlaps(samples))
    scales = common_scales(len(views), overlaps)
    scaled = replace(prediction, depth=(prediction.depth * scales[:, None, None]).astype(np.float32))
    distance, conf, sky, shown = _blended(scaled, views, rays)
    return Panorama(
        distance=distance,
        rays=rays.astype(np.float32),
        is_metric=prediction.is_metric,
        conf=conf,
        sky=sky,
        views=scaled,
        scales=tuple(scales.tolist()),
        seam_before=seam(overlaps),
        seam=seam(overlaps, scales),
        coverage=float(shown[np.isfinite(rays).all(-1)].mean()),
    )


def _camera(
    size: tuple[int, int], intrinsics: Float[np.ndarray, "3 3"] | None, lens: Lens | None
) -> tuple[Array, float]:
    """Unit rays of the picture's pixels, and its pixels per radian where it looks straight ahead."""
    height, width = size
    if lens is None:
        if intrinsics is not None:
            raise InputError("intrinsics", "a camera matrix without a lens", "none for an equirectangular picture")
        if abs(width - 2 * height) > 1:
            raise InputError("image", f"{width} x {height} pixels", "an equirectangular picture, twice as wide as high")
        return equirectangular_rays(height, width), width / (2 * np.pi)
    if intrinsics is None:
        raise InputError("intrinsics", "None beside a lens", "the 3x3 camera matrix that belongs to it")
    rays = rays_through(pixel_centres(height, width), intrinsics, lens)
    if not np.isfinite(rays).any():
        raise InputError("lens", repr(lens), "a lens that sees the pixels of the picture")
    return rays, float(np.sqrt(intrinsics[0, 0] * intrinsics[1, 1]))


def _tangent_picture(
    image: Picture, views: TangentViews, index: int, intrinsics: Float[np.ndarray, "3 3"] | None, lens: Lens | None
) -> Picture:
    rays = views.rays(index)
    if lens is None or intrinsics is None:
        xy = equirectangular_pixels(rays, *image.shape[:2]) - 0.5 + 1  # one more column on either side
        wrapped = np.concatenate([image[:, -1:], image, image[:, :1]], 1)
        xy[..., 1] -= 1
    else:
        xy, wrapped = through_lens(rays, intrinsics, lens) - 0.5, image
    inside = np.asarray(np.isfinite(xy).all(-1))
    if lens is not None:
        inside &= (xy > -1).all(-1) & (xy < (image.shape[1], image.shape[0])).all(-1)
    x, y = np.moveaxis(np.where(inside[..., None], xy, 0).astype(np.float32), -1, 0)
    picture = cv2.remap(wrapped, x.copy(), y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(inside[..., None], picture, 0).astype(np.uint8)


# --- back on the sphere ------------------------------------------------------------------------------------------


def _distance_along(prediction: Prediction, views: TangentViews, view: int, rays: Array) -> Array:
    """Log distance that a view gives to P rays; NaN where it shows nothing, or sky."""
    depth = prediction.depth[view].astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if prediction.sky is not None:
        known &= ~prediction.sky[view]
    log_depth = np.where(known, np.log(np.where(known, depth, 1.0)), np.nan)
    place = views.seen(view, rays)
    local = rays @ views.rotations[view].T
    with np.errstate(divide="ignore", invalid="ignore"):
        return _sampled(log_depth, place) - np.log(local[..., 2])  # the ray with z = 1 is so much longer than one


def _overlaps(samples: Sequence[Array]) -> list[Overlap]:
    found = []
    for i, j in combinations(range(len(samples)), 2):
        ratio = samples[i] - samples[j]
        if np.isfinite(ratio).any():
            found.append(Overlap(i, j, ratio[np.isfinite(ratio)]))
    return found


def _sampled(values: Array, place: Array) -> Array:
    """A map at places from -1 to 1: linear on a surface, the nearest pixel where two meet; NaN outside."""
    height, width = values.shape
    x, y = ((place[..., i] + 1) / 2 * n - 0.5 for i, n in ((0, width), (1, height)))
    outside = ~np.isfinite(place).all(-1)
    x, y = np.where(outside, 0, x).clip(0, width - 1), np.where(outside, 0, y).clip(0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    corners = np.stack([values[top, left], values[top, right], values[bottom, left], values[bottom, right]])
    fx, fy = x - left, y - top
    weights = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    smooth = (corners * weights).sum(0)
    nearest = values[np.round(y).astype(int), np.round(x).astype(int)]
    flat = np.ptp(corners, axis=0) < np.log(_EDGE)  # False where a corner is NaN
    return np.where(outside, np.nan, np.where(flat, smooth, nearest))


def _blended(
    prediction: Prediction, views: TangentViews, rays: Array
) -> tuple[
    npt.NDArray[np.float32], npt.NDArray[np.float32] | None, npt.NDArray[np.bool_] | None, npt.NDArray[np.bool_]
]:
    """Distance, confidence, sky: means of the views, weighted by how far inside of each a ray is; and what is shown."""
    shape = rays.shape[:2]
    total, log_sum, conf_sum, sky_sum, any_weight = (np.zeros(shape) for _ in range(5))
    for view in range(len(views)):
        place = views.seen(view, rays)
        weight = np.nan_to_num(1.001 - np.abs(place).max(-1), nan=0.0)  # never 0 inside
        log_distance = _distance_along(prediction, views, view, rays)
        known = np.isfinite(log_distance)
        total += np.where(known, weight, 0)
        log_sum += np.where(known, weight * np.where(known, log_distance, 0), 0)
        any_weight += weight
        if prediction.conf is not None:
            sampled = _sampled(prediction.conf[view].astype(np.float64), place)
            conf_sum += weight * np.nan_to_num(sampled, nan=1.0)
        if prediction.sky is not None:
            sky_sum += weight * (np.nan_to_num(_sampled(prediction.sky[view].astype(np.float64), place)) > 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(total > 0, np.exp(log_sum / total), np.nan).astype(np.float32)
        conf = np.where(any_weight > 0, conf_sum / any_weight, 1.0).astype(np.float32)
        sky = 2 * sky_sum > np.maximum(any_weight, 1e-9)
    has_conf, has_sky = prediction.conf is not None, prediction.sky is not None
    return distance, conf if has_conf else None, sky if has_sky else None, any_weight > 0
