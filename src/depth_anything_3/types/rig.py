"""Cameras that are fixed to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError

_ORTHONORMAL = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Rig:
    """C cameras that move as one. Arrays are read-only.

    Attributes:
        camera_from_rig: (C, 3, 4) float64 rigid poses, OpenCV axes, in the unit that results shall have. The rig's own
            frame is free: that of one of its cameras, of a vehicle.
        intrinsics: (C, 3, 3) float64 in pixels of the pictures as they are given, or None where not known.

    Raises:
        InputError: a wrong shape, a value that is not finite, or a rotation that is none.
    """

    camera_from_rig: npt.NDArray[np.float64]
    intrinsics: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.camera_from_rig)
        for name, shape in (("camera_from_rig", (count, 3, 4)), ("intrinsics", (count, 3, 3))):
            if (value := getattr(self, name)) is None:
                continue
            array = np.array(value, np.float64)
            if array.shape != shape or not count:
                raise InputError(f"rig.{name}", f"shape {array.shape}", f"shape (C, {shape[1]}, {shape[2]}), C above 0")
            if not np.isfinite(array).all():
                raise InputError(f"rig.{name}", "NaN or infinity", "finite numbers")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        rotation = self.camera_from_rig[:, :, :3]
        off = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max()
        if off > _ORTHONORMAL or (np.linalg.det(rotation) < 0).any():
            raise InputError("rig.camera_from_rig", "a 3x3 part that is no rotation", "orthonormal, right-handed ones")

    def __len__(self) -> int:
        return len(self.camera_from_rig)

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as plain data."""
        K = self.intrinsics
        return {
            "camera_from_rig": self.camera_from_rig.tolist(),
            "intrinsics": None if K is None else K.tolist(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Rig:
        """The inverse of :meth:`as_dict`."""
        K = fields.get("intrinsics")
        return cls(camera_from_rig=np.array(fields["camera_from_rig"]), intrinsics=None if K is None else np.array(K))
