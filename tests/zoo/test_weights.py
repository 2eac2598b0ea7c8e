"""Key tables of the presets, networks without memory, and strict loading."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import any_view_config, seeded_network
from torch import Tensor, nn

from depth_anything_3.errors import CheckpointError
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.zoo import weights
from depth_anything_3.zoo.checkpoints import build_network, resolve
from depth_anything_3.zoo.identify import config_of
from depth_anything_3.zoo.weights import Shapes, alias_target, fitting_presets, skeleton, stored_shapes

ALIASES = [f"model.head.scratch.output_conv2_aux.{i}.2.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")]
LEVEL0 = "model.head.scratch.output_conv2_aux.0.2.weight"
SOME_KEY = "model.backbone.pretrained.blocks.1.attn.qkv.weight"

Edit = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def edited(tiny_saved: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Copies the small checkpoint with its tensors changed by a function."""

    def make(edit: Edit) -> Path:
        tensors = load_file(tiny_saved / "model.safetensors")
        edit(tensors)
        (tmp_path / "config.json").write_bytes((tiny_saved / "config.json").read_bytes())
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return make


def load_error(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        build_network(resolve(folder))
    return str(error.value)


# --- key tables ---


@pytest.mark.parametrize("preset", sorted(MODEL_REGISTRY))
def test_every_key_and_shape_is_the_published_one(preset: str, key_tables: dict[str, Any]) -> None:
    built = {f"model.{key}": list(t.shape) for key, t in skeleton(config_of(preset)).state_dict().items()}
    assert built == key_tables[preset]["tensors"]
    aliases = {key for key in built if alias_target(key) is not None}
    assert aliases == set(key_tables[preset]["alias_of_level0"])
    assert len(aliases) == (0 if preset.startswith(("da3metric", "da3mono")) else 6)


def test_the_carried_key_tables_are_the_reference(shared: Path) -> None:
    carried = gzip.decompress((Path(__file__).parent / "reference" / "keys.json.gz").read_bytes())
    assert json.loads((shared / "reference" / "spec_model_keys.json").read_text()) == json.loads(carried)


@pytest.mark.parametrize("preset", sorted(MODEL_REGISTRY))
def test_tensors_tell_the_preset(preset: str, published_shapes: dict[str, Shapes], key_tables: dict[str, Any]) -> None:
    same = {"da3metric-large", "da3mono-large"}
    assert set(fitting_presets(published_shapes[preset])) == (same if preset in same else {preset})
    with_aliases = {key.removeprefix("model."): tuple(s) for key, s in key_tables[preset]["tensors"].items()}
    assert preset in fitting_presets(with_aliases)
    incomplete = dict(list(published_shapes[preset].items())[1:])
    assert fitting_presets(incomplete) == []


def test_aliases_point_to_level_zero_also_in_nested_networks() -> None:
    assert alias_target("head.scratch.output_conv2_aux.2.2.bias") == "head.scratch.output_conv2_aux.0.2.bias"
    assert (
        alias_target("da3.head.scratch.output_conv2_aux.3.2.weight") == "da3.head.scratch.output_conv2_aux.0.2.weight"
    )
    assert alias_target("head.scratch.output_conv2_aux.0.2.bias") is None
    assert alias_target("head.scratch.output_conv2_aux.1.5.bias") is None


# --- networks without memory ---


class _WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("kept", torch.arange(3.0), persistent=False)
        self.table = torch.arange(4.0)


def test_a_skeleton_has_real_buffers_and_leaves_the_random_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "create_object", lambda _config: _WithBuffers())
    before = torch.get_rng_state()
    network = skeleton({})
    assert all(p.is_meta for p in network.parameters())
    assert torch.equal(network.get_buffer("kept"), torch.arange(3.0))
    assert isinstance(network.table, Tensor) and torch.equal(network.table, torch.arange(4.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not nn.Linear(2, 2).weight.is_meta, "the hook must be gone"


def test_a_real_skeleton_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    skeleton(config_of("da3-small"))
    assert torch.equal(torch.get_rng_state(), before)


# --- strict loading ---


def test_loading_gives_the_same_numbers_and_leaves_nothing_without_memory(tiny_saved: Path) -> None:
    network, expected = build_network(resolve(tiny_saved)), seeded_network(any_view_config())
    assert not network.training
    assert network.state_dict().keys() == expected.state_dict().keys()
    for key, tensor in expected.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor), key
    assert not any(t.is_meta for t in (*network.parameters(), *network.buffers()))
    assert all(p.dtype == torch.float32 and p.is_leaf and p.requires_grad for p in network.parameters())
    x = torch.randn(1, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(network(x).depth, expected(x).depth)


def test_the_shared_norm_stays_one_module_after_loading(tiny_saved: Path) -> None:
    network = build_network(resolve(tiny_saved))
    norms = [network.get_submodule(f"head.scratch.output_conv2_aux.{i}.2") for i in range(4)]
    assert all(norm is norms[0] for norm in norms)
    ours = len(list(network.parameters()))
    assert ours == len(stored_shapes(network))


def test_files_hold_the_prefix_and_no_aliases(tiny_saved: Path) -> None:
    keys = load_file(tiny_saved / "model.safetensors").keys()
    assert all(key.startswith("model.") for key in keys)
    assert LEVEL0 in keys and not set(ALIASES) & set(keys)


def test_a_missing_tensor_is_named(edited: Callable[[Edit], Path]) -> None:
    message = load_error(edited(lambda tensors: tensors.pop(SOME_KEY)))
    assert "missing (1): backbone.pretrained.blocks.1.attn.qkv.weight" in message
    assert "unexpected" not in message


def test_an_unexpected_tensor_is_named(edited: Callable[[Edit], Path]) -> None:
    message = load_error(edited(lambda tensors: tensors.update({"model.head.extra": torch.zeros(1)})))
    assert "unexpected (1): head.extra" in message
    assert "missing" not in message


def test_a_wrong_shape_is_named_with_both_shapes(edited: Callable[[Edit], Path]) -> None:
    message = load_error(edited(lambda tensors: tensors.update({SOME_KEY: torch.zeros(3, 32)})))
    assert "wrong shape (1): backbone.pretrained.blocks.1.attn.qkv.weight (file (3, 32), network (96, 32))" in message


def test_all_problems_come_in_one_error_and_long_lists_are_counted(edited: Callable[[Edit], Path]) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        for key in sorted(key for key in tensors if key.startswith("model.head."))[:23]:
            del tensors[key]
        tensors["model.extra"] = torch.zeros(1)
        tensors[SOME_KEY] = torch.zeros(1)

    message = load_error(edited(edit))
    assert "missing (23): head." in message and "and 3 more" in message
    assert message.count("head.") == 20
    assert "unexpected (1): extra" in message and "wrong shape (1)" in message


def test_integer_tensors_are_refused(edited: Callable[[Edit], Path]) -> None:
    message = load_error(edited(lambda tensors: tensors.update({SOME_KEY: tensors[SOME_KEY].to(torch.int8)})))
    assert "not floating point (1): backbone.pretrained.blocks.1.attn.qkv.weight (I8)" in message


def test_level_zero_of_the_shared_norm_may_not_be_absent(edited: Callable[[Edit], Path]) -> None:
    assert "missing (1): head.scratch.output_conv2_aux.0.2.weight" in load_error(edited(lambda t: t.pop(LEVEL0)))


def _add_aliases(tensors: dict[str, Tensor]) -> None:
    for key in ALIASES:
        tensors[key] = tensors[f"model.{alias_target(key.removeprefix('model.'))}"].clone()


def test_aliases_may_be_present_if_they_are_equal(edited: Callable[[Edit], Path]) -> None:
    network = build_network(resolve(edited(_add_aliases)))
    expected = seeded_network(any_view_config())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))


