"""Dense prediction transformer heads: one trunk for all of them, and the plain head of the metric and mono models.

The trunk turns the patch tokens of four transformer layers into a feature pyramid and fuses it from coarse to fine.

Letters: B scenes, N views, V = B N flattened views, P patches, D token channels, F features, gh gw patch grid,
H W pixels of the network image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.vision_transformer import LayerFeatures
from depth_anything_3.model.tables import cached_table
from depth_anything_3.types.options import PATCH_SIZE

_MAX_RESIZED_ELEMENTS = 1_610_612_736  # stays below 32-bit indexing inside the resize kernels
_EMBEDDING_WEIGHT = 0.1
_EMBEDDING_BASE = 100.0


def conv(inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class ResidualConvUnit(nn.Module):
    """Two pre-activated convolutions and a skip connection."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)

    def forward(self, x: Float[Tensor, "V F h w"]) -> Float[Tensor, "V F h w"]:
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


class FusionBlock(nn.Module):
    """Add a finer level, refine, enlarge. The coarsest block has nothing to add and no first unit."""

    def __init__(self, features: int, *, lateral: bool = True) -> None:
        super().__init__()
        if lateral:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)
        self.out_conv = conv(features, features, 1)

    def forward(
        self, x: Float[Tensor, "V F h w"], lateral: Float[Tensor, "V F h w"] | None, size: Sequence[int]
    ) -> Float[Tensor, "V F h2 w2"]:
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        return self.out_conv(resize(self.resConfUnit2(x), size))


