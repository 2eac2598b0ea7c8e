"""Depth Anything 3: the whole network.

``encode`` runs the transformer and the heads: tensors in, tensors out, no decision depends on a value. ``readout``
turns what they report into cameras, filled sky and Gaussians. ``forward`` is one after the other with the published
defaults. Training, export and compilation use ``encode``.

Letters: B scenes, N views, H W pixels (multiples of 14), C channels of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3._attr_dict import AttrDict
from depth_anything_3.cfg import create_object
from depth_anything_3.errors import CapabilityError, ConfigError, InputError
from depth_anything_3.geometry.encoding import decode_cameras
from depth_anything_3.geometry.gaussians import scale_gaussians
from depth_anything_3.geometry.rays import Decomposition, cameras_from_rays
from depth_anything_3.model.cam_dec import CameraDec
from depth_anything_3.model.cam_enc import CameraEnc
from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.dinov2 import DinoV2
from depth_anything_3.model.dinov2.vision_transformer import LayerFeatures
from depth_anything_3.model.dpt import DPT
from depth_anything_3.model.dualdpt import DualDPT
from depth_anything_3.model.gs_adapter import GaussianAdapter
from depth_anything_3.model.gsdpt import GSDPT
from depth_anything_3.model.readout import fill_sky, metric_depth, metric_scale, to_metres
from depth_anything_3.types.options import PATCH_SIZE
from depth_anything_3.types.output import NetOutput

BlockCallback = Callable[[int, int], None]
GaussianUnit = Literal["given", "predicted"]


class Encoded(NamedTuple):
    """What the heads report; absent parts are None.

    ``depth, depth_conf, sky`` (B, N, H, W); ``ray`` (B, N, 8H/14, 8W/14, 6) and ``ray_conf``; ``pose_encoding``
    (B, N, 9); ``raw_gaussians`` (B, N, H, W, d) and ``opacity`` (B, N, H, W); ``features`` block index -> patch
    features (B, N, H/14, W/14, C) in input view order.
    """

    depth: Tensor
    depth_conf: Tensor | None
    sky: Tensor | None
    ray: Tensor | None
    ray_conf: Tensor | None
    pose_encoding: Tensor | None
    raw_gaussians: Tensor | None
    opacity: Tensor | None
    features: dict[int, Tensor]


class DepthAnything3Net(nn.Module):
    """A backbone, a dense head and, depending on the variant, camera modules and a Gaussian head.

    Every argument may be a module or the configuration of one. The camera encoder exists only beside a decoder, the
    Gaussian modules only together.
    """

    PATCH_SIZE = PATCH_SIZE

    def __init__(
        self,
        net: DinoV2 | Mapping[str, Any],
        head: DualDPT | DPT | Mapping[str, Any],
        cam_dec: CameraDec | Mapping[str, Any] | None = None,
        cam_enc: CameraEnc | Mapping[str, Any] | None = None,
        gs_head: GSDPT | Mapping[str, Any] | None = None,
        gs_adapter: GaussianAdapter | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone: DinoV2 = _built(net)
        self.head: DualDPT | DPT = _built(head)
        self.cam_dec: CameraDec | None = _built(cam_dec)
        self.cam_enc: CameraEnc | None = _built(cam_enc) if cam_dec is not None else None
        both = gs_head is not None and gs_adapter is not None
        self.gs_head: GSDPT | None = _built(gs_head) if both else None
        self.gs_adapter: GaussianAdapter | None = _built(gs_adapter) if both else None
        if self.gs_head is not None and self.gs_adapter is not None:
            want, got = self.gs_adapter.d_in + 1, self.gs_head.output_dim
            if want != got:
                raise ConfigError("gs_head.output_dim", str(got), f"{want}, what the adapter reads and the opacity")

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return self.backbone.depth

    @property
    def last_local_block(self) -> int:
        """Index of the last block behind which every view has only seen itself."""
        vit = self.backbone.pretrained
        return max(0, min(vit.alt_start, vit.depth) - 1)

    def local_tokens(self, x: Float[Tensor, "B N 3 H W"]) -> Float[Tensor, "B N P C"]:
        """Normalised patch tokens behind :attr:`last_local_block`; the rest of the network does not run."""
        return self.backbone.pretrained.local_tokens(x, self.last_local_block)

    @property
    def abilities(self) -> frozenset[str]:
        """What this variant can do: ``cameras``, ``pose_conditioning``, ``rays``, ``conf``, ``sky``, ``gaussians``."""
        dual = isinstance(self.head, DualDPT)
        present = {
            "cameras": self.cam_dec is not None,
            "pose_conditioning": self.cam_enc is not None,
            "rays": dual,
            "conf": dual,
            "sky": isinstance(self.head, DPT) and self.head.sky,
            "gaussians": self.gs_head is not None,
        }
        return frozenset(name for name, there in present.items() if there)

    def forward(
        self,
        x: Float[Tensor, "B N 3 H W"],
        extrinsics: Float[Tensor, "B K _ 4"] | None = None,
        intrinsics: Float[Tensor, "B K 3 3"] | None = None,
        export_feat_layers: Sequence[int] | None = (),
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: str = "saddle_balanced",
        *,
        rays: bool = False,
        ray_samples: Tensor | None = None,
        ray_decomposition: Decomposition = "published",
        on_block: BlockCallback | None = None,
        gaussian_unit: GaussianUnit = "given",
        chunking: Chunking = WHOLE,
        key_pooling: int = 1,
    ) -> NetOutput:
        """Depth, cameras and more of B scenes.

        Args:
            x: ImageNet-normalised RGB.
            extrinsics: world-to-camera poses to condition on, normalised to the first view: of all views, as published
                networks were trained, or of the first K. Returned poses are the predicted ones all the same.
            intrinsics: of the network images, in pixels; needed with extrinsics, without effect alone.
            export_feat_layers: transformer blocks whose patch features are returned as ``aux["feat_layer_<i>"]``.
            infer_gs: predict 3D Gaussians.
            use_ray_pose: cameras from the predicted rays; models without rays return none.
            ref_view_strategy: choice of the reference view, see :mod:`depth_anything_3.model.reference_view`.
            rays: also return the predicted rays.
            ray_samples: the (100, 8) table that the ray solver tries instead of drawing one.
            ray_decomposition: ``published``, or ``exact`` where principal points are not at the image centre.
            on_block: called with (blocks done, blocks) after each transformer block.
            gaussian_unit: unit of Gaussians where ``extrinsics`` condition the network: that of these poses, as
                published, or that of the predicted poses and the depth.
            chunking: how much is done at once, for inference; with ``offload`` the outputs are in the host's memory.
            key_pooling: see :class:`~depth_anything_3.types.options.InferOptions`.

        Raises:
            InputError: wrong shapes, an unknown strategy or block index, extrinsics without intrinsics.
            CapabilityError: poses for a model without a pose encoder, Gaussians for one without a Gaussian head.
        """
        wanted_rays = "rays" in self.abilities and (rays or use_ray_pose)
        encoded = self.encode(
            x,
            extrinsics,
            intrinsics,
            tuple(export_feat_layers or ()),
            gaussians=infer_gs,
            rays=wanted_rays,
            ref_view_strategy=ref_view_strategy,
            on_block=on_block,
            chunking=chunking,
            key_pooling=key_pooling,
        )
        with _full_precision(x):
            output = self.readout(
                encoded,
                extrinsics,
                use_ray_pose=use_ray_pose,
                ray_samples=ray_samples,
                ray_decomposition=ray_decomposition,
                gaussian_unit=gaussian_unit,
            )
        if not rays:
            output.ray = output.ray_conf = None
        return output

    def encode(
        self,
        x: Float[Tensor, "B N 3 H W"],
        extrinsics: Float[Tensor, "B K _ 4"] | None = None,
        intrinsics: Float[Tensor, "B K 3 3"] | None = None,
        feature_layers: Sequence[int] = (),
        *,
        gaussians: bool = False,
        rays: bool = False,
        ref_view_strategy: str = "saddle_balanced",
        on_block: BlockCallback | None = None,
        autocast_head: bool = False,
        chunking: Chunking = WHOLE,
        key_pooling: int = 1,
    ) -> Encoded:
        """Transformer and heads; arguments as in :meth:`forward`.

        A caller's autocast applies to the backbone only, and with ``autocast_head``, for training, to the dense head;
        the rest runs in float32.
        """
        self._check(x, extrinsics, intrinsics, feature_layers, gaussians)
        image_hw = (x.shape[-2], x.shape[-1])
        camera_tokens = None
        if extrinsics is not None and intrinsics is not None and self.cam_enc is not None:
            with _full_precision(x):
                camera_tokens = self.cam_enc(extrinsics, intrinsics, image_hw)
        layers, features = self.backbone(
            x,
            camera_tokens=camera_tokens,
            feature_layers=feature_layers,
            ref_view_strategy=ref_view_strategy,
            on_block=on_block,
            chunking=chunking,
            key_pooling=key_pooling,
        )
        with _full_precision(x):
            layers = [LayerFeatures(layer.patches.float(), layer.camera.float()) for layer in layers]
            return self._heads(x, layers, features, image_hw, gaussians, rays, autocast_head, chunking)

    def readout(
        self,
        encoded: Encoded,
        extrinsics: Float[Tensor, "B N _ 4"] | None = None,
        *,
        use_ray_pose: bool = False,
        ray_samples: Tensor | None = None,
        ray_decomposition: Decomposition = "published",
        gaussian_unit: GaussianUnit = "given",
    ) -> NetOutput:
        """Cameras from the decoder or the rays, sky filled, Gaussians placed in the world."""
        depth, image_hw = encoded.depth, (encoded.depth.shape[-2], encoded.depth.shape[-1])
        cameras = None
        if use_ray_pose:
            if encoded.ray is not None and encoded.ray_conf is not None:
                cameras = cameras_from_rays(
                    encoded.ray,
                    encoded.ray_conf,
                    image_hw,
                    sample_indices=ray_samples,
                    decomposition=ray_decomposition,
                )
        elif encoded.pose_encoding is not None:
            cameras = decode_cameras(encoded.pose_encoding, image_hw)
        output = NetOutput(
            depth=depth if encoded.sky is None else fill_sky(depth, encoded.sky),
            depth_conf=encoded.depth_conf,
            sky=encoded.sky,
            pose_encoding=encoded.pose_encoding,
            ray=encoded.ray,
            ray_conf=encoded.ray_conf,
            aux=AttrDict({f"feat_layer_{i}": feature for i, feature in encoded.features.items()}),
        )
        if cameras is not None:
            output.extrinsics, output.intrinsics = cameras
            if encoded.raw_gaussians is not None and self.gs_adapter is not None:
                unit = extrinsics if gaussian_unit == "given" else None
                output.gaussians = self.gs_adapter(
                    encoded.raw_gaussians, encoded.opacity, depth, *cameras, given_extrinsics=unit
                )
        return output

    def _heads(
        self,
        x: Tensor,
        layers: list[LayerFeatures],
        features: dict[int, Tensor],
        image_hw: tuple[int, int],
        gaussians: bool,
        rays: bool,
        autocast_head: bool,
        chunking: Chunking,
    ) -> Encoded:
        ray = ray_conf = sky = raw = opacity = None
        with torch.autocast(x.device.type, enabled=autocast_head, dtype=torch.get_autocast_dtype(x.device.type)):
            if isinstance(self.head, DualDPT):
                depth, conf, ray, ray_conf = self.head(layers, image_hw, rays=rays, chunking=chunking)
            else:
                depth, conf, sky = self.head(layers, image_hw, chunking=chunking)
        pose_encoding = None if self.cam_dec is None else self.cam_dec(layers[-1].camera)
        if pose_encoding is not None and chunking.offload:
            pose_encoding = pose_encoding.cpu()
        if gaussians and self.gs_head is not None:
            raw, opacity = self.gs_head(layers, x.float(), chunking=chunking)
        grid = (image_hw[0] // PATCH_SIZE, image_hw[1] // PATCH_SIZE)
        maps = {i: feature.float().unflatten(2, grid) for i, feature in features.items()}
        return Encoded(depth, conf, sky, ray, ray_conf, pose_encoding, raw, opacity, maps)

    def _check(
        self,
        x: Tensor,
        extrinsics: Tensor | None,
        intrinsics: Tensor | None,
        feature_layers: Sequence[int],
        gaussians: bool,
    ) -> None:
        if x.ndim != 5 or x.shape[2] != 3:
            raise InputError("x", f"shape {tuple(x.shape)}", "shape (B, N, 3, H, W)")
        if extrinsics is not None:
            if self.cam_enc is None:
                raise CapabilityError("extrinsics", "poses", "none: this model has no pose encoder")
            if intrinsics is None:
                raise InputError("intrinsics", "none beside extrinsics", "one 3x3 matrix per pose")
            if not 1 <= extrinsics.shape[1] <= x.shape[1]:
                raise InputError("extrinsics", f"{extrinsics.shape[1]} poses", f"1 to {x.shape[1]}, those of the views")
        if gaussians and self.gs_head is None:
            raise CapabilityError("infer_gs", "True", "False: this model has no Gaussian head")
        if wrong := [i for i in feature_layers if i not in range(self.depth)]:
            raise InputError("export_feat_layers", str(wrong), f"block indices from 0 to {self.depth - 1}")


class NestedDepthAnything3Net(nn.Module):
    """An any-view network brought to metres by a metric one.

    Args:
        anyview: :class:`DepthAnything3Net` with cameras, or its configuration; kept as ``da3``.
        metric: :class:`DepthAnything3Net` of the metric kind, or its configuration; kept as ``da3_metric``.
    """

    PATCH_SIZE = PATCH_SIZE

    def __init__(
        self, anyview: DepthAnything3Net | Mapping[str, Any], metric: DepthAnything3Net | Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.da3: DepthAnything3Net = _built(anyview)
        self.da3_metric: DepthAnything3Net = _built(metric)

    @property
    def depth(self) -> int:
        """Number of transformer blocks of the any-view network."""
        return self.da3.depth

    @property
    def last_local_block(self) -> int:
        """That of the any-view network."""
        return self.da3.last_local_block

    def local_tokens(self, x: Float[Tensor, "B N 3 H W"]) -> Float[Tensor, "B N P C"]:
        """Those of the any-view network."""
        return self.da3.local_tokens(x)

    @property
    def abilities(self) -> frozenset[str]:
        """As in :class:`DepthAnything3Net`, and ``metric``."""
        return self.da3.abilities | {"sky", "metric"}

    def forward(
        self,
        x: Float[Tensor, "B N 3 H W"],
        extrinsics: Float[Tensor, "B K _ 4"] | None = None,
        intrinsics: Float[Tensor, "B K 3 3"] | None = None,
        export_feat_layers: Sequence[int] | None = (),
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: str = "saddle_balanced",
        *,
        rays: bool = False,
        ray_samples: Tensor | None = None,
        ray_decomposition: Decomposition = "published",
        on_block: BlockCallback | None = None,
        gaussian_unit: GaussianUnit = "given",
        metric_intrinsics: Float[Tensor, "B N 3 3"] | None = None,
        chunking: Chunking = WHOLE,
        key_pooling: int = 1,
    ) -> NetOutput:
        """As :meth:`DepthAnything3Net.forward`, in metres; ``sky`` is the metric network's score.

        The metric branch is scaled by the focal length of ``metric_intrinsics``, in pixels of the network images;
        without them by the predicted one, also where ``intrinsics`` are given, as published. Gaussians are scaled with
        the depth.
        """
        depth_total = self.da3.depth + self.da3_metric.depth
        output = self.da3(
            x,
            extrinsics,
            intrinsics,
            export_feat_layers,
            infer_gs,
            use_ray_pose,
            ref_view_strategy,
            rays=rays,
            ray_samples=ray_samples,
            ray_decomposition=ray_decomposition,
            on_block=None if on_block is None else lambda done, _: on_block(done, depth_total),
            gaussian_unit=gaussian_unit,
            chunking=chunking,
            key_pooling=key_pooling,
        )
        metric = self.da3_metric(
            x,
            on_block=None if on_block is None else lambda done, _: on_block(self.da3.depth + done, depth_total),
            chunking=chunking,
        )
        with _full_precision(x):
            return _in_metres(output, metric, metric_intrinsics)


Network = DepthAnything3Net | NestedDepthAnything3Net
"""Either kind."""


def _in_metres(output: NetOutput, metric: NetOutput, intrinsics: Tensor | None) -> NetOutput:
    if output.intrinsics is None or output.extrinsics is None or output.depth_conf is None or metric.sky is None:
        raise ConfigError("anyview, metric", "parts that lack something", "cameras and confidence; depth and sky")
    metres = metric_depth(metric.depth, output.intrinsics if intrinsics is None else intrinsics)
    scale = metric_scale(output.depth, output.depth_conf, metres, metric.sky)
    output.depth, output.depth_conf, output.extrinsics = to_metres(
        output.depth, output.depth_conf, output.extrinsics, scale, metric.sky
    )
    if output.gaussians is not None:
        output.gaussians = scale_gaussians(output.gaussians, scale.nan_to_num(1.0))
    output.sky, output.scale_factor = metric.sky, scale
    output.is_metric = not bool(scale.isnan().any())
    return output


def _built(part: Any) -> Any:
    return create_object(part) if isinstance(part, Mapping) else part


def _full_precision(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)
