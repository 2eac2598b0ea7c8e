"""Doing less at once changes no number, and nothing ever holds one value per pair of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.networks import normal_input, run
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.dinov2.layers import Attention, Block
from depth_anything_3.model.dinov2.rope import global_table
from depth_anything_3.model.dinov2.vision_transformer import _run

LEANER = {
    "head": Chunking(head_views=1),
    "rows": Chunking(head_views=2, token_rows=2),
    "offload": Chunking(head_views=3, token_rows=7, offload=True),
}


class _Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returned."""

    elements = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.mark.parametrize("name", LEANER)
@pytest.mark.parametrize("kind", ["mini", "metric"])
def test_doing_less_at_once_changes_no_number(kind: str, name: str) -> None:
    images = normal_input("less at once", 2, 4, 3, 14, 28)
    flags: dict[str, Any] = {"export_feat_layers": (1, 11), "rays": kind != "metric"}
    whole, lean = run(kind, images, **flags), run(kind, images, **flags, chunking=LEANER[name])
    assert whole.keys() == lean.keys()
    for key in set(whole.keys()) - {"aux", "is_metric"}:
        torch.testing.assert_close(lean[key], whole[key], rtol=2e-4, atol=2e-5)
    for key, value in whole.aux.items():
        torch.testing.assert_close(lean.aux[key], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("chunking", [WHOLE, Chunking(head_views=8, token_rows=512)], ids=["whole", "rows"])
def test_no_value_per_pair_of_tokens_is_ever_held(chunking: Chunking) -> None:
    with torch.device("meta"):
        block = Block(24, 3, qk_norm=True)
    block = block.to_empty(device="cpu").eval()
    x = torch.zeros(1, 2048, 24)
    with torch.inference_mode(), _Largest() as watch:
        _run(block, x, global_table(64, 31, 8, x.device), chunking.token_rows)
    assert watch.elements < 2048**2 / 4


def test_rows_equal_attention_written_out_in_double_precision() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention, x = Attention(24, 3, qk_norm=True).eval(), torch.randn(1, 96, 24)
    table = global_table(3, 31, 8, torch.device("cpu"))
    block = Block(24, 3, qk_norm=True).eval()
    block.attn, block.norm1, block.mlp = attention, torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    block.norm2 = torch.nn.Identity()  # type: ignore[assignment]
    with torch.inference_mode():
        found = block.in_rows(x, table, 20) / 2 - x  # with an identity in its place the second branch doubles the first
        attention.double()
        q, k, v = attention.project(x.double(), table.double())
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        wanted = attention.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
