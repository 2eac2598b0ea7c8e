"""Cameras from matches between patches and a depth map per view.

A depth map lifts every match to a point; pairs of views are registered by RANSAC over such points, the pairs are
chained into a tree, and all cameras are refined together: the reprojection of every lifted point into every view that
it was matched with is minimised over the poses, one correction of each view's depth scale, and the focal lengths. The
predicted focal lengths and scales act as priors.

Letters: N views, M matches, X hypotheses. Poses are world-to-camera with OpenCV axes; the first view is the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.poses import rigid_inverse

_HYPOTHESES = 256
_SAMPLE = 4
_MIN_MATCHES = 8
_ROUNDS = 25
_FOCAL_PRIOR = 0.15  # standard deviation of the logarithm of a predicted focal length
_SCALE_PRIOR = 0.1  # of a view's depth scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Points that are the same place in two views.

    Attributes:
        views: indices of the two views.
        first, second: pixels, the centre of the top-left one at (0.5, 0.5).
        weight: from 0 to 1.
    """

    views: Int[Tensor, "M 2"]
    first: Float[Tensor, "M 2"]
    second: Float[Tensor, "M 2"]
    weight: Float[Tensor, " M"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedCameras:
    """Result of :func:`cameras_from_matches`.

    Attributes:
        extrinsics: world-to-camera, the first view being the world, in the unit of the depth.
        intrinsics: with refined focal lengths.
        depth_scale: factor on each view's depth.
        support: sum of the weights of the matches that agree with each view's camera; 0 where nothing connects it.
    """

    extrinsics: Float[Tensor, "N 3 4"]
    intrinsics: Float[Tensor, "N 3 3"]
    depth_scale: Float[Tensor, " N"]
    support: Float[Tensor, " N"]


def cameras_from_matches(
    matches: Matches,
    depth: Float[Tensor, "N H W"],
    intrinsics: Float[Tensor, "N 3 3"],
    *,
    initial: Float[Tensor, "N 3 4"] | None = None,
    tolerance: float = 0.04,
    seed: int = 0,
) -> MatchedCameras:
    """Cameras of all views.

    Args:
        matches: between any pairs of views, in both directions where there are both.
        depth: z-depth, one scale for all views up to a few percent.
        intrinsics: in pixels of the depth.
        initial: poses of views that no match connects; None leaves them at the first view.
        tolerance: angle in radians up to which a match agrees with a camera.
        seed: of the local generator of the search.

    Raises:
        InputError: a view index is out of range.
    """
    views = len(depth)
    if len(matches.views) and int(matches.views.max()) >= views:
        raise InputError("matches", f"view {int(matches.views.max())}", f"views from 0 to {views - 1}")
    problem = _Problem.of(matches, depth.double(), intrinsics.double())
    pairs = _pair_poses(problem, views, tolerance, torch.Generator().manual_seed(seed))
    start = torch.eye(3, 4, dtype=torch.float64).repeat(views, 1, 1) if initial is None else initial.double()
    poses, connected = chain_pairs(pairs, start)
    refined = _refine(problem, poses, connected, tolerance)
    return _result(problem, refined, connected, intrinsics, tolerance)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Matches with everything that does not change: lifted points of both ends in their own camera, rays, pixels."""

    views: Tensor  # (M, 2)
    lifted: Tensor  # (M, 2, 3) points at depth in the camera of each end
    pixels: Tensor  # (M, 2, 2) offsets from the principal point
    focal: Tensor  # (N, 2)
    weight: Tensor  # (M,)

    @classmethod
    def of(cls, matches: Matches, depth: Tensor, intrinsics: Tensor) -> _Problem:
        ends = torch.stack([matches.first, matches.second], 1).double()
        k = intrinsics[matches.views]
        focal = torch.stack([k[..., 0, 0], k[..., 1, 1]], -1)
        offset = ends - k[..., :2, 2]
        z = _sampled(depth, matches.views, ends)
        lifted = torch.cat([offset / focal, torch.ones_like(z)[..., None]], -1) * z[..., None]
        known = (z > 0).all(1) & torch.isfinite(z).all(1)
        weight = torch.where(known, matches.weight.double(), 0.0)
        every = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], -1)
        return cls(matches.views, torch.where(known[:, None, None], lifted, 1.0), offset, every, weight)


def _sampled(depth: Tensor, views: Tensor, pixels: Tensor) -> Tensor:
    column = pixels[..., 0].floor().long().clamp(0, depth.shape[2] - 1)
    row = pixels[..., 1].floor().long().clamp(0, depth.shape[1] - 1)
    return depth[views, row, column]


def _pair_poses(
    problem: _Problem, views: int, tolerance: float, generator: torch.Generator
) -> dict[tuple[int, int], tuple[Tensor, float]]:
    """(i, j) with i < j -> pose that takes camera i to camera j, and the weight that agrees with it."""
    found = {}
    for i in range(views):
        for j in range(i + 1, views):
            there = (problem.views == torch.tensor([i, j])).all(1)
            back = (problem.views == torch.tensor([j, i])).all(1)
            source = torch.cat([problem.lifted[there, 0], problem.lifted[back, 1]])
            target = torch.cat([problem.lifted[there, 1], problem.lifted[back, 0]])
            weight = torch.cat([problem.weight[there], problem.weight[back]])
            if int((weight > 0).sum()) >= _MIN_MATCHES:
                found[i, j] = _register(source, target, weight, tolerance, generator)
    return found


def _register(
    source: Tensor, target: Tensor, weight: Tensor, tolerance: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Robust rigid motion between lifted points: hypotheses from a few points each, judged by angles, then refitted."""
    index = torch.multinomial(weight.expand(_HYPOTHESES, -1), _SAMPLE, generator=generator)
    poses = fit_rigid(source[index], target[index], torch.ones(_HYPOTHESES, _SAMPLE, dtype=source.dtype))
    agreement = (_agrees(poses, source, target, tolerance) * weight).sum(-1)
    pose = poses[int(agreement.argmax())]
    for _ in range(5):
        inside = _agrees(pose[None], source, target, tolerance)[0] * weight
        # Errors of depth grow with depth.
        local = inside / target[:, 2].square().clamp(min=1e-9)
        again = fit_rigid(source[None], target[None], local[None])[0]
        better = float((_agrees(again[None], source, target, tolerance)[0] * weight).sum())
        if better <= float(inside.sum()):
            break
        pose = again
    return pose, float((_agrees(pose[None], source, target, tolerance)[0] * weight).sum())


def _agrees(poses: Tensor, source: Tensor, target: Tensor, tolerance: float) -> Tensor:
    """(X, M) in [0, 1]: how well moved points are seen where they were matched, both ways."""
    moved = torch.einsum("xij,mj->xmi", poses[..., :3], source) + poses[:, None, :, 3]
    back = torch.einsum("xji,xmj->xmi", poses[..., :3], target[None] - poses[:, None, :, 3])
    error = torch.maximum(_angle(moved, target[None]), _angle(back, source[None]))
    return (1 - (error / tolerance).square()).clamp(min=0)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.atan2(torch.linalg.cross(a, b.expand_as(a)).norm(dim=-1), (a * b).sum(-1))


def fit_rigid(
    source: Float[Tensor, "X M 3"], target: Float[Tensor, "X M 3"], weight: Float[Tensor, "X M"]
) -> Float[Tensor, "X 3 4"]:
    """Weighted least-squares rigid motions from source to target points (Kabsch 1976)."""
    share = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-12))[..., None]
    mean_s, mean_t = (share * source).sum(1), (share * target).sum(1)
    covariance = torch.einsum("xmi,xmj->xij", share * (target - mean_t[:, None]), source - mean_s[:, None])
    u, _, vt = torch.linalg.svd(covariance)
    sign = torch.ones(len(u), 3, dtype=u.dtype)
    sign[:, 2] = torch.linalg.det(u @ vt)
    rotation = (u * sign[:, None]) @ vt
    return torch.cat([rotation, (mean_t - (rotation @ mean_s[..., None])[..., 0])[..., None]], -1)


