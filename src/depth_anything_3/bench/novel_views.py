"""Novel views: which views of a scene are seen and which are asked for, and pictures of the latter.

What a data set fixes of this is in :class:`~depth_anything_3.datasets.benchmark.base.NovelViews`; the mode ``nvs``
scores the pictures. A model draws its Gaussians. Two references stand beside it where a scene has a true depth: the
nearest context view, warped by the *true* depth of the target, and plain Gaussians at the true depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.bench.evaluate import Estimate, Floats
from depth_anything_3.bench.task import Request
from depth_anything_3.datasets.base import View
from depth_anything_3.datasets.benchmark.base import NovelViews
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, pixel_centres, project, unproject
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.splat.base import render
from depth_anything_3.splat.from_depth import gaussians_from_depth
from depth_anything_3.types.gaussians import Gaussians

Array = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

_FAR = 1e3  # times the median depth: where the sky is


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which views of a scene are seen, and which are asked for.

    Attributes:
        context, targets: numbers of views, ascending.
    """

    context: tuple[int, ...]
    targets: tuple[int, ...]


def split_views(rule: NovelViews, extrinsics: Array, *, depth: float | None = None) -> Split:
    """The split of a scene by the rule of its data set; no picture is looked at.

    Args:
        rule: of the data set.
        extrinsics: (N, 3, 4) world-to-camera of all views.
        depth: median depth of the scene; needed where the rule has an angle.

    Raises:
        InputError: too few views, none is far enough, or the depth is not known.
    """
    if rule.every is None:
        return _far_views(rule, extrinsics, depth)
    targets = np.arange(0, len(extrinsics), rule.every)
    rest = np.setdiff1d(np.arange(len(extrinsics)), targets)
    if not len(rest):
        raise InputError("scene", f"{len(extrinsics)} views", "at least two, one seen and one asked for")
    context = rest[list(farthest_views(extrinsics[rest], min(rule.context, len(rest))))]
    return Split(context=tuple(context.tolist()), targets=tuple(targets.tolist()))


def _far_views(rule: NovelViews, extrinsics: Array, depth: float | None) -> Split:
    """Context views, and all others that are seen far enough off each of them."""
    if depth is None:
        raise InputError("scene", "no known median depth", "a scene whose median depth is known")
    context = farthest_views(extrinsics, rule.context)
    angle = view_angle_deg(extrinsics, depth)
    rest = [i for i in range(len(extrinsics)) if i not in context]
    targets = tuple(i for i in rest if angle[i, list(context)].min() >= rule.angle_deg)
    if not targets:
        raise InputError("scene", "no view that is far enough from all context views", f"{rule.angle_deg:g} degrees")
    return Split(context=context, targets=targets)


def pose_distance(extrinsics: Array) -> Array:
    """(N, N) distances of cameras: between their centres, by the median distance from the middle of all, plus the angle
    between their orientations, by pi."""
    centres = camera_centres(extrinsics)
    spread = float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))) or 1.0
    apart: Array = np.linalg.norm(centres[:, None] - centres, axis=-1) / spread
    return apart + np.radians(_turns_deg(extrinsics)) / np.pi


