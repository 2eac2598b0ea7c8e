"""The checkpoints that come with the package, and how they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support.tiny import any_view_config, seeded_network

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError, UnknownNameError
from depth_anything_3.zoo import bundled
from depth_anything_3.zoo.bundled import SHARD_BYTES, bundled_folder, bundled_names, write_shards
from depth_anything_3.zoo.checkpoints import build_network, resolve, save

NAMES = ("da3-gs-tiny", "da3-tiny", "da3metric-tiny", "da3nested-tiny")
ABILITIES = {
    "da3-gs-tiny": {"cameras", "conf", "gaussians", "pose_conditioning", "rays"},
    "da3-tiny": {"cameras", "conf", "pose_conditioning", "rays"},
    "da3metric-tiny": {"sky"},
    "da3nested-tiny": {"cameras", "conf", "metric", "pose_conditioning", "rays", "sky"},
}


def test_all_are_there() -> None:
    assert bundled_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_strictly_and_can_do_what_its_kind_can(name: str) -> None:
    model = DepthAnything3.from_pretrained(f"bundled/{name}", device="cpu")
    assert model.model_name == name
    assert set(model.model.abilities) == ABILITIES[name]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_plain_name_is_the_model_for_any_views() -> None:
    assert bundled_folder("bundled") == bundled_folder("bundled/da3-tiny")


def test_the_nested_one_is_made_of_the_other_two() -> None:
    nested = build_network(resolve("bundled/da3nested-tiny")).state_dict()
    parts = {"da3": "da3-tiny", "da3_metric": "da3metric-tiny"}
    for prefix, name in parts.items():
        for key, tensor in build_network(resolve(f"bundled/{name}")).state_dict().items():
            assert torch.equal(nested[f"{prefix}.{key}"], tensor)
    assert not list((bundled.FOLDER / "da3nested-tiny").glob("*.safetensors"))


def test_the_one_with_gaussians_is_the_default_one_and_a_head() -> None:
    checkpoint, base = resolve("bundled/da3-gs-tiny"), resolve("bundled")
    assert (checkpoint.process_res, checkpoint.camera_sigma) == (base.process_res, base.camera_sigma)
    assert checkpoint.confidence_maps == base.confidence_maps
    whole = build_network(checkpoint).state_dict()
    for key, tensor in build_network(base).state_dict().items():
        assert torch.equal(whole.pop(key), tensor)
    assert {key.split(".")[0] for key in whole} == {"gs_head"}
    assert sum(path.stat().st_size for path in (bundled.FOLDER / "da3-gs-tiny").iterdir()) < 10_000_000


def test_files_are_small_and_in_half_precision() -> None:
    files = list(bundled.FOLDER.rglob("*"))
    assert sum(path.stat().st_size for path in files if path.is_file()) < 40_000_000
    for path in bundled.FOLDER.rglob("*.safetensors"):
        assert path.stat().st_size <= SHARD_BYTES + 100_000
        with safe_open(path, "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118


def test_each_has_a_model_card() -> None:
    for name in NAMES:
        card = (bundled.FOLDER / name / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "demonstration" in card and "synthetic" in card


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="bundled/da3metric-tiny"):
        resolve("bundled/da3-enormous")
    with pytest.raises(InputError):
        resolve("bundles")
    assert bundled_folder("depth-anything/DA3-BASE") is None


def test_a_path_of_that_name_wins(tmp_path: Path, tiny_saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundled").symlink_to(tiny_saved)
    monkeypatch.chdir(tmp_path)
    assert resolve("bundled").model_name == "da3-small"


def test_shards_hold_everything_once_and_load_again(tmp_path: Path) -> None:
    network = seeded_network(any_view_config()).half().float()
    save(network, tmp_path, model_name="da3-small", config=any_view_config())
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model-00001-of-00099.safetensors").write_bytes(b"of an older edition")
    paths = write_shards(network, tmp_path, most=200_000)
    assert len(paths) > 2
    assert set(tmp_path.glob("*.safetensors")) == set(paths)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    largest = max(t.numel() * 2 for t in network.state_dict().values())
    assert all(path.stat().st_size < max(200_000, largest) + 50_000 for path in paths)
    assert set(index["weight_map"].values()) == {path.name for path in paths}
    again = build_network(resolve(tmp_path)).state_dict()
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(again[key], tensor, rtol=0, atol=0)


def test_a_checkpoint_says_at_which_size_to_run(tmp_path: Path) -> None:
    network = seeded_network(any_view_config())
    folder = save(network, tmp_path / "small", model_name="da3-small", config=any_view_config(), process_res=112)
    model = DepthAnything3.from_pretrained(folder, device="cpu")
    assert model.process_res == 112
    picture = torch.zeros(300, 400, 3, dtype=torch.uint8).numpy()
    assert model.inference([picture]).depth.shape == (1, 84, 112)
    assert model.inference([picture], process_res=56).depth.shape == (1, 42, 56)
    again = DepthAnything3.from_pretrained(model.save_pretrained(tmp_path / "again"), device="cpu")
    assert again.process_res == 112
    published = save(network, tmp_path / "published", model_name="da3-small", config=any_view_config())
    assert "process_res" not in json.loads((published / "config.json").read_text())
    assert resolve(published).process_res == 504
