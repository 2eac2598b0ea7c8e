"""From raw Gaussian parameters per pixel to 3D Gaussians in the world.

Letters: B scenes, N views, H W pixels, G = N H W Gaussians.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.errors import ConfigError
from depth_anything_3.geometry.alignment import align_trajectories
from depth_anything_3.geometry.harmonics import rotate_harmonics
from depth_anything_3.geometry.poses import as_homogeneous, rigid_inverse
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from depth_anything_3.types.gaussians import Gaussians

_PIXEL_SIZE = 0.1  # a Gaussian's unit size, in pixels at its depth
_MAX_POSE_SCALE = 3.0

QuaternionOrder = Literal["published", "consistent"]
RayLength = Literal["published", "consistent"]


class GaussianAdapter(nn.Module):
    """Raw channels, in order: offset in pixels (2), scales (3), quaternion (4), colour by coefficient, depth offset.

    Args:
        sh_degree: degree of the colour harmonics, 0 to 2.
        pred_color: plain colour instead of harmonics.
        pred_offset_depth, pred_offset_xy: whether those channels exist.
        gaussian_scale_min, gaussian_scale_max: bounds of the scales, in unit sizes.
        quaternion_order: the checkpoints were trained with a quaternion that is read in one order and written in
            another; ``published`` repeats it, ``consistent`` keeps the order (and changes the orientations).
        ray_length: as ``published``, the ray through a pixel has length one although depth is measured along the
            optical axis, so that points off the axis lie closer than in the depth map; the checkpoints were trained so.
            ``consistent`` rays reach the depth.
    """

    def __init__(
        self,
        sh_degree: int = 0,
        pred_color: bool = False,
        pred_offset_depth: bool = False,
        pred_offset_xy: bool = True,
        gaussian_scale_min: float = 1e-5,
        gaussian_scale_max: float = 30.0,
        quaternion_order: QuaternionOrder = "published",
        ray_length: RayLength = "published",
    ) -> None:
        super().__init__()
        if sh_degree not in (0, 1, 2):
            raise ConfigError("gs_adapter.sh_degree", repr(sh_degree), "a degree that can be rotated", (0, 1, 2))
        self.coefficients = 1 if pred_color else (sh_degree + 1) ** 2
        self.pred_color, self.pred_offset_depth, self.pred_offset_xy = pred_color, pred_offset_depth, pred_offset_xy
        self.scale_range = (float(gaussian_scale_min), float(gaussian_scale_max))
        self.quaternion_order, self.ray_length = quaternion_order, ray_length

    @property
    def d_in(self) -> int:
        """Raw channels per pixel."""
        return 2 * self.pred_offset_xy + 3 + 4 + 3 * self.coefficients + self.pred_offset_depth

    def forward(
        self,
        raw: Float[Tensor, "B N H W d"],
        opacity: Float[Tensor, "B N H W"],
        depth: Float[Tensor, "B N H W"],
        extrinsics: Float[Tensor, "B N 3 4"],
        intrinsics: Float[Tensor, "B N 3 3"],
        *,
        given_extrinsics: Float[Tensor, "B N _ 4"] | None = None,
    ) -> Gaussians:
        """Gaussians in the world of the predicted cameras.

        Args:
            raw, opacity: outputs of :class:`~depth_anything_3.model.gsdpt.GSDPT`.
            depth, extrinsics (world-to-camera), intrinsics (pixels): as predicted.
            given_extrinsics: the cameras that conditioned the network; positions then take their scale.
        """
        batch, _, height, width, _ = raw.shape
        offset_xy, scales, quaternions, colour, offset_z = raw.split(
            [2 * self.pred_offset_xy, 3, 4, 3 * self.coefficients, int(self.pred_offset_depth)], -1
        )
        z = depth + offset_z[..., 0] if self.pred_offset_depth else depth
        world_from_camera = rigid_inverse(extrinsics)
        centre = world_from_camera[..., 3]
        if given_extrinsics is not None:
            factor = _pose_scale(given_extrinsics, extrinsics).to(z)[:, None]
            centre, z = centre * factor[..., None], z * factor[..., None, None]
        rotation = world_from_camera[..., :3][:, :, None, None]
        rays = self._rays(offset_xy, intrinsics, height, width) @ rotation[:, :, 0].transpose(-1, -2)
        return Gaussians(
            means=(centre[:, :, None, None] + rays * z[..., None]).reshape(batch, -1, 3),
            scales=self._scales(scales, z, intrinsics).reshape(batch, -1, 3),
            rotations=self._rotations(quaternions, rotation).reshape(batch, -1, 4),
            harmonics=self._harmonics(colour, rotation).reshape(batch, -1, 3, self.coefficients),
            opacities=opacity.reshape(batch, -1),
        )

    def _rays(self, offset_xy: Tensor, intrinsics: Tensor, height: int, width: int) -> Float[Tensor, "B N H W 3"]:
        """Directions in the camera frame through the shifted pixel centres, of length one or with z = 1."""
        x = (torch.arange(width, device=intrinsics.device) + 0.5).expand(height, width)
        y = (torch.arange(height, device=intrinsics.device) + 0.5)[:, None].expand(height, width)
        pixels = torch.stack([x, y], -1).to(intrinsics) + (offset_xy if self.pred_offset_xy else 0.0)
        size = intrinsics.new_tensor([width, height])
        normalised = intrinsics / torch.cat([size, size.new_ones(1)])[:, None]
        points = torch.cat([pixels / size, torch.ones_like(pixels[..., :1])], -1)
        points = points.expand(*intrinsics.shape[:2], -1, -1, -1)
        rays = points @ torch.linalg.inv(normalised)[:, :, None].transpose(-1, -2)
        return rays / rays.norm(dim=-1, keepdim=True) if self.ray_length == "published" else rays

    def _scales(self, scales: Tensor, z: Tensor, intrinsics: Tensor) -> Float[Tensor, "B N H W 3"]:
        """Standard deviations: a bounded factor of the size of a tenth of a pixel at the Gaussian's depth."""
        low, high = self.scale_range
        pixel = _PIXEL_SIZE * torch.linalg.inv(intrinsics[..., :2, :2]).sum((-1, -2))
        return (low + (high - low) * scales.sigmoid()) * (z * pixel[..., None, None])[..., None]

    def _rotations(self, quaternions: Tensor, rotation: Tensor) -> Float[Tensor, "B N H W 4"]:
        unit = quaternions / (quaternions.norm(dim=-1, keepdim=True) + 1e-8)
        if self.quaternion_order == "consistent":
            return quat_xyzw_from_matrix(rotation @ matrix_from_quat_xyzw(unit)).roll(1, -1)
        return quat_xyzw_from_matrix(rotation @ matrix_from_quat_xyzw(unit.roll(1, -1)))

    def _harmonics(self, colour: Tensor, rotation: Tensor) -> Float[Tensor, "B N H W 3 coefficients"]:
        harmonics = colour.unflatten(-1, (3, self.coefficients))
        if self.pred_color:
            return harmonics
        degrees = [math.isqrt(i) for i in range(self.coefficients)]
        mask = harmonics.new_tensor([1.0 if degree == 0 else 0.1 * 0.25**degree for degree in degrees])
        return rotate_harmonics(harmonics * mask, rotation)


def _pose_scale(given: Float[Tensor, "B N _ 4"], predicted: Float[Tensor, "B N 3 4"]) -> Float[Tensor, " B"]:
    """How much larger the given camera path is than the predicted one, within a factor of three; 1 if unknown."""
    given, predicted = (as_homogeneous(e).detach().double().cpu() for e in (given, predicted))
    scales = []
    for reference, estimate in zip(given.numpy(), predicted.numpy(), strict=True):
        same = np.array_equal(reference, estimate)
        scale = 1.0 if same else align_trajectories(reference, estimate).scale
        scales.append(min(max(scale, 1 / _MAX_POSE_SCALE), _MAX_POSE_SCALE))
    return torch.tensor(scales)