def chain_pairs(pairs: dict[tuple[int, int], tuple[Tensor, float]], start: Tensor) -> tuple[Tensor, list[bool]]:
    """Poses along the tree of the best supported pairs, from the first view.

    Args:
        pairs: by views (i, j), the pose of camera j relative to camera i (3, 4), and its support.
        start: (N, 3, 4) poses of views that the tree does not reach.

    Returns:
        world-to-camera poses (N, 3, 4), and which views the tree reaches.
    """
    poses = start.clone()
    poses[0] = torch.eye(3, 4, dtype=start.dtype)
    connected = [i == 0 for i in range(len(start))]
    while True:
        edges = [
            (support, i, j, pose)
            for (i, j), (pose, support) in pairs.items()
            if connected[i] != connected[j] and support > 0
        ]
        if not edges:
            return poses, connected
        _, i, j, pose = max(edges, key=lambda edge: edge[0])
        if connected[i]:
            poses[j] = _compose(pose, poses[i])
        else:
            poses[i] = _compose(rigid_inverse(pose), poses[j])
        connected[i] = connected[j] = True


def _compose(a: Tensor, b: Tensor) -> Tensor:
    moved = a[..., :3] @ b
    return torch.cat([moved[..., :3], moved[..., 3:] + a[..., 3:]], -1)


