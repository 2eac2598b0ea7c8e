"""From 3D Gaussians to ellipses in one picture.

Letters: G Gaussians of a scene, g those that can be seen in the picture.

The covariance of a projected Gaussian is J W S W^T J^T + dilation, where S is its covariance in the world, W the
rotation of the camera and J the derivative of the projection at its centre: Zwicker et al., "EWA Splatting" (2002),
as used by Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.geometry.harmonics import degree_of, harmonic_basis
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw
from depth_anything_3.splat.base import MIN_ALPHA
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians

_MARGIN = 0.3  # of half a picture: outside of it, J is taken at the border, where it is still tame


@dataclass(frozen=True, kw_only=True, eq=False)
class Ellipses:
    """Gaussians in one picture, the nearest first.

    With d the offset in pixels from ``centre`` and (a, s, b) = ``shape``, the exponent is
    q = (a (d_x - s d_y))^2 + (b d_y)^2: the factors of the inverse covariance, which lose no digits where the
    ellipse is thin.

    Attributes:
        centre: x and y in pixels.
        shape: a and b in 1 / pixels, s without unit.
        opacity: alpha at the centre.
        colour: seen from the camera.
        z: z-depth of the centre.
        box: first column, first row, last column + 1, last row + 1 of the pixels whose centres are in the bounding
            box of the part with an alpha above the threshold. Inside the picture and never empty.
    """

    centre: Float[Tensor, "g 2"]
    shape: Float[Tensor, "g 3"]
    opacity: Float[Tensor, " g"]
    colour: Float[Tensor, "g 3"]
    z: Float[Tensor, " g"]
    box: Int[Tensor, "g 4"]


def project_gaussians(
    gaussians: Gaussians,
    scene: int,
    extrinsics: Float[Tensor, "3 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    options: RenderOptions,
) -> Ellipses:
    """The Gaussians of one scene that touch a pixel of one view.

    Args:
        gaussians: of all scenes.
        scene: index of the scene.
        extrinsics: world-to-camera pose.
        intrinsics: in pixels.
        size: height and width.
        options: near plane and dilation.
    """
    means, scales, opacities = gaussians.means[scene], gaussians.scales[scene], gaussians.opacities[scene]
    rotation, translation = extrinsics[:, :3], extrinsics[:, 3]
    camera = means @ rotation.T + translation
    index = _drawable(camera, scales, opacities, options.near).nonzero()[:, 0]
    camera, scales, opacity = camera[index], scales[index], opacities[index]
    axes = rotation @ matrix_from_quat_xyzw(gaussians.rotations[scene][index].roll(-1, -1)) * scales[:, None]
    covariance, determinant = _covariance(_jacobian(camera, intrinsics, size) @ axes, options.dilation)
    centre = _centre(camera, intrinsics)
    box = _box(centre, covariance, opacity, size)
    seen = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]) & (determinant > 0)
    kept = seen.nonzero()[:, 0]
    # A stable order, so that Gaussians of equal depth are drawn as they are listed, on every device.
    kept = kept[camera[kept, 2].detach().argsort(stable=True)]
    index, (_, xy, yy) = index[kept], covariance[kept].unbind(-1)
    return Ellipses(
        centre=centre[kept],
        shape=torch.stack(((yy / determinant[kept]).sqrt(), xy / yy, yy.rsqrt()), -1),
        opacity=opacity[kept],
        colour=_colour(means[index], gaussians.harmonics[scene][index], rotation, translation),
        z=camera[kept, 2],
        box=box[kept],
    )


def _drawable(camera: Tensor, scales: Tensor, opacity: Tensor, near: float) -> Bool[Tensor, " G"]:
    finite = camera.isfinite().all(-1) & scales.isfinite().all(-1)
    return finite & (camera[:, 2] > near) & (scales > 0).all(-1) & (opacity > MIN_ALPHA)


def _centre(camera: Float[Tensor, "g 3"], k: Float[Tensor, "3 3"]) -> Float[Tensor, "g 2"]:
    homogeneous = camera @ k.T
    return homogeneous[:, :2] / camera[:, 2:]


def _jacobian(camera: Float[Tensor, "g 3"], k: Float[Tensor, "3 3"], size: tuple[int, int]) -> Float[Tensor, "g 2 3"]:
    """Derivative of the pixel by the point. Far outside the picture it grows without bound: it is taken at the border
    of a picture that is 30 % of its half larger on every side."""
    z = camera[:, 2]
    (fx, skew, cx), (fy, cy) = k[0], k[1, 1:]
    height, width = size
    x, y = camera[:, 0] / z, camera[:, 1] / z
    left, right = -(cx + _MARGIN * width / 2) / fx, (width - cx + _MARGIN * width / 2) / fx
    top, bottom = -(cy + _MARGIN * height / 2) / fy, (height - cy + _MARGIN * height / 2) / fy
    x, y = x.clamp(left, right), y.clamp(top, bottom)
    zero = torch.zeros_like(z)
    rows = ((fx / z, skew / z, -(fx * x + skew * y) / z), (zero, fy / z, -fy * y / z))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _covariance(axes: Float[Tensor, "g 2 3"], dilation: float) -> tuple[Float[Tensor, "g 3"], Float[Tensor, " g"]]:
    """xx, xy, yy of axes axes^T + dilation, and its determinant.

    The determinant is a sum of squares (Cauchy and Binet); the difference of products would lose every digit for long
    thin ellipses.
    """
    u, v = axes[:, 0], axes[:, 1]
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    cross = torch.linalg.cross(u, v)
    determinant = (cross * cross).sum(-1) + dilation * (uu + vv) + dilation**2
    return torch.stack((uu + dilation, uv, vv + dilation), -1), determinant


@torch.no_grad()
def _box(centre: Tensor, covariance: Tensor, opacity: Tensor, size: tuple[int, int]) -> Int[Tensor, "g 4"]:
    """Pixels whose centres are within the reach of the Gaussian, sqrt(2 ln(opacity / MIN_ALPHA)) deviations."""
    reach = (2 * (opacity / MIN_ALPHA).log().clamp_min(0)).sqrt()[:, None] * covariance[:, ::2].sqrt()
    limit = torch.tensor([size[1], size[0]], device=centre.device)
    # Pixel i has its centre at i + 0.5. Bounds are limited while they are floats, which hold any number.
    first = torch.minimum((centre - reach - 0.5).ceil().clamp_min(0), limit)
    end = torch.minimum((centre + reach - 0.5).floor() + 1, limit).clamp_min(0)
    box = torch.cat((first, end), -1)
    return torch.where(box.isfinite(), box, 0.0).int()


def _colour(means: Tensor, harmonics: Tensor, rotation: Tensor, translation: Tensor) -> Float[Tensor, "g 3"]:
    direction = torch.nn.functional.normalize(means + rotation.T @ translation, dim=-1)
    basis = harmonic_basis(direction, degree_of(harmonics.shape[-1]))
    return (0.5 + (harmonics * basis[:, None]).sum(-1)).clamp_min(0)
