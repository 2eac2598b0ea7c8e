"""Finding checkpoints on disk, checkpoints made of parts, and saving."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hub_server import HubServer
from support.tiny import any_view_config, files_of, metric_config, nested_config, save_tiny, seeded_network

from depth_anything_3.errors import CheckpointError, InputError
from depth_anything_3.zoo.cards import find_card
from depth_anything_3.zoo.checkpoints import build_network, resolve, save
from depth_anything_3.zoo.identify import config_of


def shard(folder: Path, target: Path, count: int = 3) -> Path:
    """A copy of a checkpoint with its weights in several files and an index."""
    target.mkdir(parents=True)
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    weight_map = {}
    for i in range(count):
        name = f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        chunk = {key: tensors[key] for key in sorted(tensors)[i::count]}
        save_file(chunk, target / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(chunk, name)
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return target


def same_weights(network: torch.nn.Module, expected: torch.nn.Module) -> bool:
    ours, theirs = network.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


# --- where checkpoints come from ---


def test_a_folder(tiny_saved: Path) -> None:
    checkpoint = resolve(tiny_saved)
    assert checkpoint.source == str(tiny_saved)
    assert checkpoint.model_name == "da3-small"
    assert checkpoint.config == any_view_config()
    assert [file.path for file in checkpoint.weights] == [tiny_saved / "model.safetensors"]
    assert checkpoint.card is None and checkpoint.revision is None
    assert resolve(str(tiny_saved)) == checkpoint


def test_files_are_told_what_the_weights_are_and_not_where_they_lie(tiny_saved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_saved, tmp_path / "elsewhere" / tiny_saved.name))
    here, there = resolve(tiny_saved).origin, resolve(copy).origin
    assert here == there and here["source"] == tiny_saved.name and len(here["weights"] or "") == 16
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert resolve(copy).origin["weights"] != here["weights"]
    assert resolve("bundled").origin["source"] == "da3-tiny"


def test_a_revision_has_no_effect_on_a_local_folder_and_says_so(tiny_saved: Path) -> None:
    with pytest.warns(UserWarning, match="revision 'v2' has no effect"):
        resolve(tiny_saved, revision="v2")


def test_a_nested_folder(tiny_nested_saved: Path) -> None:
    assert same_weights(build_network(resolve(tiny_nested_saved)), seeded_network(nested_config()))


def test_shards(tiny_saved: Path, tmp_path: Path) -> None:
    checkpoint = resolve(shard(tiny_saved, tmp_path / "sharded"))
    assert len(checkpoint.weights) == 3
    assert same_weights(build_network(checkpoint), seeded_network(any_view_config()))


def test_a_missing_shard_is_named(tiny_saved: Path, tmp_path: Path) -> None:
    folder = shard(tiny_saved, tmp_path / "sharded")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00003"):
        resolve(folder)


def test_a_tensor_in_two_shards(tiny_saved: Path, tmp_path: Path) -> None:
    folder = shard(tiny_saved, tmp_path / "sharded")
    first = folder / "model-00001-of-00003.safetensors"
    (folder / "model-00002-of-00003.safetensors").write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="is in two files"):
        build_network(resolve(folder))


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors", "c\\d.safetensors", "weights.bin", "", 3]
)
def test_an_index_may_only_name_safetensors_files_beside_it(tiny_saved: Path, tmp_path: Path, name: object) -> None:
    folder = shard(tiny_saved, tmp_path / "sharded")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.x": name}}))
    with pytest.raises(CheckpointError, match="only safetensors files beside it"):
        resolve(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": {}}}']
)
def test_an_unreadable_index(tiny_saved: Path, tmp_path: Path, text: str) -> None:
    folder = shard(tiny_saved, tmp_path / "sharded")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="index"):
        resolve(folder)


def test_a_single_file_with_a_configuration_beside_it(tiny_saved: Path) -> None:
    checkpoint = resolve(tiny_saved / "model.safetensors")
    assert checkpoint.config == any_view_config()
    assert same_weights(build_network(checkpoint), seeded_network(any_view_config()))


def test_a_single_file_with_the_configuration_in_its_metadata(tiny_saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.safetensors"
    tensors = load_file(tiny_saved / "model.safetensors")
    save_file(tensors, path, metadata={"format": "pt", "config": json.dumps(any_view_config()), "model_name": "mine"})
    checkpoint = resolve(path)
    assert (checkpoint.model_name, checkpoint.config) == ("mine", any_view_config())
    save_file(tensors, path, metadata={"config": "{"})
    with pytest.raises(CheckpointError, match="metadata entry config is not JSON"):
        resolve(path)


def test_a_single_file_of_a_preset_without_any_configuration(tmp_path: Path) -> None:
    """The real shapes of the smallest preset, with empty content."""
    path = tmp_path / "weights.safetensors"
    _write_zeros(path, "da3-small")
    checkpoint = resolve(path)
    assert (checkpoint.model_name, checkpoint.config) == ("da3-small", config_of("da3-small"))


def _write_zeros(path: Path, preset: str) -> None:
    """A file with the tensors of a preset, all zero; a sparse file, so that it takes no room."""
    from depth_anything_3.zoo.weights import preset_shapes

    header, end = {}, 0
    for key, shape in preset_shapes(preset).items():
        size = 4 * torch.Size(shape).numel()
        header[f"model.{key}"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def test_a_single_file_of_no_preset_asks_for_a_configuration(tiny_saved: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((tiny_saved / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"Put a config\.json beside it"):
        resolve(tmp_path / "x.safetensors")


def test_a_folder_without_configuration_is_identified_by_its_tensors(tmp_path: Path) -> None:
    folder = tmp_path / "some-mono-model"
    folder.mkdir()
    _write_zeros(folder / "model.safetensors", "da3mono-large")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve(folder).model_name == "da3mono-large"


def test_only_pickles(tiny_saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_saved / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin, a pickle"):
        resolve(tmp_path)
    with pytest.raises(CheckpointError, match="pickle"):
        resolve(tmp_path / "pytorch_model.bin")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        resolve(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"other\.safetensors, give its own path"):
        resolve(tmp_path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="source"):
        resolve(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "source", ["./nothing/here", "/nothing/here", "a/b/c", "weights.safetensors", "a/x.safetensors"]
)
def test_a_path_that_does_not_exist_says_so(source: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        resolve(source)
    with pytest.raises(InputError, match="does not exist"):
        resolve(Path("organisation/name"))


@pytest.mark.parametrize("source", ["DA3-BASE", "da3-base"])
def test_a_short_name_suggests_the_hub_id(source: str) -> None:
    with pytest.raises(InputError, match=r"full hub id .*depth-anything/DA3-BASE"):
        resolve(source)


def test_what_exists_on_disk_wins_over_a_hub_id(
    tiny_saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "someone" / "tiny")
    assert resolve("someone/tiny").revision is None
    assert hub.requests == []


def test_from_the_hub(hub: HubServer, tiny_files: dict[str, bytes]) -> None:
    commit = hub.add_model("someone/tiny", tiny_files)
    seen: list[str] = []
    checkpoint = resolve("someone/tiny", on_file=lambda file: seen.append(file.name))
    assert checkpoint.revision == commit and checkpoint.card is None
    assert seen == ["config.json", "model.safetensors"]
    assert same_weights(build_network(checkpoint), seeded_network(any_view_config()))


def test_a_published_model_has_its_card(hub: HubServer, tiny_files: dict[str, bytes]) -> None:
    hub.add_model("depth-anything/DA3-SMALL", tiny_files)
    assert resolve("depth-anything/DA3-SMALL").card == find_card("depth-anything/DA3-SMALL")


def test_a_published_model_without_a_telling_configuration_goes_by_its_card(
    hub: HubServer, tiny_files: dict[str, bytes]
) -> None:
    hub.add_model("depth-anything/DA3MONO-LARGE", {**tiny_files, "config.json": "{}"})
    assert resolve("depth-anything/DA3MONO-LARGE").model_name == "da3mono-large"


# --- parts ---


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with an any-view and a metric checkpoint in it."""
    save_tiny(tmp_path / "any")
    save_tiny(tmp_path / "met", metric_config(), model_name="da3metric-large")
    return tmp_path


