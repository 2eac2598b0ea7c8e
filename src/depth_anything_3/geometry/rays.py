"""From a predicted ray map to a pinhole camera (section 3.1 of the paper).

A view's ray map holds, per pixel, a world direction d = R K^-1 p (not normalised; R camera-to-world) and an origin.
The directions are a homography of the image plane, so a robust homography fit followed by a decomposition gives
rotation, focal length and principal point; the origin's weighted mean gives the camera centre.

Image coordinates here span [-1, 1] on both axes, so that the identity camera has focal length 1; focal lengths and
principal points are converted to pixels by the caller.

Letters: V views, h w size of the ray map, M = h w rays, S candidate rays, X hypotheses.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.geometry.encoding import intrinsics_matrix
from depth_anything_3.geometry.poses import rigid_inverse

HYPOTHESES = 100
SAMPLE_SIZE = 8
CANDIDATE_SHARE = 0.3
INLIER_DISTANCE = 0.2
REFIT_LIMIT = 8000
_MIN_DIRECTION_Z = 1e-4
_RAYS_AT_ONCE = 1024  # of all hypotheses: their errors stay in the caches of a core

Decomposition = Literal["published", "exact"]


class RayCameras(NamedTuple):
    """Cameras fitted to V ray maps.

    Attributes:
        world_from_camera: (V, 3, 4) rotation and centre.
        focal: (V, 2) focal lengths along x and y, in half image widths and half image heights.
        principal_point: (V, 2) in the same units, measured from the top-left corner; (1, 1) is the centre.
    """

    world_from_camera: Tensor
    focal: Tensor
    principal_point: Tensor


def cameras_from_rays(
    ray: Float[Tensor, "batch views h w 6"],
    ray_conf: Float[Tensor, "batch views h w"],
    image_hw: tuple[int, int],
    *,
    seed: int = 0,
    sample_indices: Int[Tensor, "hypotheses sample"] | None = None,
    decomposition: Decomposition = "published",
) -> tuple[Float[Tensor, "batch views 3 4"], Float[Tensor, "batch views 3 3"]]:
    """World-to-camera extrinsics and pixel intrinsics of B scenes of N views.

    Every scene starts its own random search from ``seed``, so a scene's cameras do not depend on its batch mates.
    """
    scenes = [
        fit_rays(r, c, seed=seed, sample_indices=sample_indices, decomposition=decomposition)
        for r, c in zip(ray.float(), ray_conf.float(), strict=True)
    ]
    world_from_camera, focal, principal_point = (torch.stack(parts) for parts in zip(*scenes, strict=True))
    half = focal.new_tensor([image_hw[1] / 2, image_hw[0] / 2])
    fx, fy = (focal * half).unbind(-1)
    cx, cy = (principal_point * half).unbind(-1)
    return rigid_inverse(world_from_camera), intrinsics_matrix(fx, fy, cx, cy)


def fit_rays(
    ray: Float[Tensor, "views h w 6"],
    conf: Float[Tensor, "views h w"],
    *,
    seed: int = 0,
    sample_indices: Int[Tensor, "hypotheses sample"] | None = None,
    decomposition: Decomposition = "published",
) -> RayCameras:
    """Fit a pinhole camera to each ray map of one scene.

    Args:
        ray: directions (0-2) and origins (3-5) in the world frame.
        conf: positive weights. Not modified.
        seed: of the local random generator behind the search.
        sample_indices: the (hypotheses, 8) table of candidate ranks to try, instead of a random one.
        decomposition: ``published`` is exact for a centred principal point and wrong for others; ``exact`` is right
            for all. They agree where the principal point is centred.
    """
    generator = torch.Generator().manual_seed(seed)
    source = image_plane(ray.shape[1], ray.shape[2], ray)
    directions, origins = ray.flatten(1, 2).split(3, -1)
    valid = directions[..., 2].abs() > _MIN_DIRECTION_Z
    target = torch.where(valid[..., None], directions[..., :2] / _non_zero(directions[..., 2:]), directions[..., :2])
    weights = torch.where(valid, conf.flatten(1), 0.0)

    if sample_indices is None:
        sample_indices, state = _sample_table(weights.shape[1], seed)
        generator.set_state(state)
    table = sample_indices.to(ray.device)
    fitted = [_robust_homography(source, t, w, table, generator) for t, w in zip(target, weights, strict=True)]
    homographies = torch.stack(fitted)
    homographies = torch.where(torch.linalg.det(homographies)[:, None, None] < 0, -homographies, homographies)

    rotation, focal, principal_point = decompose_homography(homographies, decomposition)
    total = weights.sum(1, keepdim=True)
    share = torch.where(total > 0, weights / _non_zero(total), 1.0 / weights.shape[1])
    centre = (share[..., None] * origins).sum(1)
    return RayCameras(torch.cat([rotation, centre[..., None]], -1), focal, principal_point)


def ray_residuals_deg(
    ray: Float[Tensor, "*views h w 6"],
    ray_conf: Float[Tensor, "*views h w"],
    extrinsics: Float[Tensor, "*views 3 4"],
    intrinsics: Float[Tensor, "*views 3 3"],
    image_hw: tuple[int, int],
) -> Float[Tensor, "*views"]:
    """Median angle in degrees between predicted rays and those of cameras, over the more confident half of each view.

    Args:
        ray: directions (0-2) in the world of the cameras.
        ray_conf: positive weights.
        extrinsics: world-to-camera.
        intrinsics: in pixels of an image of ``image_hw``, which the ray maps cover entirely.
    """
    h, w = ray_conf.shape[-2:]
    xy = (image_plane(h, w, ray) + 1) / 2 * ray.new_tensor([image_hw[1], image_hw[0]])
    pixels = torch.cat([xy, torch.ones_like(xy[:, :1])], -1)
    expected = pixels @ torch.linalg.inv(intrinsics).mT @ extrinsics[..., :3]  # of camera to world, transposed
    cosine = torch.cosine_similarity(expected.double(), ray[..., :3].flatten(-3, -2).double(), dim=-1)
    angles = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
    conf = ray_conf.flatten(-2)
    trusted = conf >= conf.median(-1, keepdim=True).values
    return torch.where(trusted, angles, torch.nan).nanmedian(-1).values.to(ray.dtype)


def image_plane(h: int, w: int, like: Tensor) -> Float[Tensor, "M 2"]:
    """Pixel centres of an h x w image on the plane spanning [-1, 1], row by row, as (x, y)."""
    x = torch.linspace(1 / w, 2 - 1 / w, w, device=like.device, dtype=like.dtype) - 1
    y = torch.linspace(1 / h, 2 - 1 / h, h, device=like.device, dtype=like.dtype) - 1
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1).flatten(0, 1)


def decompose_homography(
    homography: Float[Tensor, "views 3 3"], decomposition: Decomposition = "published"
) -> tuple[Float[Tensor, "views 3 3"], Float[Tensor, "views 2"], Float[Tensor, "views 2"]]:
    """Split A = R K^-1 into the rotation R, the focal lengths and the principal point.

    K^-1 is upper triangular, so A = Q U with U upper triangular (``exact``). The published rule takes A = Q L with L
    lower triangular, which is the same only where the principal point is centred.
    """
    if decomposition == "exact":
        q, u = torch.linalg.qr(homography)
        rotation, u = _positive_diagonal(q, u)
        u = u / u[:, 2:, 2:]
        focal = 1 / u.diagonal(dim1=-2, dim2=-1)[:, :2]
        return rotation, focal, 1 - u[:, :2, 2] * focal
    q, r = torch.linalg.qr(homography.flip(-1))  # QL of A is QR of A with its columns reversed
    rotation, lower = _positive_diagonal(q.flip(-1), r.flip(-1, -2))
    lower = lower / lower[:, 2:, 2:]
    return rotation, 1 / lower.diagonal(dim1=-2, dim2=-1)[:, :2], 1 + lower[:, 2, :2]


def _positive_diagonal(q: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor]:
    diagonal = triangle.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0)
    return q * signs[:, None, :], triangle * signs[:, :, None]


@functools.lru_cache(maxsize=16)
def _sample_table(rays: int, seed: int) -> tuple[Int[Tensor, "hypotheses sample"], Tensor]:
    """Ranks among the most confident rays: the first eight of one permutation per hypothesis.

    With the state of the generator behind them. They depend on nothing else, and take a fifth of the fit.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):
        draws = [torch.randperm(_candidate_count(rays), generator=generator)[:SAMPLE_SIZE] for _ in range(HYPOTHESES)]
        return torch.stack(draws), generator.get_state()


