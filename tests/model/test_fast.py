"""The twins for the CPU against the network's own code, on every kind of network.

The first view is the reference: which one would be chosen is a matter of rounding between pictures of noise.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depth_anything_3.api import DepthAnything3
from depth_anything_3.model import fast
from depth_anything_3.model.attention_tap import tapped
from depth_anything_3.model.chunking import Chunking
from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net
from depth_anything_3.model.dinov2.dinov2 import DinoV2
from depth_anything_3.model.dinov2.layers import Block, SwiGLU
from depth_anything_3.model.dpt import DPT

bf16 = pytest.mark.skipif(not fast.has_twin(torch.bfloat16), reason="this processor does not compute in bfloat16")
packed = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


def images(views: int, height: int = 70, width: int = 98) -> torch.Tensor:
    return torch.randn(1, views, 3, height, width, generator=torch.Generator().manual_seed(views))


def pictures(views: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (56, 56, 3), dtype=np.uint8) for _ in range(views)]


@pytest.fixture(scope="module")
def nested() -> NestedDepthAnything3Net:
    net = DepthAnything3.from_pretrained("bundled", device="cpu").model
    assert isinstance(net, DepthAnything3Net)
    metric = DepthAnything3Net(
        DinoV2("vitt", out_layers=(4, 6, 8, 11), cat_token=False), DPT(192, features=32, out_channels=(24, 48, 96, 192))
    )
    return NestedDepthAnything3Net(net, metric).eval()


@pytest.mark.parametrize("packs", [False, pytest.param(True, marks=packed)])
@pytest.mark.parametrize("views", [1, 3])
def test_float32_gives_the_same_numbers(
    nested: NestedDepthAnything3Net, views: int, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "packing_pays", lambda: packs)
    twin = fast.fast_twin(nested, torch.float32)
    with torch.inference_mode():
        want, got = (net(images(views), rays=True, ref_view_strategy="first") for net in (nested, twin))
    for name in ("depth", "depth_conf", "sky", "extrinsics", "intrinsics", "ray", "ray_conf"):
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("chunking", [Chunking(head_views=1), Chunking(head_views=2, token_rows=24)])
def test_twins_can_be_chunked(nested: NestedDepthAnything3Net, chunking: Chunking) -> None:
    twin = fast.fast_twin(nested.da3, torch.float32)
    with torch.inference_mode():
        want = nested.da3(images(3), ref_view_strategy="first")
        got = twin(images(3), ref_view_strategy="first", chunking=chunking)
    torch.testing.assert_close(got.depth, want.depth, rtol=1e-4, atol=1e-5)


@bf16
@pytest.mark.parametrize("blocked", [False, True])
def test_bfloat16_is_near(nested: NestedDepthAnything3Net, blocked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of its use: depth within 1 % in the median and 5 % at worst, on the bundled weights."""
    monkeypatch.setattr(fast, "blocking_pays", lambda: blocked)
    twin = fast.fast_twin(nested.da3, torch.bfloat16)
    with torch.inference_mode():
        want, got = (net(images(3, 252, 252), ref_view_strategy="first") for net in (nested.da3, twin))
    error = ((got.depth - want.depth) / want.depth).abs()
    assert error.median() < 0.01 and error.max() < 0.05
    assert got.depth.dtype == torch.float32
    assert ((got.intrinsics - want.intrinsics).abs() < 0.005 * want.intrinsics[..., :1, :1]).all()


def test_parameters_are_shared_and_the_original_stays(nested: NestedDepthAnything3Net) -> None:
    before = copy.deepcopy(nested.state_dict())
    modules = [type(module) for module in nested.modules()]
    twin = fast.fast_twin(nested, torch.float32)
    own = {tensor.data_ptr() for tensor in nested.parameters()}
    assert all(tensor.data_ptr() in own for tensor in twin.parameters())
    assert [type(module) for module in nested.modules()] == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in nested.state_dict().items())


