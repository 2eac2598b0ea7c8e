"""The ablation without a dual head: depth and rays through two heads that share nothing (table 7)."""

from __future__ import annotations

from collections.abc import Sequence

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.vision_transformer import LayerFeatures
from depth_anything_3.model.dualdpt import DualDPT, DualMaps


class SeparateHeads(DualDPT):
    """Two dual heads; one is read for depth, the other for rays.

    Args:
        dim_in, output_dim, features, out_channels: see :class:`~depth_anything_3.model.dualdpt.DualDPT`.
    """

    def __init__(
        self,
        dim_in: int,
        output_dim: int = 2,
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
    ) -> None:
        super().__init__(dim_in, output_dim, features, out_channels)
        self.ray_head = DualDPT(dim_in, output_dim, features, out_channels)

    def forward(
        self,
        layers: Sequence[LayerFeatures],
        image_hw: tuple[int, int],
        *,
        rays: bool = False,
        chunking: Chunking = WHOLE,
    ) -> DualMaps:
        """As the dual head's."""
        depth = super().forward(layers, image_hw, rays=False, chunking=chunking)
        if not rays:
            return depth
        other = self.ray_head(layers, image_hw, rays=True, chunking=chunking)
        return DualMaps(depth.depth, depth.conf, other.ray, other.ray_conf)
