"""The parts of a transformer block. Letters: n tokens, C channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, empty_like, full, nn

from depth_anything_3.model.dinov2.rope import rotate


@dataclass(frozen=True)
class KeyPooling:
    """Approximate attention: neighbouring keys and values of a view stand together for their patches.

    Attributes:
        views: whose tokens follow one another, each with a special token, which stays by itself, before its patches.
        grid: rows and columns of patches.
        size: side in patches of a cell; those at the lower and right border may be smaller.
    """

    views: int
    grid: tuple[int, int]
    size: int

    def __call__(
        self, k: Float[Tensor, "batch heads n head"], v: Float[Tensor, "batch heads n head"]
    ) -> tuple[Float[Tensor, "batch heads m head"], Float[Tensor, "batch heads m head"], Float[Tensor, " m"]]:
        """The mean keys and values, and what makes a mean of m count as m: the logarithm, added to its scores."""
        rows, columns = ([min(self.size, side - i) for i in range(0, side, self.size)] for side in self.grid)
        counts = torch.outer(*(torch.tensor(sides, dtype=k.dtype, device=k.device) for sides in (rows, columns)))
        bias = torch.cat([counts.new_zeros(1), counts.flatten().log()]).repeat(self.views)
        return self._means(k), self._means(v), bias

    def _means(self, x: Tensor) -> Tensor:
        x = x.unflatten(2, (self.views, -1))
        patches = x[:, :, :, 1:].flatten(0, 2).transpose(1, 2).unflatten(2, self.grid)
        means = F.avg_pool2d(patches, self.size, ceil_mode=True, count_include_pad=False)
        means = means.flatten(2).transpose(1, 2).unflatten(0, x.shape[:3])
        return torch.cat([x[:, :, :, :1], means], 3).flatten(2, 3)


class Attention(nn.Module):
    """Multi-head self-attention with optional query-key normalisation and rotary positions."""

    def __init__(self, dim: int, heads: int, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch n C"],
        rope: Float[Tensor, "2 n head"] | None = None,
        pooling: KeyPooling | None = None,
    ) -> Float[Tensor, "batch n C"]:
        q, k, v = self.project(x, rope)
        return self.attend(q, k, v) if pooling is None else self.attend(q, *pooling(k, v))

    def project(
        self, x: Float[Tensor, "batch n C"], rope: Float[Tensor, "2 n head"] | None
    ) -> tuple[Float[Tensor, "batch heads n head"], Float[Tensor, "batch heads n head"], Tensor]:
        """Queries, keys and values, normalised and rotated."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return q.to(v.dtype), k.to(v.dtype), v

    def attend(
        self,
        q: Float[Tensor, "batch heads queries head"],
        k: Float[Tensor, "batch heads n head"],
        v: Float[Tensor, "batch heads n head"],
        bias: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "batch queries C"]:
        """What the queries find; ``bias`` is added to the scores of the keys."""
        mask = None if bias is None else bias[None, None, None]
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch n C_in"]) -> Float[Tensor, "batch n C"]:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """Gated linear unit with SiLU; the hidden size is two thirds of ``hidden``, rounded up to a multiple of 8."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch n C"]) -> Float[Tensor, "batch n C"]:
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    """One learned factor per channel."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(full((dim,), init))

    def forward(self, x: Float[Tensor, "batch n C"]) -> Float[Tensor, "batch n C"]:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale on both branches."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        ffn: Callable[[int, int], nn.Module] = Mlp,
        norm_eps: float = 1e-6,
        scale_init: float = 1.0,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads, qk_norm=qk_norm)
        self.ls1 = LayerScale(dim, scale_init)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = ffn(dim, 4 * dim)
        self.ls2 = LayerScale(dim, scale_init)

    def forward(
        self,
        x: Float[Tensor, "batch n C"],
        rope: Float[Tensor, "2 n head"] | None = None,
        pooling: KeyPooling | None = None,
    ) -> Float[Tensor, "batch n C"]:
        x = x + self.ls1(self.attn(self.norm1(x), rope, pooling))
        return x + self.ls2(self.mlp(self.norm2(x)))

    def in_rows(
        self,
        x: Float[Tensor, "batch n C"],
        rope: Float[Tensor, "2 n head"] | None,
        rows: int,
        pooling: KeyPooling | None = None,
    ) -> Float[Tensor, "batch n C"]:
        """As the plain call, about ``rows`` tokens at a time; besides the result only keys and values are held."""
        out = empty_like(x)
        step = max(1, rows // x.shape[1])
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            if x.shape[1] <= rows:
                out[part] = self(x[part], rope, pooling)
            else:
                self._rows_into(out[part], x[part], rope, rows, pooling)
        return out

    def _rows_into(self, out: Tensor, x: Tensor, rope: Tensor | None, rows: int, pooling: KeyPooling | None) -> None:
        """Queries wait in the place of the result until their turn comes."""
        parts = [slice(start, start + rows) for start in range(0, x.shape[1], rows)]
        keys = values = x.new_empty(0)
        for part in parts:
            q, k, v = self.attn.project(self.norm1(x[:, part]), None if rope is None else rope[:, part])
            if part.start == 0:
                keys, values = (one.new_empty(*one.shape[:2], x.shape[1], one.shape[3]) for one in (k, v))
            keys[:, :, part], values[:, :, part] = k, v
            out[:, part] = q.transpose(1, 2).flatten(2)
        found: tuple[Tensor, ...] = (keys, values) if pooling is None else pooling(keys, values)
        for part in parts:
            q = out[:, part].unflatten(-1, (self.attn.heads, -1)).transpose(1, 2).to(values.dtype)
            y = x[:, part] + self.ls1(self.attn.attend(q, *found))
            out[:, part] = y + self.ls2(self.mlp(self.norm2(y)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row by row."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch n C"]:
        return self.proj(images).flatten(2).transpose(1, 2)