@packed
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=bf16)])
@pytest.mark.parametrize("ffn", [None, SwiGLU])
def test_a_packed_block_is_the_block(
    dtype: torch.dtype, ffn: Callable[[int, int], nn.Module] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LayerScale is folded into the right layers: factors far from 1."""
    torch.manual_seed(0)
    block = Block(64, 2, qk_norm=True, **({} if ffn is None else {"ffn": ffn})).eval()
    for scale in (block.ls1, block.ls2):
        scale.gamma.data = torch.rand(64) * 3 - 1
    x = torch.randn(2, 300, 64)
    monkeypatch.setattr(fast, "packing_pays", lambda: True)
    with torch.inference_mode():
        want = block(x)
        fast._fuse(block, dtype, packs=True)
        error = (block(x) - want).abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("queries, keys", [(300, 300), (1, 300), (700, 5000)])
def test_blocked_attention_is_attention(queries: int, keys: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 16, generator=generator) for n in (queries, keys, keys))
    want = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    torch.testing.assert_close(fast.blocked_attention(q, k, v), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "small, large", [((3, 5), (40, 33)), ((1, 1), (17, 20)), ((16, 8), (28, 14)), ((8, 8), (8, 8))]
)
def test_rows_are_those_of_the_whole_map(small: tuple[int, int], large: tuple[int, int]) -> None:
    x = torch.randn(1, 4, *small, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(x, large, mode="bilinear", align_corners=True)
    for start, end in ((0, 1), (0, large[0]), (3, 7), (large[0] - 2, large[0])):
        rows = fast._rows(x[0].permute(1, 2, 0), large, start, end)
        torch.testing.assert_close(rows, whole[:, :, start:end], rtol=1e-5, atol=1e-5)


def test_new_weights_reach_the_twin() -> None:
    """Also where the twin has copies of them."""
    model, twins = DepthAnything3.from_pretrained("bundled", device="cpu"), fast.Twins()
    dtype = torch.bfloat16 if fast.has_twin(torch.bfloat16) else torch.float32
    first = twins.of(model.model, dtype)
    assert twins.of(model.model, dtype) is first
    with torch.inference_mode():
        before = first(images(1)).depth
    with torch.no_grad():
        model.model.head.scratch.output_conv2[0].weight.mul_(1.5)
    with torch.inference_mode():
        after = twins.of(model.model, dtype)(images(1)).depth
    assert not torch.allclose(before, after, rtol=0.02)


def test_layers_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubling(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    monkeypatch.setattr(fast, "packing_pays", lambda: torch.backends.mkldnn.is_available())
    net = DepthAnything3.from_pretrained("bundled", device="cpu").model
    net.backbone.pretrained.blocks[2].mlp.fc1.__class__ = Doubling
    with torch.inference_mode():
        want, got = net(images(1)), fast.fast_twin(net, torch.float32)(images(1))
    torch.testing.assert_close(got.depth, want.depth, rtol=1e-4, atol=1e-5)


def test_inference_takes_the_twin_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DepthAnything3.from_pretrained("bundled", device="cpu")
    made = []
    monkeypatch.setattr(fast, "fast_twin", lambda net, dtype: made.append(dtype) or net)
    model.fast = False
    slow = model.inference(pictures(2), process_res=56)
    assert not made
    model.fast = True
    quick = model.inference(pictures(2), process_res=56)
    assert made == [torch.float32]
    torch.testing.assert_close(torch.tensor(quick.depth), torch.tensor(slow.depth))
    called = []
    handle = model.model.backbone.pretrained.blocks[1].mlp.register_forward_hook(lambda *_: called.append(1))
    model.inference(pictures(2), process_res=56)
    assert called and made == [torch.float32], "hooks hang on the network, and it runs itself"
    handle.remove()
    with tapped(model.model.backbone.pretrained, [3]) as taps:
        thread = threading.Thread(target=model.inference, args=(pictures(2),), kwargs={"process_res": 56})
        thread.start()
        thread.join()
        assert taps[0].queries is None, "another thread's"
        model.inference(pictures(2), process_res=56)
        assert taps[0].queries is not None
    assert len(called) == 1