def _candidate_count(rays: int) -> int:
    return max(SAMPLE_SIZE, int(CANDIDATE_SHARE * rays))


def _robust_homography(
    source: Float[Tensor, "M 2"],
    target: Float[Tensor, "M 2"],
    weights: Float[Tensor, " M"],
    table: Int[Tensor, "X sample"],
    generator: torch.Generator,
) -> Float[Tensor, "3 3"]:
    """Best of many eight-point fits by weighted inlier count, refitted to its inliers."""
    order = weights.argsort(descending=True)
    samples = order[: _candidate_count(len(weights))][table]
    hypotheses = _fit_small(source[samples], target[samples], weights[samples])
    best = hypotheses[_scores(hypotheses, source, target, weights).argmax()]
    chosen = order[_inliers(best, source, target)[order]]
    if len(chosen) > REFIT_LIMIT:
        kept = max(int(0.95 * len(chosen)), REFIT_LIMIT)
        chosen = chosen[torch.randperm(kept, generator=generator)[:REFIT_LIMIT].to(chosen.device)]
    if len(chosen) < 4:  # no hypothesis explains anything: all rays, by their confidence
        chosen = order
    return _fit_large(source[chosen], target[chosen], weights[chosen])


def _scores(
    hypotheses: Float[Tensor, "X 3 3"],
    source: Float[Tensor, "M 2"],
    target: Float[Tensor, "M 2"],
    weights: Float[Tensor, " M"],
) -> Float[Tensor, " X"]:
    """Summed weights of the inliers of each hypothesis.

    The test of :func:`_inliers`, multiplied by the third coordinate of the projection: then both of its sides are made
    of products of matrices, for all hypotheses at once.
    """
    rows = hypotheses / hypotheses.flatten(1).abs().amax(1)[:, None, None]  # their scale cancels; squares stay finite
    first, second, third = rows.unbind(1)
    of_u, of_v = torch.cat([first, third], 1).T, torch.cat([second, third], 1).T
    allowed = INLIER_DISTANCE * third.T
    scores = weights.new_zeros(len(hypotheses))
    for xy, uv, weight in zip(*(part.split(_RAYS_AT_ONCE) for part in (source, target, weights)), strict=True):
        points = torch.cat([xy, torch.ones_like(xy[:, :1])], 1)
        error_u = torch.cat([points, -uv[:, :1] * points], 1) @ of_u
        error_v = torch.cat([points, -uv[:, 1:] * points], 1) @ of_v
        inside = error_u.square_().addcmul_(error_v, error_v) < (points @ allowed).square_()
        scores += weight @ inside.to(weight.dtype)
    return scores


