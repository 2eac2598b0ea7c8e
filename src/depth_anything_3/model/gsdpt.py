"""The head that predicts the raw parameters of one 3D Gaussian per pixel.

Letters as in :mod:`depth_anything_3.model.dpt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.vision_transformer import LayerFeatures
from depth_anything_3.model.dpt import DPTTrunk, by_chunks, conv, resize


class GaussianMaps(NamedTuple):
    """Outputs of :class:`GSDPT`: raw parameters (B, N, H, W, output_dim - 1), opacities (B, N, H, W) in (0, 1)."""

    raw: Tensor
    opacity: Tensor


class GSDPT(DPTTrunk):
    """Raw Gaussian parameters from the tokens and the image itself.

    Args:
        dim_in, features, out_channels: see :class:`DPTTrunk`.
        output_dim: parameters of a Gaussian, and one channel for its opacity.
    """

    def __init__(
        self,
        dim_in: int,
        output_dim: int,
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
    ) -> None:
        super().__init__(dim_in, output_dim, features, out_channels, norm=False, uv_embedding=True)
        self.output_dim = output_dim
        half = features // 2
        self.images_merger = nn.Sequential(
            conv(3, half // 4), nn.GELU(), conv(half // 4, half // 2), nn.GELU(), conv(half // 2, half), nn.GELU()
        )

    def forward(
        self,
        layers: Sequence[LayerFeatures],
        images: Float[Tensor, "B N 3 H W"],
        *,
        chunking: Chunking = WHOLE,
    ) -> GaussianMaps:
        """Maps at full image size from the output layers of the backbone and the normalised images."""
        tokens = [layer.patches.flatten(0, 1) for layer in layers]
        inputs = [images.flatten(0, 1), *tokens]
        return GaussianMaps(*by_chunks(self._maps, inputs, images.shape[:2], chunking, images.device))

    def _maps(self, images: Float[Tensor, "V 3 H W"], *tokens: Float[Tensor, "V P D"]) -> GaussianMaps:
        image_hw = (images.shape[-2], images.shape[-1])
        x = resize(self.scratch.output_conv1(self.fuse(self.pyramid(tokens, image_hw))), image_hw)
        x = self.add_uv(x + self.images_merger(images), image_hw)
        x = self.scratch.output_conv2(x).permute(0, 2, 3, 1)
        return GaussianMaps(x[..., :-1], x[..., -1].sigmoid())