def farthest_views(extrinsics: Array, count: int) -> tuple[int, ...]:
    """Farthest-point sampling by :func:`pose_distance`, from the view nearest to the middle on; ascending.

    Raises:
        InputError: there are not so many views.
    """
    if not 1 <= count <= len(extrinsics):
        raise InputError("count", str(count), f"1 to {len(extrinsics)} views")
    distance, centres = pose_distance(extrinsics), camera_centres(extrinsics)
    chosen = [int(np.linalg.norm(centres - centres.mean(0), axis=1).argmin())]
    while len(chosen) < count:
        nearest = distance[chosen].min(0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return tuple(sorted(chosen))


def view_angle_deg(extrinsics: Array, depth: float) -> Array:
    """(N, N) how differently two cameras see a scene: the larger of the angle between their orientations, and the angle
    between the directions in which both stand from the point straight in front of the first one, at a depth.

    Args:
        extrinsics: (N, 3, 4) world-to-camera.
        depth: median depth of the scene, in the unit of the poses.
    """
    centres = camera_centres(extrinsics)
    points = centres + depth * extrinsics[:, 2, :3]
    away = centres - points[:, None]
    away /= np.linalg.norm(away, axis=-1, keepdims=True).clip(1e-12)
    own = away[np.arange(len(away)), np.arange(len(away))]
    seen: Array = np.degrees(np.arccos((away * own[:, None]).sum(-1).clip(-1, 1)))
    return np.maximum(_turns_deg(extrinsics), seen)


def _turns_deg(extrinsics: Array) -> Array:
    turns: Array = rotation_angle_deg(extrinsics[:, None, :, :3] @ extrinsics[None, :, :, :3].swapaxes(-1, -2))
    return turns


# --- pictures --------------------------------------------------------------------------------------------------------


def draw(gaussians: Gaussians, extrinsics: Floats, intrinsics: Floats, size: tuple[int, int]) -> Pictures:
    """(M, H, W, 3) pictures of Gaussians, over black.

    Args:
        gaussians: in the world of the cameras.
        extrinsics: (M, 3, 4) world-to-camera.
        intrinsics: (M, 3, 3) in pixels.
        size: height and width.
    """
    device = gaussians.means.device
    poses, lenses = (torch.from_numpy(np.asarray(a, np.float32)).to(device)[None] for a in (extrinsics, intrinsics))
    with torch.inference_mode():
        drawn = render(gaussians, poses, lenses, size)
    return as_bytes(drawn.colour[0].movedim(1, -1).cpu().numpy())


def as_bytes(pictures: Floats) -> Pictures:
    """Pictures with values from 0 to 1 as bytes; values outside are cut."""
    return np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)


def nearest_view(request: Request) -> Estimate:
    """Of every target the nearest context view by :func:`pose_distance`, looked up where the true depth says.

    Sky is infinitely far. What the view does not show is what is at its border. Nothing is done about what is hidden:
    whatever is in front is shown twice.

    Raises:
        InputError: the scene has no true depth.
    """
    seen, wanted = _truth(request)
    far = _far(wanted)
    distance = pose_distance(np.stack([_pose(view) for view in (*seen, *wanted)]))[len(seen) :, : len(seen)]
    made = []
    for target, row in zip(wanted, distance, strict=True):
        source = seen[int(row.argmin())]
        depth = _with_sky(target, far).astype(np.float64)
        points = unproject(depth, np.asarray(target.intrinsics, np.float64), _pose(target))
        xy, z = project(points, np.asarray(source.intrinsics, np.float64), _pose(source))
        xy = np.where((z > 0)[..., None], xy, pixel_centres(*depth.shape)) - 0.5
        column, row_ = (xy[..., i].astype(np.float32) for i in (0, 1))
        made.append(cv2.remap(source.image, column, row_, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return Estimate(pictures=np.stack(made).astype(np.uint8))


def true_splats(request: Request) -> Estimate:
    """Plain Gaussians at the true depth of the context views: what splatting alone can do. Sky is far away.

    Raises:
        InputError: the scene has no true depth.
    """
    seen, _ = _truth(request)
    assert request.targets is not None
    far = _far(seen)
    depth = np.stack([_with_sky(view, far) for view in seen])
    pictures, lenses = np.stack([view.image for view in seen]), np.stack([view.intrinsics for view in seen])
    poses = np.stack([_pose(view) for view in seen]).astype(np.float32)
    targets = request.targets
    made = gaussians_from_depth(depth, pictures, lenses, poses)
    return Estimate(pictures=draw(made, targets.extrinsics, targets.intrinsics, targets.size))


def _truth(request: Request) -> tuple[list[View], list[View]]:
    """Context views and targets with their true depth."""
    if request.targets is None:
        raise InputError("mode", "no targets", "nvs, the only one that this reference is for")
    views = request.truth()
    if any(view.depth is None or not (view.depth > 0).any() for view in views):
        raise InputError("scene", f"{request.scene} without depth", "a scene whose true depth is known")
    return views[: len(request.frames)], views[len(request.frames) :]


def _far(views: Sequence[View]) -> float:
    return _FAR * float(np.median(np.concatenate([v.depth[v.depth > 0] for v in views if v.depth is not None])))


def _with_sky(view: View, far: float) -> npt.NDArray[np.float32]:
    assert view.depth is not None
    return np.where(view.depth > 0, view.depth, far).astype(np.float32)


def _pose(view: View) -> Array:
    if view.extrinsics is None:
        raise InputError("scene", "a view without a pose", "a scene with poses")
    return view.extrinsics.astype(np.float64)
