"""Doing less at once changes no number, and nothing ever holds one value per pair of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.networks import preset, small_metric
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_anything_3.cfg import create_object
from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.zoo.seeded import seeded_tensor

LEANER = {
    "head": Chunking(head_views=1),
    "rows": Chunking(head_views=2, token_rows=7),
    "rows of several views": Chunking(head_views=1, token_rows=16),
    "offload": Chunking(head_views=3, token_rows=5, offload=True),
}


class _Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.fixture(scope="module", params=["da3-tiny", "metric"])
def net(request: pytest.FixtureRequest) -> Any:
    """A network whose weights are all different from zero."""
    built = create_object(small_metric() if request.param == "metric" else preset(request.param)).eval()
    for name, tensor in built.state_dict().items():
        tensor.copy_(torch.from_numpy(seeded_tensor(name, tensor.shape)))
    return built


@pytest.mark.parametrize("name", LEANER)
@torch.inference_mode()
def test_doing_less_at_once_changes_no_number(net: Any, name: str) -> None:
    images = torch.randn(2, 4, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    layers = (1, 11)
    whole = net(images, export_feat_layers=layers, rays="rays" in net.abilities)
    lean = net(images, export_feat_layers=layers, rays="rays" in net.abilities, chunking=LEANER[name])
    assert whole.keys() == lean.keys()
    for key in set(whole.keys()) - {"aux", "is_metric"}:
        torch.testing.assert_close(lean[key], whole[key], rtol=2e-4, atol=2e-5)
    for key, value in whole.aux.items():
        torch.testing.assert_close(lean.aux[key], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("chunking", [WHOLE, LEANER["head"], LEANER["rows"]], ids=["whole", "head", "rows"])
@torch.inference_mode()
def test_no_value_per_pair_of_tokens_is_ever_held(chunking: Chunking) -> None:
    net = create_object(preset("da3-tiny")).eval()
    views, side = 640, 14
    tokens = 2 * views
    watch = _Largest()
    with watch:
        net(torch.zeros(1, views, 3, side, side), chunking=chunking)
    assert watch.elements < tokens**2
