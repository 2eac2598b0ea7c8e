"""Every form of ``config.json``, and tensors without any."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from support.tiny import any_view_config, metric_config, nested_config

from depth_anything_3.errors import CheckpointError, ConfigError
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.zoo.identify import config_of, describe, describe_tensors, plain, read_json
from depth_anything_3.zoo.weights import Shapes

SMALL = config_of("da3-small")


def understood(raw: dict[str, Any], source: str = "somewhere") -> tuple[str, dict[str, Any], bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = describe(raw, source=source, where="config.json")
    assert found is not None
    return found.model_name, found.config, found.explicit


@pytest.mark.parametrize("preset", sorted(MODEL_REGISTRY))
@pytest.mark.parametrize("form", ["named", "named inside", "both", "inside", "flat"])
def test_every_preset_in_every_form(preset: str, form: str) -> None:
    config = config_of(preset)
    raw: dict[str, Any] = {
        "named": {"model_name": preset},
        "named inside": {"config": {"model_name": preset}},
        "both": {"model_name": preset, "config": config},
        "inside": {"config": {**config, "model_name": preset}},
        "flat": {"model_name": preset, **config, "library_name": "da3", "tags": ["depth"]},
    }[form]
    assert understood(raw) == (preset, config, form in ("both", "inside", "flat"))


@pytest.mark.parametrize("preset", sorted(MODEL_REGISTRY))
@pytest.mark.parametrize("inside", [True, False])
def test_contents_tell_when_there_is_no_name(preset: str, inside: bool) -> None:
    config = config_of(preset)
    name, built, _ = understood({"config": config} if inside else config, source=f"models/{preset}")
    assert (name, built) == (preset, config)


@pytest.mark.parametrize(
    ("raw", "preset"),
    [
        ({"net": {"name": "vitb"}}, "da3-base"),
        ({"config": {"net": {"name": "vitl"}, "head": {"__object__": {"name": "DualDPT"}}}}, "da3-large"),
        ({"config": {"net": {"name": "vitl"}, "head": {"__object__": {"name": "DPT"}}}}, "da3metric-large"),
        ({"net": {"name": "vitl"}, "head": {"dim_in": 1024}}, "da3metric-large"),
        ({"head": {"dim_in": 3072}}, "da3-giant"),
        ({"config": {"head": {"dim_in": 768}}}, "da3-small"),
        ({"anyview": {}, "metric": {}}, "da3nested-giant-large"),
    ],
)
def test_a_few_entries_are_enough(raw: dict[str, Any], preset: str) -> None:
    assert understood(raw, source="models/metric") == (preset, config_of(preset), False)


def test_a_reduced_network_under_a_known_name_is_built_as_spelled_out() -> None:
    reduced = any_view_config()
    assert understood({"model_name": "da3-small", "config": reduced}) == ("da3-small", reduced, True)


def test_any_name_will_do_for_an_architecture_that_is_spelled_out() -> None:
    assert understood({"model_name": "mine", "config": any_view_config()})[0] == "mine"
    assert understood({"config": nested_config()})[0] == "da3nested-giant-large"


def test_missing_object_entries_are_completed() -> None:
    config = any_view_config()
    bare = {key: value for key, value in config.items() if key != "__object__"}
    assert understood({"config": bare})[1] == config
    nested = {"anyview": bare, "metric": metric_config()}
    assert understood(nested)[1] == nested_config()


def test_the_config_wins_over_the_name_of_another_preset_and_says_so() -> None:
    with pytest.warns(UserWarning, match="says da3-large, but its config is that of da3-small"):
        found = describe({"model_name": "da3-large", "config": SMALL}, source="x", where="config.json")
    assert found is not None and (found.model_name, found.config) == ("da3-small", SMALL)


def test_mono_keeps_its_name_although_its_config_is_that_of_metric() -> None:
    assert understood({"model_name": "da3mono-large", "config": config_of("da3metric-large")})[0] == "da3mono-large"


def test_a_config_of_another_time_gives_way_to_the_preset_named_beside_it() -> None:
    aged = {**SMALL, "head": {**SMALL["head"], "an_old_argument": 3}}
    with pytest.warns(UserWarning, match="an_old_argument"):
        found = describe({"model_name": "da3-small", "config": aged}, source="x", where="config.json")
    assert found is not None and found.config == SMALL


def test_a_class_from_elsewhere_is_refused_also_beside_a_known_name() -> None:
    foreign = {**SMALL, "head": {"__object__": {"path": "os", "name": "system", "args": "as_params"}}}
    with pytest.raises(ConfigError, match=r"os\.system"):
        describe({"model_name": "da3-small", "config": foreign}, source="x", where="config.json")


@pytest.mark.parametrize("raw", [{"model_name": "da3-huge"}, {"config": {"model_name": "da3-huge"}}])
def test_an_unknown_name_lists_the_presets(raw: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="da3-huge") as error:
        describe(raw, source="x", where="folder/config.json")
    assert "folder/config.json" in str(error.value)
    assert all(preset in str(error.value) for preset in MODEL_REGISTRY)


@pytest.mark.parametrize("raw", [{"model_name": 3}, {"config": "da3-small"}, {"model_name": ["da3-small"]}])
def test_entries_of_the_wrong_type(raw: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="expected"):
        describe(raw, source="x", where="config.json")


def test_nothing_that_tells() -> None:
    assert describe({"tags": []}, source="x", where="config.json") is None


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_files_that_are_not_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"da3-small"'])
def test_json_that_is_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="expected an object"):
        read_json(tmp_path / "config.json")


def test_configurations_are_plain_data() -> None:
    def check(node: object) -> None:
        assert type(node) in (dict, list, str, int, float, bool)
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            check(child)

    for preset in MODEL_REGISTRY:
        check(config_of(preset))
    original = {"a": [1, {"b": 2}]}
    copy = plain(original)
    copy["a"][1]["b"] = 3
    assert original == {"a": [1, {"b": 2}]}


# --- tensors alone ---


@pytest.mark.parametrize("preset", sorted(set(MODEL_REGISTRY) - {"da3metric-large", "da3mono-large"}))
def test_tensors_alone_tell_the_preset(preset: str, published_shapes: dict[str, Shapes]) -> None:
    found = describe_tensors(published_shapes[preset], source="weights.safetensors")
    assert (found.model_name, found.config) == (preset, config_of(preset))


@pytest.mark.parametrize(
    ("source", "preset"),
    [
        ("downloads/DA3MONO-LARGE/model.safetensors", "da3mono-large"),
        ("mono.safetensors", "da3mono-large"),
        ("da3metric-large/model.safetensors", "da3metric-large"),
    ],
)
def test_the_path_tells_mono_from_metric(source: str, preset: str, published_shapes: dict[str, Shapes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert describe_tensors(published_shapes["da3mono-large"], source=source).model_name == preset


def test_without_a_hint_metric_is_taken_with_a_warning(published_shapes: dict[str, Shapes]) -> None:
    with pytest.warns(UserWarning, match="da3metric-large or da3mono-large"):
        found = describe_tensors(published_shapes["da3mono-large"], source="monoliths/a/weights.safetensors")
    assert found.model_name == "da3metric-large"


def test_tensors_of_no_preset_name_the_nearest(published_shapes: dict[str, Shapes]) -> None:
    shapes = dict(published_shapes["da3-base"])
    shapes["head.extra"] = (1,)
    del shapes["cam_dec.fc_t.bias"]
    with pytest.raises(CheckpointError, match="the nearest, da3-base, differs in 2"):
        describe_tensors(shapes, source="weights.safetensors")
