"""A plain DINOv2 vision transformer over several views of a scene.

From block ``alt_start`` on, odd blocks attend over all tokens of all views, even blocks within each view; nothing
else distinguishes the network from a vision transformer.

Letters: B scenes, N views, P patches per view, T = 1 + P tokens per view (index 0 is special), C channels,
gh gw patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from depth_anything_3.errors import InputError
from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2 import rope
from depth_anything_3.model.dinov2.layers import Block, KeyPooling, Mlp, PatchEmbed, SwiGLU
from depth_anything_3.model.reference_view import MIN_VIEWS, reference_first, reorder, select_reference
from depth_anything_3.types.options import PATCH_SIZE

TRAINED_GRID = 37  # the position table belongs to 518 x 518 pixels
_GRID_OFFSET = 0.1  # of the resampling of the position table, as in DINOv2


class LayerFeatures(NamedTuple):
    """What one output layer gives to the heads, views in input order."""

    patches: Tensor
    """(B, N, P, D) patch tokens."""
    camera: Tensor
    """(B, N, D) camera token, not normalised."""


class DinoVisionTransformer(nn.Module):
    """See the module's docstring.

    Args:
        embed_dim, depth, num_heads: size of the transformer.
        swiglu: gated feed-forward layers instead of plain ones.
        out_layers: ascending indices of the blocks whose output the heads read.
        alt_start: first block of the alternating part, -1 for a plain transformer.
        qknorm_start, rope_start: first block with query-key normalisation and rotary positions, -1 for none.
        cat_token: heads read the last within-view output beside the block's own (doubles their width).
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        out_layers: Sequence[int],
        swiglu: bool = False,
        alt_start: int = -1,
        qknorm_start: int = -1,
        rope_start: int = -1,
        cat_token: bool = True,
    ) -> None:
        super().__init__()
        if list(out_layers) != sorted(set(out_layers)) or not set(out_layers) <= set(range(depth)):
            raise InputError("out_layers", str(list(out_layers)), f"ascending block indices from 0 to {depth - 1}")
        self.embed_dim, self.depth, self.head_dim = embed_dim, depth, embed_dim // num_heads
        self.out_layers, self.cat_token = tuple(out_layers), cat_token
        self.alt_start = depth + 2 if alt_start == -1 else alt_start
        self.rope_start = depth if rope_start == -1 else rope_start
        qknorm_start = depth if qknorm_start == -1 else qknorm_start

        self.patch_embed = PatchEmbed(embed_dim, PATCH_SIZE)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        if alt_start != -1:
            self.camera_token = nn.Parameter(torch.randn(1, 2, embed_dim))  # reference view, every other view
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_GRID**2, embed_dim))
        ffn = SwiGLU if swiglu else Mlp
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, ffn=ffn, qk_norm=i >= qknorm_start) for i in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-5)  # upstream DINOv2 has 1e-6 here
        if not self.pos_embed.is_meta:  # there it would only import torch's compiler, for a second
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.normal_(self.cls_token, std=1e-6)

    def forward(
        self,
        images: Float[Tensor, "B N 3 H W"],
        *,
        camera_tokens: Float[Tensor, "B K C"] | None = None,
        feature_layers: Sequence[int] = (),
        ref_view_strategy: str = "saddle_balanced",
        on_block: Callable[[int, int], None] | None = None,
        chunking: Chunking = WHOLE,
        key_pooling: int = 1,
    ) -> tuple[list[LayerFeatures], dict[int, Float[Tensor, "B N P C"]]]:
        """Features for the heads, and the normalised patch tokens after each block in ``feature_layers``.

        Args:
            images: normalised RGB, sides multiples of 14.
            camera_tokens: one token from the camera encoder for each of the first K views, or of all; the views then
                keep their order.
            feature_layers: block indices, any order.
            ref_view_strategy: see :func:`depth_anything_3.model.reference_view.select_reference`.
            on_block: called with (blocks done, blocks) after each block, outside of traced graphs.
            chunking: how much is done at once; with ``offload`` the features that are returned are the host's.
            key_pooling: side in patches of the cells whose keys and values are averaged in attention across views; 1
                is exact.
        """
        views, grid = images.shape[1], (images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE)
        x = self.embed(images)
        local = x
        order: Int[Tensor, "B N"] | None = None
        outputs: list[LayerFeatures] = []
        features: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            if i == self.alt_start - 1 and views >= MIN_VIEWS and camera_tokens is None:
                order = reference_first(select_reference(x[:, :, 0], ref_view_strategy), views)
                x = local = reorder(x, order)
            if i == self.alt_start:
                # The heads see the inserted token as the local half too, as published.
                x = local = self.insert_camera_tokens(x, camera_tokens)
            if self.is_global(i):
                pooling = KeyPooling(views, grid, key_pooling) if key_pooling > 1 else None
                x = self.across_views(block, i, x, chunking.token_rows, pooling)
            else:
                x = local = self.within_views(block, i, x, grid, chunking.token_rows)
            if i in self.out_layers:
                outputs.append(self.head_features(local, x, order, chunking))
            if i in feature_layers:
                kept = _input_order(self.norm(x[:, :, 1:]), order)
                features[i] = kept.cpu() if chunking.offload else kept
            if on_block is not None:
                on_block(i + 1, self.depth)
        return outputs, features

    def local_tokens(self, images: Float[Tensor, "B N 3 H W"], last: int) -> Float[Tensor, "B N P C"]:
        """Normalised patch tokens after block ``last``, which lies before the alternating part.

        They are those of :meth:`forward`, whose choice of a reference view changes nothing within a view.
        """
        grid = (images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE)
        x = self.embed(images)
        for i, block in enumerate(self.blocks[: last + 1]):
            x = self.within_views(block, i, x, grid)
        return self.norm(x[:, :, 1:])

    def is_global(self, i: int) -> bool:
        """Whether block ``i`` attends across views."""
        return i >= self.alt_start and i % 2 == 1

    def embed(self, images: Float[Tensor, "B N 3 H W"]) -> Float[Tensor, "B N T C"]:
        """Class token and patch tokens with their positions."""
        batch, _, _, height, width = images.shape
        if height % PATCH_SIZE or width % PATCH_SIZE or not height * width:
            raise InputError("x", f"images of {height}x{width} pixels", f"sides that are multiples of {PATCH_SIZE}")
        patches = self.patch_embed(images.flatten(0, 1))
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1)
        tokens = tokens + self.positions(height // PATCH_SIZE, width // PATCH_SIZE).to(tokens.dtype)
        return tokens.unflatten(0, (batch, -1))

    def positions(self, grid_h: int, grid_w: int) -> Float[Tensor, "1 T C"]:
        """The position table resampled to a patch grid.

        The resampling is given scale factors, not sizes, as the checkpoints were trained with it; the slight offset
        keeps floating point from losing a row.
        """
        table = self.pos_embed.float()
        grid = table[:, 1:].transpose(1, 2).unflatten(-1, (TRAINED_GRID, TRAINED_GRID))
        if torch.compiler.is_compiling():  # exporters would keep the scale factors of the size they see
            rows, columns = _cubic_weights(grid_h, grid_w, table)
            grid = rows @ grid @ columns.T
        elif grid_h == grid_w == TRAINED_GRID:
            return self.pos_embed
        else:
            scale = ((grid_h + _GRID_OFFSET) / TRAINED_GRID, (grid_w + _GRID_OFFSET) / TRAINED_GRID)
            grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def insert_camera_tokens(
        self, x: Float[Tensor, "B N T C"], camera_tokens: Float[Tensor, "B K C"] | None
    ) -> Float[Tensor, "B N T C"]:
        """Replace the special token of every view by its camera token, that of no camera where it has none; the class
        token is discarded."""
        if camera_tokens is None:
            camera_tokens = self.camera_token[:, :1].expand(x.shape[0], -1, -1)
        rest = x.shape[1] - camera_tokens.shape[1]
        if rest:
            others = self.camera_token[:, 1:].expand(x.shape[0], rest, -1).to(camera_tokens.dtype)
            camera_tokens = torch.cat([camera_tokens, others], 1)
        return torch.cat([camera_tokens[:, :, None].to(x.dtype), x[:, :, 1:]], 2)

    def within_views(
        self, block: nn.Module, i: int, x: Float[Tensor, "B N T C"], grid: tuple[int, int], rows: int | None = None
    ) -> Float[Tensor, "B N T C"]:
        """Attention of every view to itself."""
        table = rope.local_table(*grid, self.head_dim, x.device) if i >= self.rope_start else None
        return _run(block, x.flatten(0, 1), table, rows).unflatten(0, x.shape[:2])

    def across_views(
        self,
        block: nn.Module,
        i: int,
        x: Float[Tensor, "B N T C"],
        rows: int | None = None,
        pooling: KeyPooling | None = None,
    ) -> Float[Tensor, "B N T C"]:
        """Attention over all tokens of a scene."""
        views, tokens = x.shape[1:3]
        table = rope.global_table(views, tokens - 1, self.head_dim, x.device) if i >= self.rope_start else None
        return _run(block, x.flatten(1, 2), table, rows, pooling).unflatten(1, (views, tokens))

    def head_features(
        self,
        local: Float[Tensor, "B N T C"],
        x: Float[Tensor, "B N T C"],
        order: Int[Tensor, "B N"] | None,
        chunking: Chunking = WHOLE,
    ) -> LayerFeatures:
        """Tokens of an output layer: only the block's own half is normalised, and only for the patches."""
        if chunking.token_rows is not None or chunking.offload:
            return self._head_features_by_view(local, x, order, chunking)
        patches, camera = self.norm(x[:, :, 1:]), x[:, :, 0]
        if self.cat_token:
            patches = torch.cat([local[:, :, 1:], patches], -1)
            camera = torch.cat([local[:, :, 0], camera], -1)
        return LayerFeatures(_input_order(patches, order), _input_order(camera, order))

    def _head_features_by_view(
        self, local: Tensor, x: Tensor, order: Int[Tensor, "B N"] | None, chunking: Chunking
    ) -> LayerFeatures:
        """The same, written to their places some views at a time."""
        batch, views, tokens, width = x.shape
        place = torch.arange(views, device=x.device).expand(batch, -1) if order is None else order
        place = place.cpu() if chunking.offload else place
        scene = torch.arange(batch, device=place.device)[:, None]
        shape = (batch, views, tokens - 1, 2 * width if self.cat_token else width)
        patches = torch.empty(shape, dtype=x.dtype, device=place.device)
        camera = x[:, :, 0]
        if self.cat_token:
            camera = torch.cat([local[:, :, 0], camera], -1)
        step = max(1, (chunking.token_rows or tokens) // tokens)
        for start in range(0, views, step):
            part = slice(start, start + step)
            found = self.norm(x[:, part, 1:])
            if self.cat_token:
                found = torch.cat([local[:, part, 1:], found], -1)
            patches[scene, place[:, part]] = found.to(patches)
        return LayerFeatures(patches, _input_order(camera, order))


def _cubic_weights(
    grid_h: int, grid_w: int, like: Tensor
) -> tuple[Float[Tensor, "h trained"], Float[Tensor, "w trained"]]:
    """What each row and column of a patch grid takes of the trained ones, in operations that know no size beforehand.

    Cubic convolution as ``F.interpolate`` has it (a = -0.75; Keys 1981): beyond the border, the outermost row again.
    """
    sides = torch.stack([torch.full((), side, dtype=torch.float64, device=like.device) for side in (grid_h, grid_w)])
    offset = torch.where((sides == TRAINED_GRID).all(), 0.0, _GRID_OFFSET)  # the trained grid stays as it is
    taps = torch.arange(-2, TRAINED_GRID + 2, dtype=torch.float64, device=like.device)
    found = []
    for side, scale in zip((grid_h, grid_w), (sides + offset) / TRAINED_GRID, strict=True):
        places = (torch.arange(side, dtype=torch.float64, device=like.device) + 0.5) / scale - 0.5
        d = (places[:, None] - taps).abs()
        near, far = (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3
        weights = torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
        first, last = weights[:, :3].sum(1, keepdim=True), weights[:, -3:].sum(1, keepdim=True)
        found.append(torch.cat([first, weights[:, 3:-3], last], 1).to(like.dtype))
    return found[0], found[1]


def _run(
    block: nn.Module, x: Tensor, table: Tensor | None, rows: int | None, pooling: KeyPooling | None = None
) -> Tensor:
    """A block on all tokens at once, or in rows."""
    if not isinstance(block, Block):
        return block(x, table)
    return block(x, table, pooling) if rows is None else block.in_rows(x, table, rows, pooling)


def _input_order(x: Tensor, order: Int[Tensor, "B N"] | None) -> Tensor:
    return x if order is None else reorder(x, order.argsort(-1))