def made_of(folder: Path, **content: Any) -> Path:
    target = folder / "whole"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(content))
    return target


def test_a_nested_model_of_parts_needs_no_weights_of_its_own(parts: Path) -> None:
    checkpoint = resolve(made_of(parts, parts={"da3": "../any", "da3_metric": "../met"}))
    assert (checkpoint.model_name, checkpoint.config) == ("da3nested-giant-large", nested_config())
    expected = seeded_network(nested_config()).state_dict()
    network = build_network(checkpoint)
    assert network.state_dict().keys() == expected.keys()
    for name, folder in (("da3", "any"), ("da3_metric", "met")):
        for key, tensor in build_network(resolve(parts / folder)).state_dict().items():
            assert torch.equal(network.state_dict()[f"{name}.{key}"], tensor)


def test_a_named_nested_model_of_parts(parts: Path) -> None:
    content = {"model_name": "da3nested-giant-large", "parts": {"da3": "../any", "da3_metric": "../met"}}
    assert resolve(made_of(parts, **content)).config == nested_config()


def test_an_architecture_that_is_spelled_out_must_fit_the_parts(parts: Path) -> None:
    folder = made_of(parts, config=config_of("da3nested-giant-large"), parts={"da3": "../any", "da3_metric": "../met"})
    with pytest.raises(CheckpointError, match="wrong shape"):
        build_network(resolve(folder))


