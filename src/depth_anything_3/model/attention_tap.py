"""Listening to the attention of single blocks, for training it and for reading matches from it.

Letters: B scenes, N views, A heads, n tokens of all views, C channels of a head.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.dinov2.rope import global_table, rotate
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer


class AttentionTap:
    """Queries and keys of one block's attention, each (batch, A, n, C), after normalisation and before rotation.

    Those of runs of the thread that made it; what other threads run is not heard.
    """

    def __init__(self, block: nn.Module) -> None:
        self.queries: Tensor | None = None
        self.keys: Tensor | None = None
        attention = block.get_submodule("attn")
        self._handles = [
            attention.get_submodule("q_norm").register_forward_hook(self._keep("queries")),
            attention.get_submodule("k_norm").register_forward_hook(self._keep("keys")),
        ]

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        listener = threading.get_ident()

        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if threading.get_ident() == listener:
                setattr(self, name, output)

        return hook

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def logits(self, views: int, heads: slice, *, of: int | None = None) -> Float[Tensor, "B A q n"]:
        """Attention logits over all tokens of all views, as the block computes them; ``of`` one view, or of all."""
        assert self.queries is not None and self.keys is not None, "the block has not run"
        q, k = self.queries[:, heads].float(), self.keys[:, heads].float()
        tokens = q.shape[2] // views
        table = global_table(views, tokens - 1, q.shape[-1], q.device)
        rows = slice(None) if of is None else slice(of * tokens, (of + 1) * tokens)
        return rotate(q, table)[:, :, rows] @ rotate(k, table).transpose(-1, -2) * q.shape[-1] ** -0.5


@contextmanager
def tapped(backbone: DinoVisionTransformer, blocks: Sequence[int]) -> Iterator[list[AttentionTap]]:
    """Listen to some blocks for as long as the context lasts."""
    taps = [AttentionTap(backbone.blocks[i]) for i in blocks]
    try:
        yield taps
    finally:
        for tap in taps:
            tap.close()
