"""Pictures of all around: their rays, and the pinhole pictures that together show the same.

The camera of a panorama has OpenCV axes (x right, y down, z forward). The middle of an equirectangular picture looks
along +z; longitude grows to the right, over 360 degrees; latitude falls from 90 degrees at the top edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float64

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector

Array = npt.NDArray[np.float64]

_AROUND = 6  # tilted views of a fisheye picture
_FRONT_TILT = 55.0  # degrees
_FRONT_REACH = 95.0  # degrees from the axis up to which the tilted views see nearly everything


def equirectangular_rays(height: int, width: int) -> Float64[np.ndarray, "h w 3"]:
    """Unit directions of the pixel centres of an equirectangular picture of the whole sphere."""
    xy = pixel_centres(height, width)
    longitude, latitude = (xy[..., 0] / width - 0.5) * 2 * np.pi, (0.5 - xy[..., 1] / height) * np.pi
    across = np.cos(latitude)
    return np.stack([across * np.sin(longitude), -np.sin(latitude), across * np.cos(longitude)], -1)


def equirectangular_pixels(
    rays: Float[np.ndarray, "*batch 3"], height: int, width: int
) -> Float64[np.ndarray, "*batch 2"]:
    """Where an equirectangular picture shows directions of any length; x from 0 to ``width``."""
    x, y, z = np.moveaxis(rays.astype(np.float64), -1, 0)
    longitude, latitude = np.arctan2(x, z), -np.arctan2(y, np.hypot(x, z))
    return np.stack([(longitude / (2 * np.pi) + 0.5) * width, (0.5 - latitude / np.pi) * height], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class TangentViews:
    """N square pinhole cameras in one place.

    Attributes:
        size: side in pixels.
        intrinsics: of all of them.
        rotations: view from panorama.
    """

    size: int
    intrinsics: Float[np.ndarray, "3 3"]
    rotations: Float[np.ndarray, "n 3 3"]

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def extrinsics(self) -> Float64[np.ndarray, "n 3 4"]:
        """World-to-camera poses in the frame of the panorama's camera."""
        return np.concatenate([self.rotations, np.zeros((len(self), 3, 1))], -1)

    def rays(self, view: int) -> Float64[np.ndarray, "s s 3"]:
        """Directions in the frame of the panorama through the pixel centres of a view; their z in the view is one."""
        xy = pixel_centres(self.size, self.size)
        local = np.concatenate([(xy - self.intrinsics[:2, 2]) / self.intrinsics[0, 0], np.ones_like(xy[..., :1])], -1)
        return local @ self.rotations[view]

    def seen(self, view: int, rays: Float[np.ndarray, "*batch 3"]) -> Float64[np.ndarray, "*batch 2"]:
        """Places in a view, each from -1 to 1 inside of it, of directions; NaN for those that it does not show."""
        local = rays @ self.rotations[view].T
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = np.where(local[..., 2:] > 0, local[..., :2] / local[..., 2:], np.nan)
        place = plane * (2 * self.intrinsics[0, 0] / self.size)
        inside = (np.abs(np.nan_to_num(place, nan=2.0)) <= 1).all(-1)
        return np.where(inside[..., None], place, np.nan)


def tangent_views(size: int, *, fov_deg: float = 100.0, half_angle_deg: float = 180.0) -> TangentViews:
    """Views that cover everything up to an angle from the forward axis.

    Up to 95 degrees a forward view and six around it, tilted by 55; beyond, the six faces of a cube, in the order
    forward, right, backward, left, up, down. A picture that one view holds is one view.

    Args:
        size: side of each in pixels.
        fov_deg: of each; neighbours of the cube overlap by what is above 90 degrees.
        half_angle_deg: how far from the forward axis the picture reaches; 180 for panoramas.

    Raises:
        InputError: an angle or a size is out of range, or the views of the cube would leave gaps.
    """
    if size < 1 or not 0 < half_angle_deg <= 180:
        raise InputError("size, half_angle_deg", f"{size}, {half_angle_deg}", "at least 1, and above 0 up to 180")
    if not 60 <= fov_deg <= 120:
        raise InputError("fov_deg", str(fov_deg), "an angle from 60 to 120 degrees")
    if half_angle_deg > _FRONT_REACH:
        if fov_deg <= 90:
            raise InputError("fov_deg", str(fov_deg), "more than 90 degrees, so that the faces of a cube overlap")
        turns = [(0.0, yaw) for yaw in (0.0, 90.0, 180.0, 270.0)] + [(90.0, 0.0), (-90.0, 0.0)]
        rotations = np.stack([_turn_x(pitch) @ _turn_y(yaw) for pitch, yaw in turns])
    else:
        rotations = _front(fov_deg, half_angle_deg)
    focal = size / 2 / np.tan(np.deg2rad(fov_deg) / 2)
    matrix = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return TangentViews(size=size, intrinsics=matrix, rotations=rotations)


def _front(fov_deg: float, half_angle_deg: float) -> Array:
    if half_angle_deg <= fov_deg / 2:
        return np.eye(3)[None]
    # The outer side of a tilted view reaches the border of the picture, and no farther than is useful.
    tilt = np.clip(half_angle_deg - 0.4 * fov_deg, 0.35 * fov_deg, _FRONT_TILT)
    around = np.arange(_AROUND) * 2 * np.pi / _AROUND
    tilted = [rotation_from_vector(np.deg2rad(tilt) * np.array([np.cos(a), np.sin(a), 0.0])) for a in around]
    return np.stack([np.eye(3), *tilted])


def _turn_x(degrees: float) -> Array:
    """To the frame of a camera that looks up by an angle."""
    return rotation_from_vector(np.array([-np.deg2rad(degrees), 0, 0]))


def _turn_y(degrees: float) -> Array:
    """To the frame of a camera that looks to the right by an angle."""
    return rotation_from_vector(np.array([0, -np.deg2rad(degrees), 0]))
