"""Every preset with all its tensors: saved, found, loaded strictly, run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.networks import fill_weights

from depth_anything_3.api import DepthAnything3

QUICK, LARGE = ("da3-small",), (
    "da3-base", "da3-large", "da3metric-large", "da3mono-large", "da3-giant", "da3nested-giant-large",
)  # fmt: skip


@pytest.mark.parametrize("preset", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_strict_load_of_seeded_weights(preset: str, tmp_path: Path) -> None:
    model = DepthAnything3(preset, device="cpu")
    fill_weights(model)
    expected = {name: tensor.double().sum().item() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "model")
    del model
    loaded = DepthAnything3.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.model_name == preset
    assert {name: tensor.double().sum().item() for name, tensor in loaded.state_dict().items()} == expected
    output = loaded(torch.zeros(1, 2, 3, 28, 28))
    assert output.depth.shape == (1, 2, 28, 28) and torch.isfinite(output.depth).all()
