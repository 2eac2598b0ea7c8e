"""The backbone as configurations name it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.errors import UnknownNameError
from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer, LayerFeatures


class _Size(NamedTuple):
    embed_dim: int
    depth: int
    num_heads: int
    swiglu: bool = False


SIZES = {
    "vitt": _Size(192, 12, 3),
    "vits": _Size(384, 12, 6),
    "vitb": _Size(768, 12, 12),
    "vitl": _Size(1024, 24, 16),
    "vitg": _Size(1536, 40, 24, swiglu=True),
}


class DinoV2(nn.Module):
    """A :class:`DinoVisionTransformer` of a named size, in the attribute ``pretrained``.

    Args:
        name: ``vitt`` (width 192, not one of DINOv2), ``vits``, ``vitb``, ``vitl`` or ``vitg``.
        extra_blocks: added behind those of the named size.
        out_layers, alt_start, qknorm_start, rope_start, cat_token: see :class:`DinoVisionTransformer`.

    Raises:
        UnknownNameError: no such size.
    """

    def __init__(
        self,
        name: str,
        out_layers: Sequence[int],
        alt_start: int = -1,
        qknorm_start: int = -1,
        rope_start: int = -1,
        cat_token: bool = True,
        extra_blocks: int = 0,
    ) -> None:
        super().__init__()
        if name not in SIZES:
            raise UnknownNameError("net.name", repr(name), "a backbone size", SIZES)
        self.name = name
        self.pretrained = DinoVisionTransformer(
            **SIZES[name]._replace(depth=SIZES[name].depth + extra_blocks)._asdict(),
            out_layers=out_layers,
            alt_start=alt_start,
            qknorm_start=qknorm_start,
            rope_start=rope_start,
            cat_token=cat_token,
        )

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return self.pretrained.depth

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
    ) -> tuple[list[LayerFeatures], dict[int, Tensor]]:
        """See :meth:`DinoVisionTransformer.forward`."""
        return self.pretrained(
            images,
            camera_tokens=camera_tokens,
            feature_layers=feature_layers,
            ref_view_strategy=ref_view_strategy,
            on_block=on_block,
            chunking=chunking,
            key_pooling=key_pooling,
        )
