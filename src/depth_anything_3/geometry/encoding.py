"""The nine numbers by which the network reads and predicts a camera.

(T_x, T_y, T_z, q_x, q_y, q_z, q_w, fov_h, fov_w): camera centre, camera-to-world rotation as a quaternion (scalar
last), and the full vertical and horizontal field of view in radians. The principal point is not encoded.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from depth_anything_3.geometry.poses import rigid_inverse
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix

_MIN_HALF_FOV_TANGENT = 1e-6


def encode_cameras(
    extrinsics: Float[Tensor, "*batch rows 4"], intrinsics: Float[Tensor, "*batch 3 3"], image_hw: tuple[int, int]
) -> Float[Tensor, "*batch 9"]:
    """Pose encoding of world-to-camera extrinsics and pixel intrinsics of an image of ``image_hw`` pixels."""
    world_from_camera = rigid_inverse(extrinsics)
    height, width = image_hw
    fov_h = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quat_xyzw = quat_xyzw_from_matrix(world_from_camera[..., :3, :3])
    return torch.cat([world_from_camera[..., :3, 3], quat_xyzw, fov_h[..., None], fov_w[..., None]], -1).float()


def decode_cameras(
    pose_encoding: Float[Tensor, "*batch 9"], image_hw: tuple[int, int]
) -> tuple[Float[Tensor, "*batch 3 4"], Float[Tensor, "*batch 3 3"]]:
    """World-to-camera extrinsics and pixel intrinsics (principal point at the image centre) of a pose encoding.

    A field of view of zero, which the decoder's ReLU can produce, gives a very long focal instead of infinity.
    """
    centre, quat_xyzw, fov = pose_encoding.split([3, 4, 2], -1)
    world_from_camera = torch.cat([matrix_from_quat_xyzw(quat_xyzw), centre[..., None]], -1)
    height, width = image_hw
    tangent_h, tangent_w = torch.tan(fov / 2).clamp(min=_MIN_HALF_FOV_TANGENT).unbind(-1)
    intrinsics = intrinsics_matrix(
        width / 2 / tangent_w,
        height / 2 / tangent_h,
        torch.full_like(tangent_w, width / 2),
        torch.full_like(tangent_h, height / 2),
    )
    return rigid_inverse(world_from_camera), intrinsics


def intrinsics_matrix(
    fx: Float[Tensor, "*batch"], fy: Float[Tensor, "*batch"], cx: Float[Tensor, "*batch"], cy: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Pinhole matrix without skew."""
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], -1).unflatten(-1, (3, 3))
