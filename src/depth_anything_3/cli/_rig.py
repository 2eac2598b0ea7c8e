"""Rigs as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from depth_anything_3.types.rig import Rig


def rig_of(text: str) -> Rig | int:
    """``"6"`` as a number of cameras whose poses are not known, anything else as a file of their poses.

    Args:
        text: a whole number; or a file that :func:`depth_anything_3.io.cameras.base.read_cameras` reads, with one
            camera for each of the rig, in the order of the pictures.

    Raises:
        CameraFileError: the file cannot be read.
        InputError: it has no poses, or cameras whose lens bends.
    """
    if text.strip().isdecimal():
        return int(text)
    from depth_anything_3.io.cameras.base import read_cameras
    from depth_anything_3.types.rig import Rig

    cameras = read_cameras(Path(text), argument="rig")
    if cameras.extrinsics is None:
        raise InputError("rig", f"{text}, a file without poses", "a file of cameras with poses, or their number")
    if not all(lens.is_pinhole for lens in cameras.lenses):
        raise InputError("rig", f"{text}, with lens distortion", "cameras without it; undistort the pictures first")
    return Rig(camera_from_rig=cameras.extrinsics[:, :3], intrinsics=cameras.intrinsics)
