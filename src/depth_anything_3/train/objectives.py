"""What is learned: a network and a batch to named losses.

An objective is a module around the network, so that one forward pass is all that a distributed wrapper sees. Its
options say which losses there are and how much they weigh.

Letters: B samples, N views, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.encoding import encode_cameras
from depth_anything_3.geometry.poses import rigid_inverse
from depth_anything_3.infer.preprocess import IMAGE_MEAN, IMAGE_STD
from depth_anything_3.metrics.matching import true_patch_matches
from depth_anything_3.model.attention_tap import tapped
from depth_anything_3.model.da3 import DepthAnything3Net, Encoded
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
from depth_anything_3.model.readout import CANONICAL_FOCAL
from depth_anything_3.splat.base import render
from depth_anything_3.train import gaussian_losses as G
from depth_anything_3.train import losses as L
from depth_anything_3.train import teacher_losses as T
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.camera_norm import FoldableNorm
from depth_anything_3.train.correspondence import DEPTH_TOLERANCE, correspondence_loss

Kind = Literal["anyview", "teacher", "mono", "metric", "gaussians"]

MULTI_VIEW: tuple[Kind, ...] = ("anyview", "gaussians")
"""Kinds whose samples are several views, and whose network may be given their cameras."""

_SMALLEST = 1e-30
_COVERED = 0.5  # share of a pixel that Gaussians cover, from which on its depth is theirs


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """Losses and their weights; a weight of 0 leaves the term out.

    Attributes:
        kind: ``anyview`` (section 3.2), ``teacher`` and ``mono`` (section 3.3), ``metric`` (section 3.4),
            ``gaussians``: pictures of views that the network has not seen, drawn from the Gaussians of those it has.
        depth_space: see :func:`~depth_anything_3.train.losses.depth_loss`.
        depth, ray, point, camera, gradient: weights of the any-view losses.
        conf_weight: lambda of the confidence; None trains no confidence. The best confidence of a pixel is lambda
            divided by its error, and none is below 1: where lambda is below most errors, the confidence ends at 1
            everywhere and says nothing.
        ray_conf_weight: that of the rays, whose error is a sum over six channels; None takes ``conf_weight``.
        gradient_scales: scales of the gradient loss.
        ray_target: what the ray branch predicts: ``rays``, or for an ablation ``points`` of the world, in channels 0-2.
        relative_points: see :func:`~depth_anything_3.train.losses.point_loss`.
        pose_conditioning: share of steps at which the true cameras are given to the network.
        correspondence: weight of the auxiliary loss on attention.
        correspondence_blocks: the blocks that it acts on, all of them across views.
        correspondence_heads: that many heads of each, from the first.
        stream: weight of a bound on the residual stream, see :func:`stream_excess`.
        global_local, normal, sky, object: weights of the teacher's losses; ``object`` counts for samples of single
            objects, and teaches the sky output what is around them.
        levels, anchors, fit_samples: of the global-local loss.
        normal_stride: normals are taken from every so manieth pixel.
        anchor: weight of a pull of the teacher's depth, whose scale and shift mean nothing, towards those of the truth:
            see :func:`~depth_anything_3.train.teacher_losses.affine_distance`.
        camera_norm: normalise the camera token in front of the decoder, see
            :mod:`~depth_anything_3.train.camera_norm`.
        picture, structure: weights of the squared error of the drawn pictures, and of what stands for the perceptual
            term, see :mod:`~depth_anything_3.train.gaussian_losses`. ``depth`` is that of the drawn depth there, up to
            scale and shift.
        targets: at most so many views of a sample are drawn; the network sees the others, one at least.
        redraw: draw those that the network sees as well. Where depth is coarse, nothing at all fits a new view as well
            as Gaussians in wrong places do, and opacities once at zero have no gradient left to come back by.
        autocast_head: run the dense head in low precision too, not only the backbone.
    """

    kind: Kind = "anyview"
    depth_space: L.DepthSpace = "linear"
    depth: float = 1.0
    ray: float = 1.0
    point: float = 1.0
    camera: float = 1.0
    gradient: float = 1.0
    conf_weight: float | None = 0.2
    ray_conf_weight: float | None = None
    gradient_scales: int = 1
    ray_target: Literal["rays", "points"] = "rays"
    relative_points: bool = False
    pose_conditioning: float = 0.2
    correspondence: float = 0.0
    correspondence_blocks: tuple[int, ...] = (5, 7)
    correspondence_heads: int = 2
    stream: float = 0.0
    global_local: float = 1.0
    normal: float = 1.0
    sky: float = 1.0
    object: float = 1.0
    levels: tuple[int, ...] = (4, 16, 64)
    anchors: tuple[int, ...] = (16, 256, 4096)
    fit_samples: int = 1024
    normal_stride: int = 1
    anchor: float = 0.0
    camera_norm: bool = False
    picture: float = 1.0
    structure: float = 0.1
    targets: int = 1
    redraw: bool = False
    autocast_head: bool = False


class Losses(dict[str, Tensor]):
    """Name -> one value per sample; ``total`` is their weighted sum. Names with a leading underscore are only shown."""


class Objective(nn.Module):
    """A network with its losses.

    Args:
        net: the network to train.
        options: see :class:`ObjectiveOptions`.
    """

    def __init__(self, net: DepthAnything3Net, options: ObjectiveOptions) -> None:
        super().__init__()
        self.net, self.options = net, options
        self.camera_norm: FoldableNorm | None = None
        if options.camera_norm and net.cam_dec is not None:
            self.camera_norm = FoldableNorm(net.cam_dec.fc_t.in_features)
            norm = self.camera_norm
            net.cam_dec.register_forward_pre_hook(lambda module, inputs: (norm(inputs[0]), *inputs[1:]))

    def forward(self, batch: Batch, labels: Tensor | None, seed: int, autocast: torch.dtype | None) -> Losses:
        """Losses of a batch.

        Args:
            batch: images and truth.
            labels: depth that supervises instead of the batch's own (B, N, H, W), 0 where there is none.
            seed: of every random choice made here.
            autocast: precision of the network; losses are float32.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.options.kind == "anyview":
            return self._anyview(batch, labels, generator, autocast)
        if self.options.kind == "gaussians":
            return self._gaussians(batch, labels, generator, autocast)
        return self._single(batch, labels, generator, autocast)

    def _encode(self, batch: Batch, autocast: torch.dtype | None, **options: object) -> Encoded:
        device = batch.images.device.type
        context = nullcontext() if autocast is None else torch.autocast(device, autocast)
        # On the CPU the fused kernel is slow in its backward pass over as few tokens as there are here.
        kernel = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
        with context, kernel:
            encoded = self.net.encode(batch.images, autocast_head=self.options.autocast_head, **options)  # type: ignore[arg-type]
        parts: dict[str, Any] = {
            name: v.float() if isinstance(v, Tensor) else v for name, v in encoded._asdict().items()
        }
        return Encoded(**parts)

    def _anyview(
        self, batch: Batch, labels: Tensor | None, generator: torch.Generator, autocast: torch.dtype | None
    ) -> Losses:
        o = self.options
        truth = AnyviewTruth.of(batch, labels)
        given = self._given(batch, generator)
        wanted = o.correspondence > 0 and batch.views > 1
        backbone = self.net.backbone.pretrained
        with tapped(backbone, o.correspondence_blocks if wanted else ()) as taps, last_tokens(backbone) as stream:
            encoded = self._encode(batch, autocast, rays=True, ref_view_strategy="first", **given)
            result = Losses()
            if wanted:
                matches = true_patch_matches(batch.depth, batch.intrinsics, batch.extrinsics, tolerance=DEPTH_TOLERANCE)
                parts = [
                    correspondence_loss(tap.logits(batch.views, slice(0, o.correspondence_heads)), matches)
                    for tap in taps
                ]
                result["correspondence"] = o.correspondence * torch.stack([loss for loss, _ in parts]).mean(0)
                result["_top1"] = parts[-1][1]
        conf = encoded.depth_conf if o.conf_weight is not None else None
        weight = o.conf_weight or 0.0
        result["depth"] = o.depth * L.depth_loss(
            encoded.depth, truth.depth, truth.valid, conf, conf_weight=weight, space=o.depth_space
        )
        if o.gradient:
            result["gradient"] = o.gradient * L.gradient_loss(
                encoded.depth, truth.depth, truth.valid, space=o.depth_space, scales=o.gradient_scales
            )
        if encoded.ray is not None and (o.ray or o.point):
            self._ray_terms(result, encoded, truth, batch)
        if encoded.pose_encoding is not None and o.camera:
            result["camera"] = o.camera * L.camera_loss(encoded.pose_encoding, truth.pose_encoding)
        if o.stream:
            tokens = stream[0].reshape(len(batch.images), batch.views, -1, stream[0].shape[-1])
            result["stream"] = o.stream * stream_excess(tokens)
        return _totalled(result)

    def _given(self, batch: Batch, generator: torch.Generator) -> dict[str, object]:
        """The true cameras, at a share of the steps."""
        share = self.options.pose_conditioning
        if not share or float(torch.rand((), generator=generator)) >= share:
            return {}
        return {"extrinsics": conditioning_poses(batch.extrinsics), "intrinsics": batch.intrinsics}

    def _gaussians(
        self, batch: Batch, labels: Tensor | None, generator: torch.Generator, autocast: torch.dtype | None
    ) -> Losses:
        """Gaussians of some views, placed by the true cameras, drawn from the others.

        True lengths are brought to the unit of the predicted depth, by the median over the views that are seen.
        """
        o = self.options
        if batch.views < 2:
            raise InputError("views", str(batch.views), "at least 2: some to see and some to draw")
        seen, drawn = _split(batch.views, o.targets, generator)
        drawn += seen if o.redraw else []
        shown, wanted = batch.take(seen), batch.take(drawn)
        given = self._given(shown, generator)
        encoded = self._encode(shown, autocast, gaussians=True, ref_view_strategy="first", **given)
        assert encoded.raw_gaussians is not None and self.net.gs_adapter is not None
        truth = AnyviewTruth.of(batch, labels)
        scale = G.median_ratio(truth.depth[:, seen], encoded.depth.detach(), truth.valid[:, seen])[:, None, None, None]
        poses = torch.cat([truth.camera_from_world[..., :3], truth.camera_from_world[..., 3:] / scale], -1)
        gaussians = self.net.gs_adapter(
            encoded.raw_gaussians, encoded.opacity, encoded.depth, poses[:, seen], shown.intrinsics
        )
        made = render(gaussians, poses[:, drawn], wanted.intrinsics, batch.image_hw)
        target = _colours(wanted.images)
        error = G.picture_loss(made.colour, target)
        result = Losses({"picture": o.picture * error, "_psnr": -10 * error.detach().clamp(min=_SMALLEST).log10()})
        if o.structure:
            result["structure"] = o.structure * G.structure_loss(made.colour, target)
        if o.depth:
            covered = truth.valid[:, drawn] & (made.alpha.detach() > _COVERED)
            result["depth"] = o.depth * G.free_depth_loss(made.depth, truth.depth[:, drawn], covered)
        return _totalled(result)

    def _ray_terms(self, result: Losses, encoded: Encoded, truth: AnyviewTruth, batch: Batch) -> None:
        o = self.options
        assert encoded.ray is not None
        size = (encoded.ray.shape[2], encoded.ray.shape[3])
        target = L.ray_map(batch.intrinsics, truth.world_from_camera, batch.image_hw, size)
        if o.ray_target == "points":
            self._point_map_term(result, encoded.ray, target, truth, size)
            return
        if o.ray:
            conf = encoded.ray_conf if o.conf_weight is not None else None
            weight = o.ray_conf_weight or o.conf_weight or 0.0
            result["ray"] = o.ray * L.ray_loss(encoded.ray, target, conf, conf_weight=weight)
        if o.point:
            depth, true_depth = L.at_ray_size(encoded.depth, size), L.at_ray_size(truth.depth, size)
            valid = L.at_ray_size(truth.valid.to(depth.dtype), size) > 0.5
            points = true_depth[..., None] * target[..., :3] + target[..., 3:]
            result["point"] = o.point * L.point_loss(depth, encoded.ray, points, valid, relative=o.relative_points)

    def _point_map_term(
        self, result: Losses, ray: Tensor, rays: Tensor, truth: AnyviewTruth, size: tuple[int, int]
    ) -> None:
        """World points instead of rays: zero depth along the predicted direction leaves the predicted origin."""
        depth = L.at_ray_size(truth.depth, size)
        points = depth[..., None] * rays[..., :3] + rays[..., 3:]
        as_origin = torch.cat([torch.zeros_like(points), ray[..., :3]], -1)
        zero = torch.zeros_like(depth)
        result["ray"] = self.options.ray * L.point_loss(zero, as_origin, points, depth > 0)

    def _single(
        self, batch: Batch, labels: Tensor | None, generator: torch.Generator, autocast: torch.dtype | None
    ) -> Losses:
        o = self.options
        with sky_logits(self.net) as logits:
            encoded = self._encode(batch, autocast)
        depth = encoded.depth.flatten(0, 1)
        target = (batch.depth if labels is None else labels).flatten(0, 1)
        valid = target > 0
        rays = _camera_rays(batch).flatten(0, 1)
        views = batch.views
        result = Losses()
        if o.kind == "metric":
            focal = (batch.intrinsics[..., 0, 0] + batch.intrinsics[..., 1, 1]).flatten() / 2
            target = target * (CANONICAL_FOCAL / focal)[:, None, None]
            depth_, target_, valid_ = (v[:, None] for v in (depth, target, valid))
            result["depth"] = o.depth * L.depth_loss(depth_, target_, valid_, space=o.depth_space)
            result["gradient"] = o.gradient * L.gradient_loss(
                depth_, target_, valid_, space=o.depth_space, scales=o.gradient_scales
            )
        else:
            self._teacher_terms(result, depth, target, valid, rays, generator)
        if (o.sky or o.object) and logits:
            error = T.mask_loss(torch.cat(logits).squeeze(1).float(), batch.sky.flatten(0, 1))
            known, objects = (v.repeat_interleave(views) for v in (batch.sky_known, batch.objects))
            result["sky"] = o.sky * torch.where(known & ~objects, error, 0.0)
            if bool(batch.objects.any()):
                result["object"] = o.object * torch.where(known & objects, error, 0.0)
        return _totalled(Losses({name: value.unflatten(0, (-1, views)).mean(1) for name, value in result.items()}))

    def _teacher_terms(
        self, result: Losses, depth: Tensor, target: Tensor, valid: Tensor, rays: Tensor, generator: torch.Generator
    ) -> None:
        o = self.options
        points = rays * target[..., None]
        scale = L.points_scale(points[:, None], valid[:, None])
        target, points = target / scale[:, None, None], points / scale[:, None, None, None]
        weight = torch.where(valid, 1 / target.clamp(min=1e-3), 0.0)
        if o.anchor:
            result["anchor"] = o.anchor * T.affine_distance(depth, target, weight)
        depth = T.detach_affine(depth, weight)
        result["global_local"] = o.global_local * T.global_local_loss(
            depth, target, valid, points, levels=o.levels, anchors=o.anchors, samples=o.fit_samples, generator=generator
        )
        with torch.no_grad():
            s, b = T.fit_affine(depth.flatten(1), target.flatten(1), weight.flatten(1))
        aligned = s[:, None, None] * depth + b[:, None, None]
        if o.gradient:
            result["gradient"] = o.gradient * L.gradient_loss(
                aligned[:, None], target[:, None], valid[:, None], space=o.depth_space, scales=o.gradient_scales
            )
        if o.normal:
            step = o.normal_stride
            sparse = (slice(None), slice(None, None, step), slice(None, None, step))
            predicted = rays[sparse] * aligned[sparse][..., None]
            result["normal"] = o.normal * T.normal_loss(predicted, points[sparse], valid[sparse])