def _inliers(
    homography: Float[Tensor, "*batch 3 3"], source: Float[Tensor, "M 2"], target: Float[Tensor, "M 2"]
) -> Tensor:
    projected = source @ homography[..., :2].transpose(-1, -2) + homography[..., None, :, 2]
    error = projected[..., :2] / projected[..., 2:] - target
    return error.norm(dim=-1) < INLIER_DISTANCE


def _design_matrix(
    source: Float[Tensor, "*batch n 2"], target: Float[Tensor, "*batch n 2"], weights: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch rows 9"]:
    """Two weighted rows of the direct linear transform per point pair (Hartley and Zisserman, eq. 4.3)."""
    points = torch.cat([source, torch.ones_like(source[..., :1])], -1)
    zeros = torch.zeros_like(points)
    u, v = target[..., :1], target[..., 1:]
    rows_u = torch.cat([-points, zeros, points * u], -1)
    rows_v = torch.cat([zeros, -points, points * v], -1)
    root = weights.sqrt()[..., None]
    return torch.cat([rows_u * root, rows_v * root], -2)


def _fit_small(source: Tensor, target: Tensor, weights: Tensor) -> Float[Tensor, "X 3 3"]:
    """Homographies of batches of a few points: last right singular vector of the 16 x 9 design matrix."""
    vectors = torch.linalg.svd(_design_matrix(source, target, weights), full_matrices=False).Vh[..., -1, :]
    return _normalised(vectors)


def _fit_large(source: Tensor, target: Tensor, weights: Tensor) -> Float[Tensor, "3 3"]:
    """Homography of thousands of points: smallest eigenvector of the 9 x 9 normal matrix, in double precision."""
    design = _design_matrix(source.double(), target.double(), weights.double())
    return _normalised(torch.linalg.eigh(design.T @ design).eigenvectors[:, 0]).to(source.dtype)


def _normalised(vector: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 3 3"]:
    return (vector / _non_zero(vector[..., 8:])).unflatten(-1, (3, 3))


def _non_zero(value: Tensor) -> Tensor:
    tiny = torch.finfo(value.dtype).tiny
    return torch.where(value.abs() < tiny, tiny, value)