def test_one_part_beside_own_weights(parts: Path, tiny_nested_saved: Path) -> None:
    folder = made_of(parts, config=nested_config(), parts={"da3": "../any"})
    own = {k: v for k, v in load_file(tiny_nested_saved / "model.safetensors").items() if ".da3_metric." in k}
    save_file(own, folder / "model.safetensors")
    assert build_network(resolve(folder))
    save_file(load_file(tiny_nested_saved / "model.safetensors"), folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="is in two files"):
        build_network(resolve(folder))


def test_a_part_may_come_from_the_hub_and_warns_about_its_licence(parts: Path, hub: HubServer) -> None:
    hub.add_model("depth-anything/DA3-LARGE-1.1", files_of(parts / "any"))
    folder = made_of(parts, parts={"da3": "depth-anything/DA3-LARGE-1.1", "da3_metric": "../met"})
    with pytest.warns(UserWarning, match="no commercial use"):
        checkpoint = resolve(folder)
    assert build_network(checkpoint)


def test_a_hub_model_of_parts_takes_them_from_the_hub_only(
    parts: Path, hub: HubServer, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_model("someone/any", tiny_files)
    hub.add_model("someone/met", files_of(parts / "met"))
    ids = {"da3": "someone/any", "da3_metric": "someone/met"}
    commit = hub.add_model("someone/whole", {"config.json": json.dumps({"parts": ids})})
    checkpoint = resolve("someone/whole")
    assert checkpoint.revision == commit and len(checkpoint.weights) == 2
    assert build_network(checkpoint)
    monkeypatch.chdir(parts)
    local = {"parts": {"da3": str(parts / "any"), "da3_metric": "met"}}
    hub.add_model("someone/local", {"config.json": json.dumps(local)})
    with pytest.raises(CheckpointError, match="expected a hub id"):
        resolve("someone/local")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["../any"], "expected hub ids or folders"),
        ({"da4": "../any"}, "expected hub ids or folders"),
        ({"da3": 3}, "expected hub ids or folders"),
        ({"da3": "../nothing"}, "expected a hub id or an existing folder"),
    ],
)
def test_wrong_parts(parts: Path, value: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        resolve(made_of(parts, parts=value))


def test_parts_of_parts_and_parts_of_a_simple_network(parts: Path, tiny_nested_saved: Path) -> None:
    folder = made_of(parts, parts={"da3": str(tiny_nested_saved), "da3_metric": "../met"})
    with pytest.raises(CheckpointError, match="is a nested network itself"):
        resolve(folder)
    (folder / "config.json").write_text(json.dumps({"model_name": "da3-small", "parts": {"da3": "../any"}}))
    with pytest.raises(CheckpointError, match="names a network that has none"):
        resolve(folder)


def test_a_part_that_is_the_whole_is_an_error_not_a_loop(parts: Path) -> None:
    folder = made_of(parts, parts={"da3": ".", "da3_metric": "../met"})
    with pytest.raises(CheckpointError, match="cannot be made of parts itself"):
        resolve(folder)


def test_a_further_head_on_a_base_that_holds_the_rest(parts: Path) -> None:
    object_ = {"path": "depth_anything_3.model.dpt", "name": "DPT", "args": "as_params"}
    head = {"__object__": object_, "dim_in": 32, "output_dim": 1, "features": 16, "out_channels": [8] * 4}
    backbone = {**metric_config(), "head": head}
    whole = seeded_network(backbone)
    own = {key: value for key, value in whole.state_dict().items() if "output_conv2" in key}
    base = {key: value for key, value in whole.state_dict().items() if key not in own}
    folder = made_of(parts, config=backbone, parts={"base": "../base"})
    for where, tensors in ((folder, own), (parts / "base", base)):
        where.mkdir(exist_ok=True)
        save_file({f"model.{key}": value.clone() for key, value in tensors.items()}, where / "model.safetensors")
    (parts / "base" / "config.json").write_text(json.dumps({"config": backbone, "process_res": 168}))
    checkpoint = resolve(folder)
    assert same_weights(build_network(checkpoint), whole) and checkpoint.process_res == 168


def test_a_base_needs_a_preset_and_no_other_part(parts: Path) -> None:
    for number, content in enumerate(({}, {"model_name": "da3-small", "parts": {"da3": "../../any"}})):
        (parts / str(number)).mkdir()
        folder = made_of(parts / str(number), **{**content, "parts": {"base": "../../any", **content.get("parts", {})}})
        with pytest.raises(CheckpointError, match="name of a preset, and no other part"):
            resolve(folder)


# --- saving ---


def test_saving_and_loading_is_exact(tmp_path: Path) -> None:
    network = seeded_network(any_view_config())
    folder = save(network, tmp_path / "new" / "folder", model_name="mine", config=any_view_config())
    checkpoint = resolve(folder)
    assert (checkpoint.model_name, checkpoint.config) == ("mine", any_view_config())
    loaded = build_network(checkpoint)
    assert same_weights(loaded, network)
    again = save(loaded, tmp_path / "again", model_name="mine", config=checkpoint.config)
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text()).keys() == {"model_name", "config"}


