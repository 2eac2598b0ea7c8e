"""Moving 3D Gaussians by a similarity transform."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from depth_anything_3.geometry.harmonics import rotate_harmonics
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


def transform_gaussians(
    gaussians: Gaussians, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, 3], scale: float
) -> Gaussians:
    """Gaussians under x -> scale * rotation @ x + translation; colours turn with them."""
    rotation, translation = rotation.to(gaussians.means), translation.to(gaussians.means)
    world = rotation @ matrix_from_quat_xyzw(gaussians.rotations.roll(-1, -1))
    return Gaussians(
        means=scale * gaussians.means @ rotation.T + translation,
        scales=gaussians.scales * scale,
        rotations=quat_xyzw_from_matrix(world).roll(1, -1),
        harmonics=rotate_harmonics(gaussians.harmonics, rotation),
        opacities=gaussians.opacities,
    )
