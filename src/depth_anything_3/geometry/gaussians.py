"""3D Gaussians in another unit, and after their cameras have moved."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from depth_anything_3.geometry.harmonics import rotate_harmonics
from depth_anything_3.geometry.poses import rigid_inverse
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from depth_anything_3.types.gaussians import Gaussians


def scale_gaussians(gaussians: Gaussians, scale: Float[Tensor, " B"]) -> Gaussians:
    """The same Gaussians in another unit of length, one factor per scene."""
    factor = scale[:, None, None]
    return Gaussians(
        means=gaussians.means * factor,
        scales=gaussians.scales * factor,
        rotations=gaussians.rotations,
        harmonics=gaussians.harmonics,
        opacities=gaussians.opacities,
    )


def follow_views(
    gaussians: Gaussians,
    before: tuple[Float[Tensor, "N 3 4"], Float[Tensor, "N 3 3"]],
    after: tuple[Float[Tensor, "N 3 4"], Float[Tensor, "N 3 3"]],
    stretch: Float[Tensor, "N H W"],
) -> Gaussians:
    """Gaussians of pixels after their cameras and depths have changed.

    In the frame of its camera, a Gaussian keeps its place in the picture and its distance, times the ``stretch`` of its
    pixel; its size grows with the distance and, alike in all directions, with the pixels of the new lens. Orientation
    and colours turn with the camera. One similarity for the whole scene is the case in which all views turn alike.

    Args:
        gaussians: one scene, one Gaussian per pixel, in view-row-column order.
        before, after: world-to-camera poses in the unit of the Gaussians, and intrinsics in pixels of the same size.
        stretch: new depth by old depth.
    """
    views = len(stretch)
    (old_pose, old_lens), (new_pose, new_lens) = (
        [part.to(gaussians.means) for part in pair] for pair in (before, after)
    )
    factor = stretch.to(gaussians.means).reshape(views, -1, 1)
    means = gaussians.means.reshape(views, -1, 3)
    local = means @ old_pose[:, :, :3].transpose(1, 2) + old_pose[:, None, :, 3]
    lens = torch.linalg.solve(new_lens, old_lens)
    local = factor * (local @ lens.transpose(1, 2))
    world_from_new = rigid_inverse(new_pose)
    turn = world_from_new[:, :, :3] @ old_pose[:, :, :3]
    wider = torch.linalg.det(lens[:, :2, :2]).abs().sqrt()[:, None, None]
    harmonics = gaussians.harmonics.reshape(views, means.shape[1], 3, -1)
    world = turn[:, None] @ matrix_from_quat_xyzw(gaussians.rotations.reshape(views, -1, 4).roll(-1, -1))
    return Gaussians(
        means=(local @ world_from_new[:, :, :3].transpose(1, 2) + world_from_new[:, None, :, 3]).reshape(1, -1, 3),
        scales=(gaussians.scales.reshape(views, -1, 3) * factor * wider).reshape(1, -1, 3),
        rotations=quat_xyzw_from_matrix(world).roll(1, -1).reshape(1, -1, 4),
        harmonics=rotate_harmonics(harmonics, turn[:, None]).reshape(gaussians.harmonics.shape),
        opacities=gaussians.opacities,
    )