@dataclass(frozen=True, eq=False)
class _State:
    """What is refined: poses (N, 3, 4), logarithms of focal factors (N,) and of depth scales (N,)."""

    poses: Tensor
    log_focal: Tensor
    log_scale: Tensor

    def moved(self, step: Tensor) -> _State:
        """The state after a step of (N, 8): rotation vector, translation, focal, scale; poses change from the left."""
        turn = _exponential(step[:, :3])
        pose = torch.cat([turn @ self.poses[..., :3], turn @ self.poses[..., 3:] + step[:, 3:6, None]], -1)
        return _State(pose, self.log_focal + step[:, 6], self.log_scale + step[:, 7])


def _exponential(vector: Tensor) -> Tensor:
    """Rotation matrices of rotation vectors (N, 3)."""
    zero = torch.zeros_like(vector[:, 0])
    x, y, z = vector.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew)


def _residuals(problem: _Problem, state: _State) -> Tensor:
    """(2 M, 2) reprojection errors in radians, about: every match in both directions."""
    a, b = problem.views.unbind(1)
    forward = _one_way(problem, state, a, b, problem.lifted[:, 0], problem.pixels[:, 1])
    return torch.cat([forward, _one_way(problem, state, b, a, problem.lifted[:, 1], problem.pixels[:, 0])])


def _one_way(problem: _Problem, state: _State, a: Tensor, b: Tensor, lifted: Tensor, pixels: Tensor) -> Tensor:
    # In pixels over the predicted focal length: in angles, a longer focal length would shrink every error.
    narrow = state.log_focal.exp()
    scale = state.log_scale.exp()
    point = lifted * scale[a, None]
    point = torch.cat([point[:, :2] / narrow[a, None], point[:, 2:]], -1)
    between = _compose(state.poses[:, None], rigid_inverse(state.poses)[None])  # far fewer pairs of views than matches
    relative = between[b, a]
    moved = (relative[..., :3] * point[..., None, :]).sum(-1) + relative[..., 3]
    seen = moved[:, :2] / moved[:, 2:].clamp(min=0.02 * lifted[:, 2:].abs())
    return seen * narrow[b, None] - pixels / problem.focal[b]


