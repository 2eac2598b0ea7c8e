"""Approximate attention across views: what it must be exactly, and where it is exact."""

from __future__ import annotations

import pytest
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.model import fast
from depth_anything_3.model.chunking import Chunking
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.layers import KeyPooling


@pytest.fixture(scope="module")
def net() -> DepthAnything3Net:
    found = DepthAnything3.from_pretrained("bundled", device="cpu").model
    assert isinstance(found, DepthAnything3Net)
    return found


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


@pytest.mark.parametrize(("grid", "size", "cells"), [((4, 6), 2, 6), ((3, 5), 2, 6), ((5, 4), 3, 4), ((2, 2), 4, 1)])
def test_means_count_as_what_they_stand_for(grid: tuple[int, int], size: int, cells: int) -> None:
    """Where the patches of every cell are alike, nothing is lost: borders and special tokens included."""
    views, (rows, columns) = 3, grid
    place = (torch.arange(rows)[:, None] // size) * -(-columns // size) + torch.arange(columns)[None] // size
    index = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + place.flatten()])
    k, v = (randn(2, 1, views, 1 + cells, 8)[:, :, :, index].flatten(2, 3) for _ in range(2))
    q = randn(2, 1, 7, 8)
    few_k, few_v, bias = KeyPooling(views, grid, size)(k, v)
    assert few_k.shape == few_v.shape == (2, 1, views * (1 + cells), 8) and bias.shape == (views * (1 + cells),)
    torch.testing.assert_close(attention(q, few_k, few_v, bias), attention(q, k, v))


@pytest.mark.parametrize("rows", [None, 16])
def test_the_network_pools_across_views_alone(net: DepthAnything3Net, rows: int | None) -> None:
    one, several = randn(1, 1, 3, 70, 98), randn(1, 3, 3, 70, 98)
    chunking = Chunking(token_rows=rows)
    with torch.inference_mode():
        exact = net(several, ref_view_strategy="first")
        cells_of_one = net(several, ref_view_strategy="first", key_pooling=1, chunking=chunking)
        pooled = net(several, ref_view_strategy="first", key_pooling=2, chunking=chunking)
        whole = net(several, ref_view_strategy="first", key_pooling=2)
        seen = [net(one, key_pooling=size).depth for size in (1, 2)]
    torch.testing.assert_close(cells_of_one.depth, exact.depth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled.depth, whole.depth, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pooled.depth, exact.depth, rtol=1e-3)
    assert not torch.equal(*seen)  # blocks that would see other views see a view of its own in cells


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_twins_pool_too(net: DepthAnything3Net, dtype: torch.dtype) -> None:
    if not fast.has_twin(dtype):
        pytest.skip("this processor does not compute in bfloat16")
    images = randn(1, 3, 3, 168, 224)
    with torch.inference_mode():
        want = net(images, ref_view_strategy="first", key_pooling=2).depth
        got = fast.fast_twin(net, dtype)(images, ref_view_strategy="first", key_pooling=2).depth
    error = ((got - want) / want).abs()
    assert error.max() < (1e-4 if dtype == torch.float32 else 0.05)


def test_inference_takes_it(net: DepthAnything3Net) -> None:
    model = DepthAnything3.from_pretrained("bundled", device="cpu")
    pictures = [(127 + 40 * randn(3, 70, 98)).clamp(0, 255).byte().permute(1, 2, 0).numpy() for _ in range(2)]
    exact, pooled = (model.inference(pictures, process_res=98, key_pooling=size) for size in (1, 2))
    assert exact.depth.shape == pooled.depth.shape and (exact.depth != pooled.depth).any()