def test_aliases_that_differ_are_an_error(edited: Callable[[Edit], Path]) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        _add_aliases(tensors)
        tensors[ALIASES[2]][0] += 1

    message = load_error(edited(edit))
    assert ALIASES[2].removeprefix("model.") in message and "differs" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_loaded_as_float32(edited: Callable[[Edit], Path], dtype: torch.dtype) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        tensors.update({key: tensor.to(dtype) for key, tensor in tensors.items()})

    checkpoint = resolve(edited(edit))
    network, exact = build_network(checkpoint), seeded_network(any_view_config())
    for key, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, exact.state_dict()[key].to(dtype).float()), key
    asked = build_network(checkpoint, dtype=torch.bfloat16)
    assert {p.dtype for p in asked.parameters()} == {torch.bfloat16}


def test_keys_without_the_prefix_are_read_too(edited: Callable[[Edit], Path]) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        bare = {key.removeprefix("model."): tensor for key, tensor in tensors.items()}
        tensors.clear()
        tensors.update(bare)

    assert build_network(resolve(edited(edit)))


def test_changing_the_network_does_not_change_the_file(tiny_saved: Path) -> None:
    before = (tiny_saved / "model.safetensors").read_bytes()
    network = build_network(resolve(tiny_saved))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert (tiny_saved / "model.safetensors").read_bytes() == before
    again = build_network(resolve(tiny_saved))
    assert all(float(p.detach().abs().sum()) > 0 for p in again.parameters())


def test_weights_of_another_preset_say_which(tmp_path: Path, published_shapes: dict[str, Shapes]) -> None:
    found = {
        key: weights._Entry(tmp_path / "model.safetensors", key, shape, "F32")
        for key, shape in published_shapes["da3-base"].items()
    }
    wanted = published_shapes["da3-small"]
    with pytest.raises(CheckpointError, match="The tensors are those of da3-base: correct model_name"):
        weights._compare(found, wanted, (weights.WeightFile(tmp_path / "model.safetensors"),))


# --- damaged files ---


def _damaged(tiny_saved: Path, tmp_path: Path, content: bytes) -> str:
    (tmp_path / "config.json").write_bytes((tiny_saved / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(content)
    return load_error(tmp_path)


def test_a_truncated_file(tiny_saved: Path, tmp_path: Path) -> None:
    whole = (tiny_saved / "model.safetensors").read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        assert "truncated or damaged" in _damaged(tiny_saved, tmp_path, whole[:size]), size


def test_a_damaged_header(tiny_saved: Path, tmp_path: Path) -> None:
    whole = bytearray((tiny_saved / "model.safetensors").read_bytes())
    whole[8:40] = b"\xff" * 32
    assert "truncated or damaged" in _damaged(tiny_saved, tmp_path, bytes(whole))


class _Trap:
    opened = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _spring, ()


def _spring() -> None:
    _Trap.opened = True


@pytest.mark.parametrize("zipped", [True, False])
def test_a_renamed_pickle_is_refused_and_never_opened(tiny_saved: Path, tmp_path: Path, zipped: bool) -> None:
    torch.save({"model.x": _Trap()}, tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    message = _damaged(tiny_saved, tmp_path, (tmp_path / "weights.pt").read_bytes())
    assert "pickle" in message
    assert not _Trap.opened


def test_a_git_lfs_pointer_says_so(tiny_saved: Path, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    assert "git lfs pull" in _damaged(tiny_saved, tmp_path, pointer)


def test_a_web_page_says_so(tiny_saved: Path, tmp_path: Path) -> None:
    assert "web page" in _damaged(tiny_saved, tmp_path, b"<!DOCTYPE html><html>404</html>")
