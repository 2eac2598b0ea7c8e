"""Lenses: from directions to where they are seen, and back; pictures without distortion.

A lens bends a plane. For the perspective models the plane is that of (X/Z, Y/Z), for the fisheye models and EUCM that
of θ (X, Y) / sqrt(X² + Y²), where θ is the angle to the optical axis. What comes out, times the camera matrix, is the
pixel. With r² = x² + y² on that plane:

* OPENCV, FULL_OPENCV: x a + 2 p1 x y + p2 (r² + 2 x²), y a + 2 p2 x y + p1 (r² + 2 y²); a = 1 + k1 r² + k2 r⁴, in
  FULL_OPENCV (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶) (Brown 1966; the calibration of OpenCV);
* OPENCV_FISHEYE: (x, y) (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) (Kannala and Brandt 2006);
* FOV: the radius becomes atan(2 r tan(ω/2)) / ω (Devernay and Faugeras 2001);
* DIVISION: the radius s with r = s / (1 + k s²) (Fitzgibbon 2001);
* EUCM: the radius sin θ / (α sqrt(β sin² θ + cos² θ) + (1 - α) cos θ) (Khomutenko et al. 2016);
* THIN_PRISM_FISHEYE: as OPENCV with a = 1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸, plus (sx1, sy1) r² (Weng et al. 1992);
* RAD_TAN_THIN_PRISM_FISHEYE: first (x, y) (1 + k0 r² + ... + k5 r¹²); then, with the new x, y, r², plus
  2 (p · (x, y)) (x, y) + r² p, plus (s0 r² + s1 r⁴, s2 r² + s3 r⁴) (the calibration of Project Aria).

All of it is as COLMAP counts its parameters. Everywhere else polynomials turn back, and a second direction meets the
same pixel: directions beyond the radius where that begins count as not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.types.cameras import LENS_MODELS, Lens

MAX_HALF_ANGLE = np.deg2rad(60.0)
"""Most that :func:`pinhole_intrinsics` shows of a fisheye picture to a side; a pinhole stretches what is beyond."""

_ROUNDS = 8
_STEP = 1e-6  # of central differences
_TOLERANCE = 1e-9
_ROWS = 256  # of a picture at a time, so that memory does not grow with it
_RADII, _DIRECTIONS = 512, 8  # where the limit of a lens is looked for
_EQUIDISTANT = frozenset({"OPENCV_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE", "EUCM"})


def distort(rays: Float[np.ndarray, "*batch 3"], lens: Lens) -> Float64[np.ndarray, "*batch 2"]:
    """Where a lens puts directions, on the plane with the focal length one.

    Args:
        rays: (X, Y, Z) of any length, OpenCV axes.
        lens: what bends them.

    Returns:
        What the camera matrix makes pixels of; NaN for directions that the lens does not see.
    """
    flat = rays.astype(np.float64)
    plane = _to_plane(flat, lens)
    with np.errstate(all="ignore"):
        found = _bend(plane, lens)
        found[~(np.hypot(plane[..., 0], plane[..., 1]) <= _limit(lens))] = np.nan
    return found


def undistort(xy: Float[np.ndarray, "*batch 2"], lens: Lens) -> Float64[np.ndarray, "*batch 3"]:
    """The directions, of length one, that a lens puts at ``xy``; NaN where there is none.

    Newton's method, from the inverse of the radial part.
    """
    wanted = xy.astype(np.float64)
    with np.errstate(all="ignore"):
        plane = _first_guess(wanted, lens)
        for _ in range(_ROUNDS):
            miss = wanted - _bend(plane, lens)
            plane = plane + np.clip(_solve(_jacobian(plane, lens), miss), -0.5, 0.5)
        missed = np.abs(_bend(plane, lens) - wanted).max(-1)
        seen = (missed < _TOLERANCE) & (np.hypot(plane[..., 0], plane[..., 1]) <= _limit(lens))
    return _to_rays(np.where(seen[..., None], plane, np.nan), lens)


def pinhole_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], lens: Lens, height: int, width: int
) -> Float64[np.ndarray, "3 3"]:
    """Camera matrix of the picture without distortion: of the same size and centre, filled to its edges.

    The focal length is the shortest for which every pixel of the new picture is inside the old one, and for fisheye
    lenses at least such that no side is farther than :data:`MAX_HALF_ANGLE` from the centre. NaN where the distortion
    cannot be inverted within the picture.
    """
    if lens.is_pinhole:
        return intrinsics.astype(np.float64)
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    x, y = np.arange(width + 1.0), np.arange(height + 1.0)
    sides = (
        np.stack((np.zeros_like(y), y), -1),
        np.stack((np.full_like(y, width), y), -1),
        np.stack((x, np.zeros_like(x)), -1),
        np.stack((x, np.full_like(x, height)), -1),
    )
    left, right, top, bottom = (_side((side - centre) / focal, lens) for side in sides)
    # Each side bends; its innermost point must still be on or outside the same side of the new picture.
    scale = max(
        -centre[0] / focal[0] / left[:, 0].max(),
        (width - centre[0]) / focal[0] / right[:, 0].min(),
        -centre[1] / focal[1] / top[:, 1].max(),
        (height - centre[1]) / focal[1] / bottom[:, 1].min(),
    )
    if lens.model in _EQUIDISTANT:
        reach = max(centre[0], width - centre[0]) / focal[0], max(centre[1], height - centre[1]) / focal[1]
        scale = max(scale, max(reach) / np.tan(MAX_HALF_ANGLE))
    result = intrinsics.astype(np.float64)
    result[:2, :2] *= scale if np.isfinite(scale) and scale > 0 else np.nan
    return result


def undistort_image(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    lens: Lens,
    target: Float[np.ndarray, "3 3"],
    *,
    size: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture that a camera ``target`` without distortion takes, sampled from the one that was taken.

    Args:
        image: as taken.
        intrinsics: camera matrix of ``image``, with ``lens`` in front.
        lens: the lens it was taken with.
        target: camera matrix of the result, of your choice; :func:`pinhole_intrinsics` has one.
        size: height and width of the result; by default those of ``image``.

    Returns:
        Bilinear samples; the edge is repeated outside the picture, and what the lens does not see is black.
    """
    height, width = size or image.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        rows = min(_ROWS, height - top)
        xy = pixel_centres(rows, width) + np.array([0.0, top])
        source = through_lens(rays_through(xy, target), intrinsics, lens)
        unseen = np.isnan(source).any(-1)
        source[unseen] = 0
        x, y = np.moveaxis((source - 0.5).astype(np.float32), -1, 0)  # OpenCV counts from the centre of the first pixel
        part = cv2.remap(image, x.copy(), y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        result[top : top + rows] = np.where(unseen[..., None], 0, part)
    return result


def through_lens(
    rays: Float[np.ndarray, "*batch 3"], intrinsics: Float[np.ndarray, "3 3"], lens: Lens
) -> Float64[np.ndarray, "*batch 2"]:
    """Pixels where a camera sees directions; NaN where it does not see them."""
    return distort(rays, lens) @ intrinsics[:2, :2].T.astype(np.float64) + intrinsics[:2, 2]


def rays_through(
    xy: Float[np.ndarray, "*batch 2"], intrinsics: Float[np.ndarray, "3 3"], lens: Lens | None = None
) -> Float64[np.ndarray, "*batch 3"]:
    """Directions, of length one, that a camera sees in pixels; NaN where it sees none."""
    plane = np.linalg.solve(intrinsics[:2, :2].astype(np.float64), (xy - intrinsics[:2, 2])[..., None])[..., 0]
    return undistort(plane, Lens() if lens is None else lens)


def turned_lens(lens: Lens, rotation: Float[np.ndarray, "2 2"]) -> Lens:
    """The same lens on a camera that was turned about its axis: x, y become ``rotation`` times them.

    What is not symmetric in a lens are vectors, so they turn.
    """
    values = dict(zip(LENS_MODELS[lens.model], lens.coefficients, strict=True))
    for x, y in (("p2", "p1"), ("p0", "p1"), ("sx1", "sy1"), ("s0", "s2"), ("s1", "s3")):
        if x in values and y in values:
            values[x], values[y] = (float(v) for v in rotation @ [values[x], values[y]])
    return Lens(lens.model, tuple(values.values()))


# --- planes ------------------------------------------------------------------------------------------------------


def _to_plane(rays: Float64[np.ndarray, "*batch 3"], lens: Lens) -> Float64[np.ndarray, "*batch 2"]:
    with np.errstate(all="ignore"):
        if lens.model not in _EQUIDISTANT:
            return np.where(rays[..., 2:] > 0, rays[..., :2] / rays[..., 2:], np.nan)
        across = np.hypot(rays[..., 0], rays[..., 1])
        angle = np.arctan2(across, rays[..., 2])
        # On the axis the quotient is 0 / 0; its limit there is 1 / Z.
        factor = np.where(across > 1e-12 * np.abs(rays[..., 2]), angle / across, 1 / rays[..., 2])
    return rays[..., :2] * factor[..., None]


def _to_rays(plane: Float64[np.ndarray, "*batch 2"], lens: Lens) -> Float64[np.ndarray, "*batch 3"]:
    if lens.model not in _EQUIDISTANT:
        rays = np.concatenate((plane, np.ones_like(plane[..., :1])), -1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    angle = np.hypot(plane[..., 0], plane[..., 1])[..., None]
    return np.concatenate((plane * np.sinc(angle / np.pi), np.cos(angle)), -1)


def _side(xy: Float64[np.ndarray, "n 2"], lens: Lens) -> Float64[np.ndarray, "n 2"]:
    """X/Z and Y/Z of points of one side of a picture; of fisheye pictures only of those that are in front.

    The corners of a fisheye picture may be beyond what the lens shows.
    """
    rays = undistort(xy, lens)
    if lens.model in _EQUIDISTANT:
        rays = rays[rays[:, 2] > np.cos(MAX_HALF_ANGLE)]
        if not len(rays):  # all of the side is farther out than what will be shown of it
            return np.where(xy < 0, -np.inf, np.inf)
    return rays[:, :2] / rays[:, 2:]


@lru_cache(maxsize=256)
def _profile(lens: Lens) -> tuple[Float64[np.ndarray, " r"], Float64[np.ndarray, " r"]]:
    """Radii on the plane that the lens sees, and the mean radius that each is bent to."""
    far = np.pi if lens.model in _EQUIDISTANT else np.deg2rad(88.0)
    radii = np.linspace(0, far, _RADII)
    if lens.model not in _EQUIDISTANT:
        radii = np.tan(radii)
    around = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    directions = np.stack((np.cos(around), np.sin(around)), -1)
    plane = radii[:, None, None] * directions
    with np.errstate(all="ignore"):
        bent = (_bend(plane, lens) * directions).sum(-1)
        outward = (np.diff(bent, axis=0) > 0).all(-1) & (np.linalg.det(_jacobian(plane[1:], lens)) > 0).all(-1)
    count = len(radii) if outward.all() else int(np.argmin(outward)) + 1
    return radii[:count], bent[:count].mean(-1)


def _limit(lens: Lens) -> float:
    return np.inf if lens.is_pinhole else float(_profile(lens)[0][-1])


def _first_guess(wanted: Float64[np.ndarray, "*batch 2"], lens: Lens) -> Float64[np.ndarray, "*batch 2"]:
    if lens.is_pinhole:
        return wanted
    radii, bent = _profile(lens)
    radius = np.hypot(wanted[..., 0], wanted[..., 1])
    return wanted * np.where(radius > 0, np.interp(radius, bent, radii) / radius, 1.0)[..., None]


def _jacobian(plane: Float64[np.ndarray, "*batch 2"], lens: Lens) -> Float64[np.ndarray, "*batch 2 2"]:
    step = np.eye(2) * _STEP
    return np.stack([(_bend(plane + s, lens) - _bend(plane - s, lens)) / (2 * _STEP) for s in step], -1)


def _solve(
    matrices: Float64[np.ndarray, "*batch 2 2"], values: Float64[np.ndarray, "*batch 2"]
) -> Float64[np.ndarray, "*batch 2"]:
    """Solutions of 2x2 systems; not finite, and no error, where a matrix is singular."""
    (a, b), (c, d) = (np.moveaxis(matrices[..., i, :], -1, 0) for i in range(2))
    x, y = np.moveaxis(values, -1, 0)
    return np.stack((d * x - b * y, a * y - c * x), -1) / (a * d - b * c)[..., None]


# --- formulas ----------------------------------------------------------------------------------------------------


def _bend(plane: Float64[np.ndarray, "*batch 2"], lens: Lens) -> Float64[np.ndarray, "*batch 2"]:
    if lens.is_pinhole:
        return plane.copy()
    return _FORMULAS[lens.model](plane, *lens.coefficients)


def _square(xy: np.ndarray) -> np.ndarray:
    return (xy * xy).sum(-1, keepdims=True)


def _series(r2: np.ndarray, *k: float) -> np.ndarray:
    """1 + k[0] r2 + k[1] r2² + ..."""
    total = np.zeros_like(r2)
    for value in reversed(k):
        total = (total + value) * r2
    return 1 + total


def _decentred(xy: np.ndarray, r2: np.ndarray, px: float, py: float) -> np.ndarray:
    return 2 * (xy * (px, py)).sum(-1, keepdims=True) * xy + r2 * (px, py)


def _opencv(xy: np.ndarray, k1: float, k2: float, p1: float, p2: float) -> np.ndarray:
    r2 = _square(xy)
    return xy * _series(r2, k1, k2) + _decentred(xy, r2, p2, p1)


def _full_opencv(
    xy: np.ndarray, k1: float, k2: float, p1: float, p2: float, k3: float, k4: float, k5: float, k6: float
) -> np.ndarray:
    r2 = _square(xy)
    return xy * _series(r2, k1, k2, k3) / _series(r2, k4, k5, k6) + _decentred(xy, r2, p2, p1)


def _fov(xy: np.ndarray, omega: float) -> np.ndarray:
    r = np.sqrt(_square(xy))
    slope = 2 * np.tan(omega / 2)
    return xy * np.where(r > 1e-12, np.arctan(r * slope) / r, slope) / omega


def _division(xy: np.ndarray, k: float) -> np.ndarray:
    return xy * 2 / (1 + np.sqrt(1 - 4 * k * _square(xy)))


def _eucm(xy: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    angle = np.sqrt(_square(xy))
    sine, cosine = np.sin(angle), np.cos(angle)
    depth = alpha * np.sqrt(beta * sine * sine + cosine * cosine) + (1 - alpha) * cosine
    return xy * np.sinc(angle / np.pi) / np.where(depth > 0, depth, np.nan)


def _opencv_fisheye(xy: np.ndarray, *k: float) -> np.ndarray:
    return xy * _series(_square(xy), *k)


def _thin_prism_fisheye(
    xy: np.ndarray, k1: float, k2: float, p1: float, p2: float, k3: float, k4: float, sx1: float, sy1: float
) -> np.ndarray:
    r2 = _square(xy)
    return xy * _series(r2, k1, k2, k3, k4) + _decentred(xy, r2, p2, p1) + r2 * (sx1, sy1)


def _rad_tan_thin_prism_fisheye(xy: np.ndarray, *c: float) -> np.ndarray:
    k, (p0, p1, s0, s1, s2, s3) = c[:6], c[6:]
    bent = xy * _series(_square(xy), *k)
    r2 = _square(bent)
    return bent + _decentred(bent, r2, p0, p1) + r2 * (s0, s2) + r2 * r2 * (s1, s3)


_FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "OPENCV": _opencv,
    "FULL_OPENCV": _full_opencv,
    "FOV": _fov,
    "DIVISION": _division,
    "EUCM": _eucm,
    "OPENCV_FISHEYE": _opencv_fisheye,
    "THIN_PRISM_FISHEYE": _thin_prism_fisheye,
    "RAD_TAN_THIN_PRISM_FISHEYE": _rad_tan_thin_prism_fisheye,
}
