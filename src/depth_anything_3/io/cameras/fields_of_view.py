"""Intrinsics without a calibration: from a field of view, or from what the camera wrote into the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import central_intrinsics, focal_length
from depth_anything_3.io.images import ImageHeader

FILM_DIAGONAL = math.hypot(36.0, 24.0)
"""Of a 35 mm negative, in mm; equivalent focal lengths compare diagonals (CIPA DCG-001)."""

# EXIF 2.32, 4.6.5: tags of the block of the camera.
_FOCAL_MM, _FOCAL_35MM, _PIXELS_X = 0x920A, 0xA405, 0xA002
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # of a unit of resolution: inch, cm, mm, µm


def intrinsics_from_fov(degrees: float, sizes: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """Camera matrices of photos with a horizontal field of view; square pixels, principal point in the middle.

    Args:
        degrees: field of view across the width of each photo.
        sizes: N heights and widths.

    Returns:
        (N, 3, 3) in pixels.

    Raises:
        InputError: the field of view is not between 0 and 180 degrees.
    """
    if not 0 < degrees < 180:
        raise InputError("intrinsics", f"{degrees:g}deg", "a field of view between 0 and 180 degrees")
    angle = math.radians(degrees)
    return np.array([central_intrinsics(focal_length(angle, width), width, height) for height, width in sizes])


def intrinsics_from_exif(photos: Sequence[Path], headers: Sequence[ImageHeader]) -> npt.NDArray[np.float64]:
    """Camera matrices from the focal lengths in the photos; square pixels, principal point in the middle.

    ``FocalLengthIn35mmFilm`` is taken first; else ``FocalLength`` where the resolution of the sensor
    (``FocalPlaneXResolution``) is there too. A crop after the photo was taken is not seen.

    Args:
        photos: N files, for errors.
        headers: their headers.

    Returns:
        (N, 3, 3) in pixels of the upright photos.

    Raises:
        InputError: a photo does not say enough.
    """
    matrices = []
    for photo, header in zip(photos, headers, strict=True):
        height, width = header.size
        focal = focal_from_exif(header.exif, header.size)
        if focal is None:
            got = f"exif, and {photo} tells no focal length"
            expected = "FocalLengthIn35mmFilm, or FocalLength with FocalPlaneXResolution, in each photo"
            raise InputError("intrinsics", got, expected, ("a file", "a field of view such as 60deg"))
        matrices.append(central_intrinsics(focal, width, height))
    return np.array(matrices)


def focal_from_exif(exif: Mapping[int, float], size: tuple[int, int]) -> float | None:
    """Focal length in pixels of a photo of some height and width, or None where its EXIF tags do not tell."""
    film = exif.get(_FOCAL_35MM, 0.0)
    if 0 < film < 10_000:
        return film / FILM_DIAGONAL * math.hypot(*size)
    lens, per_unit = exif.get(_FOCAL_MM, 0.0), exif.get(_PLANE_X_RESOLUTION, 0.0)
    unit = _MILLIMETRES.get(int(exif.get(_PLANE_UNIT, 2)))
    taken_width = exif.get(_PIXELS_X, float(max(size)))  # before a tool made the photo smaller
    if not (0 < lens < 10_000 and 0 < per_unit < 1e9 and unit and taken_width > 0):
        return None
    return lens * per_unit / unit * max(size) / taken_width
