"""Device and precision are what the machine does natively, unless the caller says."""

from __future__ import annotations

import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.infer.device import choose_device, choose_dtype


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, capability: tuple[int, int] = (8, 0)) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_best_device_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert choose_device().type == choose_device("auto").type == "cpu"
    pretend(monkeypatch, cuda=2)
    assert choose_device().type == "cuda"
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("devices", "wanted"), [(0, "cuda"), (0, "cuda:1"), (2, "cuda:7"), (2, "mps")])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, devices: int, wanted: str) -> None:
    pretend(monkeypatch, cuda=devices)
    with pytest.warns(UserWarning, match=f"{wanted} is not available here; using the CPU"):
        assert choose_device(wanted).type == "cpu"


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"device: got 'gpu'.*cuda:1"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("device", "capability", "dtype"),
    [
        ("cpu", (8, 0), torch.float32),
        ("mps", (8, 0), torch.float32),
        ("cuda", (8, 0), torch.bfloat16),
        ("cuda", (9, 0), torch.bfloat16),
        ("cuda", (7, 5), torch.float16),  # Turing emulates bfloat16, slowly
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, device: str, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    pretend(monkeypatch, cuda=1, capability=capability)
    assert choose_dtype(torch.device(device)) == choose_dtype(torch.device(device), "auto") == dtype
    assert choose_dtype(torch.device(device), "bfloat16") == torch.bfloat16
    assert choose_dtype(torch.device(device), torch.float32) == torch.float32


@pytest.mark.parametrize("dtype", ["int8", torch.int8, "half"])
def test_a_precision_that_does_not_exist(dtype: object) -> None:
    with pytest.raises(InputError, match=r"dtype.*float32, bfloat16, float16"):
        choose_dtype(torch.device("cpu"), dtype)  # type: ignore[arg-type]
