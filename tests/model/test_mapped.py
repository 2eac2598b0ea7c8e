"""Weights in a file: what is read from it, and that nothing written over them is ever lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.tiny import save_tiny
from torch import Tensor

from depth_anything_3.model import fast
from depth_anything_3.model.mapped import _PAGES, in_file, reread
from depth_anything_3.zoo.checkpoints import build_network, resolve

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not _PAGES.exists(), reason="only Linux tells which pages of a file were written to"
)
NAMES = ["before", "weight", "behind"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "a name.safetensors"
    save_file({name: torch.randn(300, 701, generator=generator) for name in NAMES}, path)
    return path


def loaded(path: Path) -> Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor("weight")
    return tensor


def pages_in_memory(tensor: Tensor) -> int:
    size = os.sysconf("SC_PAGE_SIZE")
    first, last = tensor.data_ptr() // size, (tensor.data_ptr() + tensor.nbytes - 1) // size
    with _PAGES.open("rb") as pages:
        pages.seek(8 * first)
        states = np.frombuffer(pages.read(8 * (last - first + 1)), np.uint64)
    return int((states >> np.uint64(63)).sum())


def test_values_come_from_the_file_and_leave_no_page_behind(path: Path) -> None:
    tensor = loaded(path)
    first = pages_in_memory(tensor)  # around what opening the file has read
    assert in_file(tensor) and first < 50
    values = reread(tensor)
    assert values is not tensor and values.shape == tensor.shape and values.dtype == tensor.dtype
    total = values.double().sum()
    assert pages_in_memory(tensor) == first
    assert total == tensor.double().sum() and torch.equal(values, tensor)
    assert pages_in_memory(tensor) > 200 and in_file(tensor)  # read, not written
    torch.testing.assert_close(reread(tensor), tensor, rtol=0, atol=0)


@pytest.mark.parametrize("place", [(0, 0), (150, 300), (299, 700)])
def test_one_changed_value_is_enough_to_stay_with_the_tensor(path: Path, place: tuple[int, int]) -> None:
    """Also behind the back of the version counter, and when every other page is that of the file."""
    tensor = torch.nn.Parameter(loaded(path))
    version = tensor._version
    tensor.data[place] = 7
    assert tensor._version == version
    assert not in_file(tensor) and reread(tensor) is tensor and tensor[place] == 7
    assert torch.equal(loaded(path)[1:-1, 1:150], tensor[1:-1, 1:150])


def test_another_file_under_the_same_name_is_not_read(path: Path) -> None:
    tensor = loaded(path)
    other = path.with_name("other")
    save_file({name: torch.zeros(300, 701) for name in NAMES}, other)
    other.replace(path)
    assert reread(tensor) is tensor and tensor.any()


def test_what_is_in_no_file_is_itself(path: Path) -> None:
    for tensor in (torch.empty(1 << 20), torch.zeros(3), loaded(path).double(), torch.empty(3, device="meta")):
        assert not in_file(tensor) and reread(tensor) is tensor
    across = loaded(path).T
    assert reread(across) is across


def test_views_and_other_types(tmp_path: Path) -> None:
    save_file({"a": torch.arange(70000).to(torch.bfloat16)}, tmp_path / "half")
    with safe_open(tmp_path / "half", framework="pt") as file:
        part = file.get_tensor("a")[30001:60001].view(300, 100)
    assert reread(part) is not part and torch.equal(reread(part), part)


@pytest.mark.skipif(not fast.has_twin(torch.bfloat16), reason="this processor does not compute in bfloat16")
def test_networks_from_a_file_and_their_changed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins know every change, and the network gives what it gave before there was a twin."""
    net = build_network(resolve(save_tiny(tmp_path / "net")))
    want = {name: tensor.clone() for name, tensor in build_network(resolve(tmp_path / "net")).state_dict().items()}
    read: list[bool] = []
    monkeypatch.setattr(fast, "reread", lambda tensor: read.append(in_file(tensor)) or reread(tensor))
    images = torch.randn(1, 2, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        twin = fast.fast_twin(net, torch.bfloat16)(images).depth
        assert read and all(read)
        torch.testing.assert_close(twin, net(images).depth, rtol=0.05, atol=0.01)
    assert all(torch.equal(tensor, want[name]) for name, tensor in net.state_dict().items())

    net.backbone.pretrained.blocks[2].mlp.fc2.weight.data.mul_(3)  # as merging an adapter does
    last = net.head.scratch.output_conv2
    last.load_state_dict({name: 1.5 * tensor for name, tensor in last.state_dict().items()})
    with torch.inference_mode():
        changed = fast.fast_twin(net, torch.bfloat16)(images).depth
        torch.testing.assert_close(changed, net(images).depth, rtol=0.15, atol=0.01)
    assert not torch.allclose(changed, twin, rtol=0.1)
    assert torch.equal(
        net.backbone.pretrained.blocks[2].mlp.fc2.weight, 3 * want["backbone.pretrained.blocks.2.mlp.fc2.weight"]
    )
