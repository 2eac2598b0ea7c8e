"""The slow twin of the rasterisers: every Gaussian at every pixel, in numpy and float64, straight from the formulas."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.geometry.harmonics import harmonic_basis
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians

Array = npt.NDArray[np.float64]


def render_slowly(
    gaussians: Gaussians, extrinsics: Array, intrinsics: Array, size: tuple[int, int], options: RenderOptions
) -> tuple[Array, Array, Array]:
    """Colour (H, W, 3), expected depth (H, W) and alpha (H, W) of the first scene from one view."""
    means, scales, quats, harmonics, opacity = (
        getattr(gaussians, name)[0].detach().double().numpy()
        for name in ("means", "scales", "rotations", "harmonics", "opacities")
    )
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    colour, depth, light = np.zeros((*size, 3)), np.zeros(size), np.ones(size)
    camera = means @ extrinsics[:, :3].T + extrinsics[:, 3]
    eye = -extrinsics[:, :3].T @ extrinsics[:, 3]
    for i in np.argsort(camera[:, 2], kind="stable"):
        if camera[i, 2] <= options.near:
            continue
        centre = intrinsics @ camera[i] / camera[i, 2]
        inverse = np.linalg.inv(
            projected_covariance(camera[i], covariance(scales[i], quats[i]), extrinsics, intrinsics, size)
            + options.dilation * np.eye(2)
        )
        d = np.stack((x - centre[0], y - centre[1]), -1)
        alpha = opacity[i] * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, inverse, d))
        alpha = np.where(alpha > 1 / 255, np.minimum(alpha, 0.999), 0)
        towards = torch.from_numpy((means[i] - eye) / np.linalg.norm(means[i] - eye))
        degree = int(np.sqrt(harmonics.shape[-1])) - 1
        seen = np.maximum(0, 0.5 + harmonics[i] @ harmonic_basis(towards, degree).numpy())
        colour += (light * alpha)[..., None] * seen
        depth += light * alpha * camera[i, 2]
        light *= 1 - alpha
    covered = 1 - light
    colour += light[..., None] * np.array(options.background)
    return colour, np.divide(depth, covered, out=np.zeros(size), where=covered > 0), covered


def covariance(scales: Array, quat_wxyz: Array) -> Array:
    """In the world, from deviations along the axes and the turn of the axes."""
    w, (x, y, z) = quat_wxyz[0], quat_wxyz[1:] / 1.0
    n = quat_wxyz @ quat_wxyz
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + 2 / n * (w * cross + cross @ cross)
    return turn @ np.diag(scales**2) @ turn.T


def projected_covariance(point: Array, world: Array, extrinsics: Array, k: Array, size: tuple[int, int]) -> Array:
    """First order, by central differences of the projection; far outside the picture at its enlarged border."""
    (x, y, z), half = point, np.array([size[1], size[0]]) / 2
    low = (-k[:2, 2] - 0.3 * half) / k[[0, 1], [0, 1]]
    high = (2 * half - k[:2, 2] + 0.3 * half) / k[[0, 1], [0, 1]]
    x, y = np.clip([x / z, y / z], low, high) * z
    step = 1e-6 * z
    columns = []
    for axis in np.eye(3) * step:
        ahead, behind = (k @ (np.array([x, y, z]) + sign * axis) for sign in (1, -1))
        columns.append((ahead[:2] / ahead[2] - behind[:2] / behind[2]) / (2 * step))
    jacobian = np.stack(columns, -1) @ extrinsics[:, :3]
    return jacobian @ world @ jacobian.T