def _refine(problem: _Problem, poses: Tensor, connected: list[bool], tolerance: float) -> _State:
    """Levenberg-Marquardt with a robust weight per match; the first pose and unconnected views stay."""
    views = len(poses)
    state = _State(poses, poses.new_zeros(views), poses.new_zeros(views))
    free = torch.zeros(views, 8, dtype=torch.bool)
    for i, joined in enumerate(connected):
        free[i, :6], free[i, 6:] = joined and i > 0, joined
    if not bool((problem.weight > 0).any()) or int(free.sum()) <= 8:
        return state
    joined_views = torch.tensor(connected)
    weight = torch.where(joined_views[problem.views].all(1), problem.weight, 0.0).repeat(2)
    damping = 1e-3
    cost = _cost(problem, state, weight, tolerance)
    for _ in range(_ROUNDS):
        step = _step(problem, state, weight, free, tolerance, damping)
        proposal = state.moved(step)
        proposed = _cost(problem, proposal, weight, tolerance)
        if proposed < cost:
            small = cost - proposed < 1e-6 * cost
            state, cost, damping = proposal, proposed, damping / 3
            if small:
                break
        else:
            damping *= 5
            if damping > 1e6:
                break
    return state


def _cost(problem: _Problem, state: _State, weight: Tensor, tolerance: float) -> float:
    squared = _residuals(problem, state).square().sum(-1) / tolerance**2
    prior = (state.log_focal / _FOCAL_PRIOR).square().sum() + (state.log_scale / _SCALE_PRIOR).square().sum()
    return float((weight * squared / (1 + squared)).sum() + 0.5 * prior)  # Geman-McClure: outliers end up constant


def _step(problem: _Problem, state: _State, weight: Tensor, free: Tensor, tolerance: float, damping: float) -> Tensor:
    zero = torch.zeros(len(state.poses), 8, dtype=state.poses.dtype)
    residual = _residuals(problem, state)
    squared = residual.square().sum(-1) / tolerance**2
    robust = (weight / (1 + squared).square()).sqrt()[:, None] / tolerance
    basis = torch.eye(zero.numel(), dtype=zero.dtype)[free.flatten()].view(-1, *zero.shape)

    def along(direction: Tensor) -> Tensor:
        return torch.func.jvp(lambda s: _residuals(problem, state.moved(s)), (zero,), (direction,))[1]

    jacobian = (torch.vmap(along)(basis) * robust).flatten(1)  # (parameters, residuals)
    normal = jacobian @ jacobian.T
    gradient = jacobian @ (residual * robust).flatten()
    prior = zero.clone()
    prior[:, 6], prior[:, 7] = 0.5 / _FOCAL_PRIOR**2, 0.5 / _SCALE_PRIOR**2
    offset = zero.clone()
    offset[:, 6], offset[:, 7] = state.log_focal, state.log_scale
    chosen = free.flatten()
    normal = normal + torch.diag(prior.flatten()[chosen])
    gradient = gradient + (prior * offset).flatten()[chosen]
    normal = normal + damping * torch.diag(normal.diagonal().clamp(min=1e-9))
    step = zero.flatten().clone()
    step[chosen] = -torch.linalg.solve(normal, gradient)
    return step.view_as(zero)


def _result(
    problem: _Problem, state: _State, connected: list[bool], intrinsics: Tensor, tolerance: float
) -> MatchedCameras:
    refined = intrinsics.clone()
    factor = state.log_focal.exp().to(intrinsics)
    refined[:, 0, 0] *= factor
    refined[:, 1, 1] *= factor
    error = _residuals(problem, state).norm(dim=-1)
    agreeing = (error < tolerance).to(error.dtype) * problem.weight.repeat(2)
    ends = torch.cat([problem.views[:, 1], problem.views[:, 0]])
    support = torch.zeros(len(connected), dtype=error.dtype).index_add(0, ends, agreeing)
    poses = _compose(state.poses, rigid_inverse(state.poses[:1]))
    return MatchedCameras(
        extrinsics=poses.to(intrinsics),
        intrinsics=refined,
        depth_scale=state.log_scale.exp().to(intrinsics),
        support=torch.where(torch.tensor(connected), support, 0.0).to(intrinsics),
    )
