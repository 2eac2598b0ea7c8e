"""Which other views tell most about the depth of a view."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from depth_anything_3.geometry.pinhole import camera_centres, project, unproject

_SAMPLES = 12  # pixels along each side of a picture that are tried
_BEST_ANGLE = np.radians(6.0)  # between the rays to a point: below, depth gets vague
_LEAST_ANGLE = np.radians(0.25)  # smaller ones say nothing: a pixel more or less is half the depth
_WIDE_ANGLE = np.radians(25.0)  # above, the pictures get unlike
_LEAST_SHARE = 0.1  # of the pixels


def choose_sources(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    count: int,
) -> list[Int[np.ndarray, " s"]]:
    """For every view the others that see most of it, from an angle that helps, best first.

    A pixel that another view sees counts by ``min(a / 6 deg, 1, 25 deg / a)``, a being the angle between the rays;
    under a quarter of a degree it does not count.

    Args:
        depth: roughly; what is not finite and positive is left out.
        intrinsics: in pixels of the depth.
        extrinsics: world-to-camera.
        count: at most so many each.

    Returns:
        per view, indices of views; none where no view sees a tenth of its pixels.
    """
    height, width = depth.shape[1:]
    rows, columns = (np.unique(np.linspace(0, n - 1, min(_SAMPLES, n)).astype(int)) for n in (height, width))
    centres = camera_centres(extrinsics)
    worth = np.zeros((len(depth), len(depth)))
    for i in range(len(depth)):
        points = unproject(depth[i], intrinsics[i], extrinsics[i])[np.ix_(rows, columns)].reshape(-1, 3)
        z = depth[i][np.ix_(rows, columns)].ravel()
        points = points[np.isfinite(z) & (z > 0)].astype(np.float64)
        if len(points):
            worth[i] = _worth(points, i, centres, (height, width), intrinsics, extrinsics)
    order = np.argsort(-worth, axis=1, kind="stable")
    return [row[worth[i, row] > 0][:count] for i, row in enumerate(order)]


def _worth(
    points: npt.NDArray[np.float64],
    view: int,
    centres: npt.NDArray[np.floating],
    size: tuple[int, int],
    intrinsics: npt.NDArray[np.floating],
    extrinsics: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Of every view for this one: the mean over points."""
    xy, z = project(points[None], intrinsics, extrinsics)
    with np.errstate(invalid="ignore"):
        seen = (z > 0) & (xy >= 0).all(-1) & (xy[..., 0] < size[1]) & (xy[..., 1] < size[0])
    rays = points[None] - centres[:, None]
    rays /= np.maximum(np.linalg.norm(rays, axis=-1, keepdims=True), 1e-300)
    angle = 2 * np.arcsin(np.minimum(np.linalg.norm(rays - rays[view], axis=-1) / 2, 1.0))
    helps = np.minimum(np.minimum(angle / _BEST_ANGLE, 1.0), _WIDE_ANGLE / np.maximum(angle, _LEAST_ANGLE))
    seen &= angle >= _LEAST_ANGLE
    worth = np.where(seen, helps, 0.0).mean(1)
    worth[view] = 0.0
    return np.where(seen.mean(1) >= _LEAST_SHARE, worth, 0.0)