def test_saving_keeps_the_precision(tmp_path: Path) -> None:
    network = seeded_network(any_view_config()).to(torch.bfloat16)
    folder = save(network, tmp_path, model_name="mine", config=any_view_config())
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert same_weights(build_network(resolve(folder), dtype=torch.bfloat16), network)


def test_special_values_survive(tmp_path: Path) -> None:
    network = seeded_network(any_view_config())
    bias = network.get_parameter("cam_dec.fc_t.bias")
    with torch.no_grad():
        bias.copy_(torch.tensor([float("nan"), -0.0, float("inf")]))
    folder = save(network, tmp_path, model_name="mine", config=any_view_config())
    loaded = build_network(resolve(folder)).get_parameter("cam_dec.fc_t.bias")
    assert torch.equal(loaded.view(torch.int32), bias.view(torch.int32))


def test_saving_does_not_overwrite_a_checkpoint_unless_asked(tmp_path: Path) -> None:
    network = seeded_network(any_view_config())
    (tmp_path / "notes.txt").write_text("mine")
    folder = save(network, tmp_path, model_name="first", config=any_view_config())
    with pytest.raises(InputError, match="overwrite=True"):
        save(network, folder, model_name="second", config=any_view_config())
    assert resolve(folder).model_name == "first"
    save(build_network(resolve(folder)), folder, model_name="second", config=any_view_config(), overwrite=True)
    assert resolve(folder).model_name == "second"
    assert same_weights(build_network(resolve(folder)), network)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_saving_with_the_config_of_another_network_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing was written"):
        save(seeded_network(any_view_config()), tmp_path / "x", model_name="mine", config=metric_config())
    unfit: dict[str, Any] = {**any_view_config(), "note": object()}
    with pytest.raises(InputError, match="plain data"):
        save(seeded_network(any_view_config()), tmp_path / "x", model_name="mine", config=unfit)
    assert not (tmp_path / "x").exists()


def test_a_failed_save_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(seeded_network(any_view_config()), tmp_path / "x", model_name="mine", config=any_view_config())
    assert list((tmp_path / "x").iterdir()) == []