class Scratch(nn.Module):
    """The convolutions after the pyramid, under the names of the published checkpoints."""

    def __init__(self, features: int, out_channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        for i, channels in enumerate(out_channels, 1):
            setattr(self, f"layer{i}_rn", conv(channels, features, bias=False))
        self.add_refinement(features, "")
        self.output_conv1 = conv(features, features // 2)
        self.output_conv2 = output_stack(features, outputs)

    def add_refinement(self, features: int, suffix: str) -> None:
        """Four fusion blocks ``refinenet<i><suffix>``."""
        for i in range(1, 5):
            setattr(self, f"refinenet{i}{suffix}", FusionBlock(features, lateral=i < 4))


def output_stack(features: int, outputs: int) -> nn.Sequential:
    """Half the features to the output channels."""
    return nn.Sequential(conv(features // 2, 32), nn.ReLU(), conv(32, outputs, 1))


class DPTTrunk(nn.Module):
    """Pyramid and fusion shared by all dense heads.

    Args:
        dim_in: channels of the tokens.
        output_dim: channels of the main output.
        features: channels after the pyramid.
        out_channels: channels of the four pyramid levels, fine to coarse.
        norm: normalise the tokens first.
        uv_embedding: add the image position to the pyramid and before the output.
    """

    def __init__(
        self,
        dim_in: int,
        output_dim: int,
        features: int,
        out_channels: Sequence[int],
        *,
        norm: bool,
        uv_embedding: bool,
    ) -> None:
        super().__init__()
        c0, c1, c2, c3 = out_channels
        self.uv_embedding = uv_embedding
        self.norm = nn.LayerNorm(dim_in, eps=1e-5) if norm else nn.Identity()
        self.projects = nn.ModuleList(conv(dim_in, channels, 1) for channels in (c0, c1, c2, c3))
        self.resize_layers = nn.ModuleList(
            [nn.ConvTranspose2d(c0, c0, 4, 4), nn.ConvTranspose2d(c1, c1, 2, 2), nn.Identity(), _halving(c3)]
        )
        self.scratch = Scratch(features, (c0, c1, c2, c3), output_dim)

    def pyramid(self, tokens: Sequence[Float[Tensor, "V P D"]], image_hw: tuple[int, int]) -> list[Tensor]:
        """Four levels of F channels at 4, 2, 1 and 1/2 times the patch grid."""
        grid = (image_hw[0] // PATCH_SIZE, image_hw[1] // PATCH_SIZE)
        levels = []
        for i, layer_tokens in enumerate(tokens):
            x = self.norm(layer_tokens).transpose(1, 2).unflatten(-1, grid)
            x = self.add_uv(self.projects[i](x), image_hw)
            levels.append(getattr(self.scratch, f"layer{i + 1}_rn")(self.resize_layers[i](x)))
        return levels

    def fuse(self, levels: Sequence[Tensor], suffix: str = "") -> Float[Tensor, "V F h w"]:
        """Coarse to fine, to 8 times the patch grid."""
        x: Tensor = levels[3]
        for i in (4, 3, 2, 1):
            block = getattr(self.scratch, f"refinenet{i}{suffix}")
            size = levels[i - 2].shape[-2:] if i > 1 else [2 * side for side in levels[0].shape[-2:]]
            x = block(x, levels[i - 1] if i < 4 else None, size)
        return x

    def full_size(
        self, x: Float[Tensor, "V c h w"], image_hw: tuple[int, int], *last: nn.Module
    ) -> list[Float[Tensor, "V outputs H W"]]:
        """What the last layers make of a map that is enlarged to the image and given its positions."""
        x = self.add_uv(resize(x, image_hw), image_hw)
        return [layers(x) for layers in last]

    def add_uv(
        self, x: Float[Tensor, "V c h w"], image_hw: tuple[int, int], *, first: int = 0, height: int | None = None
    ) -> Float[Tensor, "V c h w"]:
        """Add the position embedding in place, if this head has one. ``x`` must be fresh.

        It may be the rows from ``first`` on of a map that is ``height`` rows high.
        """
        if self.uv_embedding:
            aspect, half = image_hw[1] / image_hw[0], x.shape[1] // 2
            span = (aspect * aspect + 1.0) ** 0.5
            columns = _axis_embedding(x.shape[3], aspect / span, half, x.device).to(x.dtype)
            rows = _axis_embedding(height or x.shape[2], 1.0 / span, half, x.device).to(x.dtype)
            x[:, :half].add_(columns[:, None, :])
            x[:, half:].add_(rows[:, first : first + x.shape[2], None])
        return x


def _halving(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


@cached_table
def _axis_embedding(size: int, span: float, channels: int, device: torch.device) -> Tensor:
    """(channels, size): sines then cosines of the pixel centres of one axis, spanning [-span, span]."""
    half = channels // 2
    if torch.compiler.is_compiling():  # exporters would keep the steps of the size they see
        position = (torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2) * (2 * span / size)
    else:
        edge = span * (size - 1) / size
        position = torch.linspace(-edge, edge, size, dtype=torch.float32, device=device)
    frequency = 1.0 / _EMBEDDING_BASE ** (torch.arange(half, dtype=torch.float64, device=device) / half)
    # In double precision: the angles reach into the hundredths of a radian that single precision would blur.
    angle = frequency[:, None] * position.float().double()
    return (_EMBEDDING_WEIGHT * torch.cat([angle.sin(), angle.cos()])).float()


def resize(x: Float[Tensor, "V c h w"], size: Sequence[int]) -> Float[Tensor, "V c h2 w2"]:
    """Bilinear, corners aligned."""
    views = max(1, min(len(x), _MAX_RESIZED_ELEMENTS // (x.shape[1] * size[0] * size[1])))
    parts = [F.interpolate(part, list(size), mode="bilinear", align_corners=True) for part in x.split(views)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def by_chunks(
    run: Callable[..., Sequence[Tensor | None]],
    inputs: Sequence[Tensor],
    views: Sequence[int],
    chunking: Chunking,
    device: torch.device,
) -> tuple[Any, ...]:
    """Run a head, on its device, on chunks of flattened views; each output joined and split into (B, N) again."""
    chunks = []
    for parts in zip(*(tensor.split(chunking.head_views) for tensor in inputs), strict=True):
        found = run(*(part.to(device) for part in parts))
        chunks.append([one.cpu() if chunking.offload and one is not None else one for one in found])
    columns = zip(*chunks, strict=True)
    return tuple(None if column[0] is None else torch.cat(list(column)).unflatten(0, list(views)) for column in columns)


class DepthMaps(NamedTuple):
    """Outputs of :class:`DPT`, each (B, N, H, W)."""

    depth: Tensor
    conf: Tensor | None
    sky: Tensor | None


class DPT(DPTTrunk):
    """Depth, and a sky score, of single views: the head of the metric and mono models.

    Args:
        dim_in, features, out_channels: see :class:`DPTTrunk`.
        output_dim: 1 for depth, 2 for depth and confidence.
        sky: with the sky branch (always, in the published checkpoints).
    """

    def __init__(
        self,
        dim_in: int,
        output_dim: int = 1,
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        sky: bool = True,
    ) -> None:
        super().__init__(dim_in, output_dim, features, out_channels, norm=False, uv_embedding=False)
        if sky:
            self.scratch.sky_output_conv2 = output_stack(features, 1)
        self.sky = sky

    def forward(
        self, layers: Sequence[LayerFeatures], image_hw: tuple[int, int], *, chunking: Chunking = WHOLE
    ) -> DepthMaps:
        """Maps at full image size from the output layers of the backbone."""
        tokens = [layer.patches.flatten(0, 1) for layer in layers]
        views, device = layers[0].patches.shape[:2], layers[0].camera.device
        return DepthMaps(*by_chunks(lambda *t: self._maps(t, image_hw), tokens, views, chunking, device))

    def _maps(self, tokens: Sequence[Tensor], image_hw: tuple[int, int]) -> DepthMaps:
        x = self.scratch.output_conv1(self.fuse(self.pyramid(tokens, image_hw)))
        last: list[nn.Module] = [self.scratch.output_conv2]
        if self.sky:
            last.append(self.scratch.get_submodule("sky_output_conv2"))
        maps, *sky = self.full_size(x, image_hw, *last)
        depth, *conf = maps.unbind(1)
        return DepthMaps(depth.exp(), 1 + conf[0].exp() if conf else None, sky[0].relu().squeeze(1) if sky else None)