def _split(views: int, most: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Views to see and views to draw, by chance."""
    count = 1 + int(torch.randint(min(most, views - 1), (), generator=generator))
    order = torch.randperm(views, generator=generator).tolist()
    return sorted(order[count:]), sorted(order[:count])


def _colours(images: Float[Tensor, "B N 3 H W"]) -> Float[Tensor, "B N 3 H W"]:
    """Values from 0 to 1 of normalised pictures."""
    mean, std = (torch.from_numpy(v).to(images)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    return images * std + mean


@dataclass(frozen=True)
class AnyviewTruth:
    """Truth of a batch in the frame of its first view, divided by the mean distance of its points."""

    depth: Float[Tensor, "B N H W"]
    valid: Tensor
    camera_from_world: Float[Tensor, "B N 3 4"]
    world_from_camera: Float[Tensor, "B N 3 4"]
    pose_encoding: Float[Tensor, "B N 9"]

    @classmethod
    def of(cls, batch: Batch, labels: Tensor | None = None) -> AnyviewTruth:
        """Normalise a batch; ``labels`` replace its depth."""
        depth = batch.depth if labels is None else labels
        valid = depth > 0
        relative = relative_to_first(batch.extrinsics)
        world_from_camera = rigid_inverse(relative)
        rays = _camera_rays(batch)
        camera_points = rays * depth[..., None]
        points = torch.einsum("bnij,bnhwj->bnhwi", world_from_camera[..., :3], camera_points)
        points = points + world_from_camera[:, :, None, None, :, 3]
        scale = L.points_scale(points, valid)[:, None, None, None]
        camera_from_world = torch.cat([relative[..., :3], relative[..., 3:] / scale], -1)
        world_from_camera = torch.cat([world_from_camera[..., :3], world_from_camera[..., 3:] / scale], -1)
        encoding = encode_cameras(camera_from_world, batch.intrinsics, batch.image_hw)
        return cls(depth / scale, valid, camera_from_world, world_from_camera, encoding)


def relative_to_first(extrinsics: Float[Tensor, "B N 3 4"]) -> Float[Tensor, "B N 3 4"]:
    """World-to-camera poses whose world is the first camera."""
    first = rigid_inverse(extrinsics[:, :1])
    rotation = extrinsics[..., :3] @ first[..., :3]
    translation = extrinsics[..., :3] @ first[..., 3:] + extrinsics[..., 3:]
    return torch.cat([rotation, translation], -1)


def conditioning_poses(extrinsics: Float[Tensor, "B N 3 4"]) -> Float[Tensor, "B N 3 4"]:
    """Poses as inference gives them to the network (see :func:`depth_anything_3.infer.cameras.normalise_extrinsics`):
    relative to the first view and divided by the lower median distance from it, or by the one distance there is.
    """
    relative = relative_to_first(extrinsics)
    distance = rigid_inverse(relative)[..., 3].norm(dim=-1)
    unit = distance[:, -1].clamp(min=1e-6) if extrinsics.shape[1] == 2 else distance.median(1).values.clamp(min=0.1)
    return torch.cat([relative[..., :3], relative[..., 3:] / unit[:, None, None, None]], -1)


STREAM_LIMIT = 32.0
"""Root mean square of a token from which on it counts as too large; where the stream starts, it is 2 to 6."""


def stream_excess(tokens: Float[Tensor, "B N T C"]) -> Float[Tensor, " B"]:
    """How far the residual stream has outgrown :data:`STREAM_LIMIT`: squared logarithm of the excess, of the camera
    tokens and of the patches, which are many more, in equal parts.

    Whatever reads the stream normalises it first, so that no other loss keeps it from growing. Where it grows, what
    images have in common outgrows what tells them apart, down to the last bits of low precision.

    Args:
        tokens: behind the last block, the camera token first.
    """
    size = tokens.float().square().mean(-1).add(_SMALLEST).log() / 2
    excess = (size - math.log(STREAM_LIMIT)).clamp(min=0).square()
    return (excess[:, :, 0].mean(1) + excess[:, :, 1:].flatten(1).mean(1)) / 2


@contextmanager
def last_tokens(backbone: DinoVisionTransformer) -> Iterator[list[Tensor]]:
    """What the last block of a backbone gives."""
    tokens: list[Tensor] = []
    handle = backbone.blocks[-1].register_forward_hook(lambda module, inputs, output: tokens.append(output))
    try:
        yield tokens
    finally:
        handle.remove()


@contextmanager
def sky_logits(net: DepthAnything3Net) -> Iterator[list[Tensor]]:
    """What the sky branch gives before its ReLU, (views, 1, H, W) per chunk; nothing if there is no such branch."""
    logits: list[Tensor] = []
    if "sky" not in net.abilities:
        yield logits
        return
    branch = net.head.scratch.get_submodule("sky_output_conv2")
    handle = branch.register_forward_hook(lambda module, inputs, output: logits.append(output))
    try:
        yield logits
    finally:
        handle.remove()


def _camera_rays(batch: Batch) -> Float[Tensor, "B N H W 3"]:
    """K^-1 p at every pixel."""
    identity = torch.eye(3, 4, device=batch.images.device).expand(*batch.intrinsics.shape[:2], 3, 4)
    return L.ray_map(batch.intrinsics, identity, batch.image_hw, batch.image_hw)[..., :3]


def _totalled(result: Losses) -> Losses:
    terms = [value for name, value in result.items() if not name.startswith("_")]
    total = torch.stack(terms).sum(0)
    result["total"] = total
    return result
