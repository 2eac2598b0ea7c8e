"""The dual head of the any-view models: depth and rays from one pyramid through two fusion chains.

Letters as in :mod:`depth_anything_3.model.dpt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.vision_transformer import LayerFeatures
from depth_anything_3.model.dpt import DPTTrunk, by_chunks, conv

_AUX_LEVELS = 4
RAY_CHANNELS = 6


class DualMaps(NamedTuple):
    """Outputs of :class:`DualDPT`: depth, conf (B, N, H, W); ray (B, N, 8gh, 8gw, 6), ray_conf (B, N, 8gh, 8gw)."""

    depth: Tensor
    conf: Tensor
    ray: Tensor | None
    ray_conf: Tensor | None


class _ChannelsLast(nn.Module):
    def forward(self, x: Float[Tensor, "V c h w"]) -> Float[Tensor, "V h w c"]:
        return x.permute(0, 2, 3, 1)


class _ChannelsFirst(nn.Module):
    def forward(self, x: Float[Tensor, "V h w c"]) -> Float[Tensor, "V c h w"]:
        return x.permute(0, 3, 1, 2)


class DualDPT(DPTTrunk):
    """See the module's docstring.

    Of the four auxiliary levels that checkpoints hold only the last one is ever read; the others exist so that keys
    match. One LayerNorm is shared by all four: files store it once.

    Args:
        dim_in, features, out_channels: see :class:`DPTTrunk`.
        output_dim: 2, depth and confidence.
    """

    def __init__(
        self,
        dim_in: int,
        output_dim: int = 2,
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
    ) -> None:
        super().__init__(dim_in, output_dim, features, out_channels, norm=True, uv_embedding=True)
        half = features // 2
        self.scratch.add_refinement(features, "_aux")
        self.scratch.output_conv1_aux = nn.ModuleList(
            nn.Sequential(*(conv(features, half) if i % 2 == 0 else conv(half, features) for i in range(5)))
            for _ in range(_AUX_LEVELS)
        )
        shared_norm = nn.LayerNorm(32, eps=1e-5)
        self.scratch.output_conv2_aux = nn.ModuleList(
            nn.Sequential(
                conv(half, 32), _ChannelsLast(), shared_norm, _ChannelsFirst(), nn.ReLU(), conv(32, RAY_CHANNELS + 1, 1)
            )
            for _ in range(_AUX_LEVELS)
        )

    def forward(
        self,
        layers: Sequence[LayerFeatures],
        image_hw: tuple[int, int],
        *,
        rays: bool = False,
        chunking: Chunking = WHOLE,
    ) -> DualMaps:
        """Depth at full image size; rays, if asked for, at 8 / 14 of it."""
        tokens = [layer.patches.flatten(0, 1) for layer in layers]
        views, device = layers[0].patches.shape[:2], layers[0].camera.device
        return DualMaps(*by_chunks(lambda *t: self._maps(t, image_hw, rays), tokens, views, chunking, device))

    def _maps(self, tokens: Sequence[Tensor], image_hw: tuple[int, int], rays: bool) -> DualMaps:
        levels = self.pyramid(tokens, image_hw)
        (maps,) = self.full_size(self.scratch.output_conv1(self.fuse(levels)), image_hw, self.scratch.output_conv2)
        depth, conf = maps.unbind(1)
        ray, ray_conf = self._rays(levels, image_hw) if rays else (None, None)
        return DualMaps(depth.exp(), 1 + conf.exp(), ray, ray_conf)

    def _rays(self, levels: Sequence[Tensor], image_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        x = self.add_uv(self.scratch.get_submodule("output_conv1_aux.3")(self.fuse(levels, "_aux")), image_hw)
        x = self.scratch.get_submodule("output_conv2_aux.3")(x).permute(0, 2, 3, 1)
        return x[..., :RAY_CHANNELS], 1 + x[..., RAY_CHANNELS].exp()
