"""Configurations: where they are found, how they inherit, and what they may build."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.networks import build, node, preset, small_metric
from torch import nn

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import ConfigError
from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net
from depth_anything_3.model.gs_adapter import GaussianAdapter
from depth_anything_3.registry import MODEL_REGISTRY

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text under a name and return its path."""

    def to(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return to


class Recorder:
    """Keeps what it is built with; stands for a user's own class."""

    def __init__(self, size: int, child: Any = None, *, label: str = "") -> None:
        self.size, self.child, self.label = size, child, label


class Positional:
    """Takes positional arguments that nobody has to give, and any keyword."""

    def __init__(self, needed: int, *rest: int, **more: int) -> None:
        self.needed, self.rest, self.more = needed, rest, more


class WholeNode:
    """Takes its node as one argument, as ``args: as_config`` says."""

    def __init__(self, config: Any) -> None:
        self.config = config


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def describe(cls: type, /, args: str | None = "as_params", **arguments: Any) -> dict[str, Any]:
    spec = {"path": cls.__module__, "name": cls.__name__}
    return {"__object__": spec if args is None else {**spec, "args": args}, **arguments}


# --- where a configuration is found -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODEL_REGISTRY))
def test_a_preset_by_file_path_and_by_dotted_path_is_the_same(name: str) -> None:
    by_path = load_config(MODEL_REGISTRY[name])
    assert by_path == load_config(f"depth_anything_3.configs.{name}") == load_config(Path(MODEL_REGISTRY[name]))
    assert by_path["__object__"]["path"] == "depth_anything_3.model.da3"


def test_a_file_is_found_from_the_working_directory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("own.yaml", "a: 1")
    monkeypatch.chdir(path.parent)
    assert load_config("own.yaml") == {"a": 1}
    assert load_config("./own.yaml") == {"a": 1}
    assert load_config(path) == {"a": 1}


def test_a_short_suffix_and_no_suffix_are_files_too(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write("own.yml", "a: 1").parent)
    write("plain", "a: 2")
    assert load_config("own.yml") == {"a": 1}
    assert load_config("plain") == {"a": 2}


def test_a_name_with_dots_and_slashes_is_a_file(write: Write) -> None:
    assert load_config(f"{write('v1.2/own.cfg', 'a: 1')}") == {"a": 1}


@pytest.mark.parametrize(
    "path", ["nothing.yaml", "depth_anything_3.configs.nothing", "depth_anything_3.configs", "x/."]
)
def test_what_is_not_there_is_named(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^path: got '.*' \(.*\); expected a YAML file that exists") as caught:
        load_config(path)
    assert repr(path) in str(caught.value)


def test_a_dotted_path_of_another_package_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'yaml\.loader'.*dotted path that starts with depth_anything_3"):
        load_config("yaml.loader")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2", "a list at the top"),
        ("word", "a str at the top"),
        ("", "a NoneType at the top"),
        ("a: [1", r"(?s)own\.yaml .*line 1.*plain data"),
        ("a: &a [*a]", r"own\.yaml .*plain data"),
        ("a: &a {b: *a}", r"own\.yaml .*plain data"),
    ],
)
def test_what_is_no_configuration_is_named(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write("own.yaml", text))


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="plain data"):
        load_config(tmp_path / "own.yaml")


# --- what YAML means --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E-5", 1e-5),
        ("+1e3", 1e3),
        ("-1e3", -1e3),
        ("1.e2", 100.0),
        (".5e1", 5.0),
        ("1.5E+2", 150.0),
        ("30.0", 30.0),
    ],
)
def test_numbers_with_exponents_are_floats(write: Write, text: str, value: float) -> None:
    read = load_config(write("own.yaml", f"a: {text}\nb: [{text}]"))
    assert read == {"a": value, "b": [value]}
    assert type(read.a) is float and type(read.b[0]) is float


@pytest.mark.parametrize("text", ["e5", "1e", "1e-", "v1e5", "'1e-5'", "1e-5m"])
def test_other_words_stay_words(write: Write, text: str) -> None:
    assert load_config(write("own.yaml", f"a: {text}")) == {"a": text.strip("'")}


def test_yaml_elsewhere_in_the_process_is_left_alone(write: Write) -> None:
    load_config(write("own.yaml", "a: 1e-5"))
    assert yaml.safe_load("1e-5") == "1e-5"


def test_the_scale_limit_of_the_giant_is_a_number() -> None:
    adapter = load_config("depth_anything_3.configs.da3-giant")["gs_adapter"]
    assert adapter["gaussian_scale_min"] == 1e-5 and isinstance(adapter["gaussian_scale_min"], float)
    built = create_object(adapter)
    assert isinstance(built, GaussianAdapter)


def test_anchors_repeat_values(write: Write) -> None:
    read = load_config(write("own.yaml", "a: &size {x: 1, y: [2]}\nb: *size\nc:\n  <<: *size\n  x: 5\n"))
    assert read == {"a": {"x": 1, "y": [2]}, "b": {"x": 1, "y": [2]}, "c": {"x": 5, "y": [2]}}


def test_an_override_of_one_use_of_an_anchor_leaves_the_others(write: Write) -> None:
    path = write("own.yaml", "a: &size {x: 1, deep: {y: 2}}\nb: *size\n")
    assert load_config(path, ["b.x=9", "b.deep.y=8"]) == {
        "a": {"x": 1, "deep": {"y": 2}},
        "b": {"x": 9, "deep": {"y": 8}},
    }


def test_inheriting_into_one_use_of_an_anchor_leaves_the_others(write: Write) -> None:
    write("parent.yaml", "first: &part {x: 1, deep: {y: 2}}\nsecond: *part\n")
    child = write("child.yaml", "__inherit__: parent.yaml\nsecond: {x: 9, deep: {y: 8}}\n")
    assert load_config(child) == {"first": {"x": 1, "deep": {"y": 2}}, "second": {"x": 9, "deep": {"y": 8}}}


def test_changing_the_result_of_one_anchor_leaves_the_others(write: Write) -> None:
    read = load_config(write("own.yaml", "a: &size {x: [1]}\nb: *size\n"))
    read.a.x.append(2)
    assert read.b.x == [1]


def test_two_readings_share_nothing() -> None:
    first = preset("da3-small")
    first["net"]["name"] = "changed"
    first["head"]["out_channels"].append(1)
    assert preset("da3-small")["net"]["name"] == "vits"
    assert preset("da3-small")["head"]["out_channels"] == [48, 96, 192, 384]


def test_entries_can_be_read_as_attributes(write: Write) -> None:
    read = load_config(write("own.yaml", "net: {name: vits}\nlist: [{deep: {x: 1}}]\n"))
    assert read.net.name == "vits" == read["net"]["name"]
    assert read.list[0].deep.x == 1
    with pytest.raises(AttributeError, match=r"no entry 'nam'; there are: name"):
        _ = read.net.nam
    assert not hasattr(read, "missing") and getattr(read, "missing", 3) == 3
    assert isinstance(read, dict)


def test_a_configuration_survives_copying(write: Write) -> None:
    read = load_config(write("own.yaml", "net: {name: vits}"))
    for twin in (copy.copy(read), copy.deepcopy(read)):
        assert twin == read and twin.net.name == "vits"


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/new:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!unknown {{a: 1}}",
    ],
)
@pytest.mark.parametrize("as_override", [False, True])
def test_tags_are_refused_and_do_nothing(write: Write, tmp_path: Path, tag: str, as_override: bool) -> None:
    mark = tmp_path / "executed"
    text = tag.format(mark=mark)
    with pytest.raises(ConfigError, match="plain data"):
        if as_override:
            load_config(write("own.yaml", "a: 1"), [f"a={text}"])
        else:
            load_config(write("own.yaml", f"a: {text}"))
    assert not mark.exists()


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("net.name=vitb", {"net": {"name": "vitb", "layers": [5, 7]}}),
        ("net.layers=[1, 2]", {"net": {"name": "vits", "layers": [1, 2]}}),
        ("net.size=3", {"net": {"name": "vits", "layers": [5, 7], "size": 3}}),
        ("net.size=1e-5", {"net": {"name": "vits", "layers": [5, 7], "size": 1e-5}}),
        ("net.size=true", {"net": {"name": "vits", "layers": [5, 7], "size": True}}),
        ("net.size=null", {"net": {"name": "vits", "layers": [5, 7], "size": None}}),
        ("net.size=", {"net": {"name": "vits", "layers": [5, 7], "size": None}}),
        ("net.size='3'", {"net": {"name": "vits", "layers": [5, 7], "size": "3"}}),
        ("net.size={a: 1}", {"net": {"name": "vits", "layers": [5, 7], "size": {"a": 1}}}),
        ("net={name: vitb}", {"net": {"name": "vitb", "layers": [5, 7]}}),
        ("net=gone", {"net": "gone"}),
        ("net.name.deep=1", {"net": {"name": {"deep": 1}, "layers": [5, 7]}}),
        ("a.b.c=x=y", {"net": {"name": "vits", "layers": [5, 7]}, "a": {"b": {"c": "x=y"}}}),
    ],
)
def test_override(write: Write, override: str, expected: dict[str, Any]) -> None:
    read = load_config(write("own.yaml", "net: {name: vits, layers: [5, 7]}"), [override])
    assert read == expected
    assert repr(read) == repr({**read, **expected})  # 3 and 3.0 and True are equal, but not the same


def test_later_overrides_win(write: Write) -> None:
    assert load_config(write("own.yaml", "a: 1"), ["a=2", "a=3", "b=4"]) == {"a": 3, "b": 4}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".a=1", "a.=1", "a=[1", "a={", "a=&x [*x]", "a='"])
def test_a_malformed_override_is_named(write: Write, override: str) -> None:
    with pytest.raises(ConfigError, match=r"^argv: got ") as caught:
        load_config(write("own.yaml", "a: 1"), [override])
    assert repr(override) in str(caught.value)


def test_overrides_come_before_inheritance(write: Write) -> None:
    write("first.yaml", "name: first\nonly_first: 1\ndeep: {x: 1, y: 2}")
    write("second.yaml", "name: second\ndeep: {x: 3}")
    child = write("child.yaml", "__inherit__: first.yaml\n")
    assert load_config(child, ["__inherit__=second.yaml"]) == {"name": "second", "deep": {"x": 3}}
    assert load_config(child, ["deep.x=9"]) == {"name": "first", "only_first": 1, "deep": {"x": 9, "y": 2}}
    assert load_config(child, ["other.__inherit__=second.yaml"]).other.name == "second"


def test_an_override_of_a_nested_preset_reaches_what_it_inherits() -> None:
    read = load_config(MODEL_REGISTRY["da3nested-giant-large"], ["anyview.net.name=vits"])
    assert read.anyview.net.name == "vits"
    assert read.anyview.net.out_layers == [19, 27, 33, 39]
    assert read.metric.net.name == "vitl"


# --- inheritance ------------------------------------------------------------------------------------------------------


def test_inheritance_is_relative_to_the_file_that_names_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a/b/grandparent.yaml", "g: 1\nwho: grandparent")
    write("a/parent.yaml", "__inherit__: b/grandparent.yaml\nwho: parent")
    child = write("child/child.yaml", "__inherit__: ../a/parent.yaml\nc: 3")
    write("elsewhere/grandparent.yaml", "g: wrong")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(child) == {"g": 1, "who": "parent", "c": 3}
    assert load_config("../child/child.yaml") == {"g": 1, "who": "parent", "c": 3}


def test_a_bare_file_name_is_found_beside_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/parent.yaml", "who: beside")
    child = write("a/child.yaml", "__inherit__: parent.yaml")
    write("parent.yaml", "who: wrong")
    monkeypatch.chdir(child.parents[1])
    assert load_config("a/child.yaml").who == "beside"


def test_inheritance_of_a_preset_by_dotted_path(write: Write) -> None:
    own = write("own.yaml", "__inherit__: depth_anything_3.configs.da3-small\nhead: {features: 32}")
    expected = preset("da3-small")
    expected["head"]["features"] = 32
    assert load_config(own) == expected
    assert "__inherit__" not in load_config(own)


def test_a_list_merges_left_to_right_and_own_keys_win(write: Write) -> None:
    write("one.yaml", "a: 1\nb: 1\nc: 1\ndeep: {x: 1, y: 1, z: 1}\nlist: [1, 1]")
    write("two.yaml", "b: 2\nc: 2\ndeep: {y: 2, z: 2}\nlist: [2]")
    own = write("own.yaml", "c: 3\ndeep: {z: 3}\n__inherit__: [one.yaml, two.yaml]")
    assert load_config(own) == {"a": 1, "b": 2, "c": 3, "deep": {"x": 1, "y": 2, "z": 3}, "list": [2]}
    assert load_config(own, ["__inherit__=[two.yaml, one.yaml]"]).b == 1


def test_own_values_replace_whole_lists_and_other_types(write: Write) -> None:
    write("parent.yaml", "a: {x: 1}\nb: 1\nc: [1, 2]\nd: {x: 1}")
    own = write("own.yaml", "__inherit__: parent.yaml\na: 5\nb: {y: 2}\nc: []\nd: null")
    assert load_config(own) == {"a": 5, "b": {"y": 2}, "c": [], "d": None}


def test_inheritance_inside_a_node_and_inside_a_list(write: Write) -> None:
    write("part.yaml", "x: 1\ny: 1")
    own = write("own.yaml", "deep: {node: {__inherit__: part.yaml, y: 2}}\nlist: [{__inherit__: part.yaml}, 7]")
    assert load_config(own) == {"deep": {"node": {"x": 1, "y": 2}}, "list": [{"x": 1, "y": 1}, 7]}


def test_one_file_may_be_inherited_twice(write: Write) -> None:
    write("base.yaml", "deep: {x: 1}")
    write("left.yaml", "__inherit__: base.yaml\nleft: 1")
    own = write("own.yaml", "__inherit__: [left.yaml, base.yaml]\na: {__inherit__: base.yaml}")
    read = load_config(own)
    assert read == {"deep": {"x": 1}, "left": 1, "a": {"deep": {"x": 1}}}
    read.deep.x = 2
    assert read.a.deep.x == 1


@pytest.mark.parametrize("inherit", ["null", "[]"])
def test_inheriting_nothing(write: Write, inherit: str) -> None:
    assert load_config(write("own.yaml", f"__inherit__: {inherit}\na: 1")) == {"a": 1}


def test_loops_are_refused_with_their_course(write: Write) -> None:
    write("b.yaml", "__inherit__: c.yaml")
    write("c.yaml", "deep: {node: {__inherit__: ./sub/../a.yaml}}")
    with pytest.raises(ConfigError, match=r"^__inherit__: got a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml; .*no loop"):
        load_config(write("a.yaml", "__inherit__: b.yaml"))


@pytest.mark.parametrize("where", ["__inherit__: self.yaml", "a: {__inherit__: [self.yaml]}"])
def test_a_file_that_inherits_itself_is_refused(write: Write, where: str) -> None:
    with pytest.raises(ConfigError, match=r"self\.yaml -> self\.yaml"):
        load_config(write("self.yaml", where))


@pytest.mark.parametrize(
    ("inherit", "message"),
    [
        ("gone.yaml", r"'gone\.yaml'"),
        ("3", "__inherit__: got 3; expected a path or a list of paths"),
        ("[3]", r"__inherit__: got \[3\]"),
        ("{a: 1}", "__inherit__"),
        ("other_package.configs.own", "starts with depth_anything_3"),
    ],
)
def test_inheriting_what_is_not_there_is_an_error(write: Write, inherit: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write("own.yaml", f"__inherit__: {inherit}"))


# --- which classes are built ------------------------------------------------------------------------------------------


def test_a_class_of_the_users_needs_permission(tmp_path: Path) -> None:
    config = describe(Recorder, size=1)
    with pytest.raises(ConfigError, match=r"^__object__: .*Recorder.*pass allow="):
        create_object(config)
    assert create_object(config, allow=(full_name(Recorder),)).size == 1


def test_permission_names_a_class_and_not_a_module() -> None:
    config = {"__object__": {"path": "collections", "name": "OrderedDict", "args": "as_params"}, "a": 1}
    for allow in ((), ("collections",), ("collections.Counter",), ("OrderedDict",)):
        with pytest.raises(ConfigError, match=r"collections\.OrderedDict.*allow=\('collections\.OrderedDict',\)"):
            create_object(config, allow=allow)
    assert create_object(config, allow=("collections.OrderedDict",)) == {"a": 1}


def test_permission_holds_for_nested_nodes() -> None:
    inner = describe(Recorder, size=2)
    outer = describe(Recorder, size=1, child=inner)
    built = create_object(outer, allow=[full_name(Recorder)])
    assert isinstance(built.child, Recorder) and built.child.size == 2
    with pytest.raises(ConfigError, match="collections"):
        create_object(
            describe(Recorder, size=1, child={"__object__": {"path": "collections", "name": "OrderedDict"}}),
            allow=[full_name(Recorder)],
        )


def test_nothing_is_imported_for_a_class_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "side_effect_of_import.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Own: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError):
        create_object({"__object__": {"path": "side_effect_of_import", "name": "Own"}})
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("depth_anything_3.model.da3", "Tensor"),  # a class that our module imports
        ("depth_anything_3.model.da3", "torch"),  # a module
        ("depth_anything_3.model.da3", "nn"),
        ("depth_anything_3.model.da3", "nn.Linear"),
        ("depth_anything_3.model.da3", "Any"),
        ("depth_anything_3.cfg", "load_config"),  # a function of ours
        ("depth_anything_3.cfg", "importlib"),
        ("depth_anything_3.cfg", "Path"),
        ("depth_anything_3.registry", "MODEL_REGISTRY"),  # an object of ours
        ("depth_anything_3.registry", "entry_points"),
        ("depth_anything_3.model.da3", "__builtins__"),
    ],
)
def test_what_our_modules_import_is_not_built(path: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^__object__: ") as caught:
        create_object({"__object__": {"path": path, "name": name, "args": "as_params"}})
    assert f"{path}.{name}" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["os", "builtins", "subprocess", "depth_anything_3_evil", "", ".model.da3", "depth_anything_3x.model"]
)
def test_other_modules_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="a class of depth_anything_3"):
        create_object({"__object__": {"path": path, "name": "system"}})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("depth_anything_3.model.nothing", "DPT"),
        ("depth_anything_3.model.dpt", "Nothing"),
        ("depth_anything_3..model", "DPT"),
    ],
)
def test_a_class_that_does_not_exist_is_named(path: str, name: str) -> None:
    with pytest.raises(ConfigError, match="a class that exists") as caught:
        create_object({"__object__": {"path": path, "name": name}})
    assert f"{path}.{name}" in str(caught.value)


@pytest.mark.parametrize("spec", [{}, {"path": "depth_anything_3.model.dpt"}, {"name": "DPT"}, {"path": 1, "name": 2}])
def test_an_object_needs_path_and_name(spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"__object__: .*'path' of a module and 'name' of a class"):
        create_object({"__object__": spec})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "a node with nothing"),
        ({"a": 1, "b": 2}, "a node with a, b"),
        ({"model": {"a": 1}}, "a node with model"),
        ({"__object__": "depth_anything_3.model.dpt.DPT"}, "__object__"),
        (None, "an object of type NoneType"),
        ("depth_anything_3.configs.da3-small", "an object of type str"),
        ([1], "an object of type list"),
    ],
)
def test_what_is_no_node_is_an_error(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_object(config)


# --- how they are built -----------------------------------------------------------------------------------------------

ALLOW = tuple(full_name(cls) for cls in (Recorder, WholeNode, Positional))


def test_the_remaining_keys_are_the_arguments() -> None:
    built = create_object(describe(Recorder, size=3, label="x", child={"plain": [1]}), allow=ALLOW)
    assert (built.size, built.label, built.child) == (3, "x", {"plain": [1]})


@pytest.mark.parametrize("args", ["as_config", None])
def test_the_whole_node_is_the_argument(args: str | None) -> None:
    config = describe(WholeNode, args, size=3, inner=describe(Recorder, size=1))
    built = create_object(config, allow=ALLOW)
    assert built.config is config
    assert built.config["inner"]["size"] == 1  # whoever takes the node decides what becomes of it


def test_another_style_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"__object__\.args: got 'as_list'; .*\(valid: as_params, as_config\)"):
        create_object(describe(Recorder, "as_list", size=1), allow=ALLOW)


def test_an_unknown_argument_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^Recorder: got unknown argument siez, x; .*\(valid: size, child, label\)"):
        create_object(describe(Recorder, siez=1, x=2), allow=ALLOW)
    with pytest.raises(ConfigError, match=r"^DPT: got unknown argument feature; .*features, out_channels"):
        create_object(node("dpt", "DPT", dim_in=384, feature=64))


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^Recorder: got no size; .*\(valid: size\)"):
        create_object(describe(Recorder, label="x"), allow=ALLOW)
    with pytest.raises(ConfigError, match=r"^DepthAnything3Net: got no net, head;"):
        create_object(node("da3", "DepthAnything3Net"))


def test_classes_with_open_signatures() -> None:
    built = create_object(describe(Positional, needed=1, extra=2), allow=ALLOW)
    assert (built.needed, built.rest, built.more) == (1, (), {"extra": 2})
    with pytest.raises(ConfigError, match=r"^Positional: got no needed;"):
        create_object(describe(Positional, extra=2), allow=ALLOW)
    sequential = {"__object__": {"path": "torch.nn", "name": "Sequential", "args": "as_params"}}
    assert len(create_object(sequential, allow=("torch.nn.Sequential",))) == 0


def test_a_node_in_one_top_level_key_is_found() -> None:
    assert create_object({"anything": describe(Recorder, size=4)}, allow=ALLOW).size == 4


def test_building_changes_no_configuration() -> None:
    config = small_metric()
    before = copy.deepcopy(config)
    with torch.device("meta"):
        create_object(config)
    assert config == before


# --- networks ---------------------------------------------------------------------------------------------------------


def on_meta(config: Any) -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = create_object(config)
    return network


@pytest.mark.parametrize("name", sorted(MODEL_REGISTRY))
def test_every_preset_builds(name: str) -> None:
    network = on_meta(load_config(f"depth_anything_3.configs.{name}"))
    kind = NestedDepthAnything3Net if "nested" in name else DepthAnything3Net
    assert type(network) is kind


def test_only_net_and_head_make_a_network_that_runs() -> None:
    config = preset("da3-small")
    network = build({name: config[name] for name in ("__object__", "net", "head")})
    assert isinstance(network, DepthAnything3Net)
    with torch.inference_mode():
        output = network(torch.zeros(1, 2, 3, 28, 42))
    assert output.depth.shape == (1, 2, 28, 42) and output.depth_conf is not None
    assert output.extrinsics is None and output.intrinsics is None and "extrinsics" not in output
    assert bool(torch.isfinite(output.depth).all())


@pytest.mark.parametrize("name", ["nested-small", "small-gs", "small-metric"])
def test_configurations_of_the_reference_build(shared: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    network = on_meta(load_config(shared / "golden" / "configs" / f"{name}.yaml"))
    keys = set(network.state_dict())
    prefixes = {key.split(".")[0] for key in keys}
    small = set(on_meta(preset("da3-small")).state_dict())
    if name == "small-metric":
        assert prefixes == {"backbone", "head"}
        assert keys == set(on_meta(small_metric()).state_dict())
    elif name == "small-gs":
        assert small < keys and prefixes == {"backbone", "head", "cam_enc", "cam_dec", "gs_head"}
    else:
        assert prefixes == {"da3", "da3_metric"}
        assert {f"da3.{key}" for key in small} < keys


USERS_OWN = """
__object__:
  path: depth_anything_3.model.da3
  name: DepthAnything3Net
  args: as_params

net:
  __object__: {path: depth_anything_3.model.dinov2.dinov2, name: DinoV2, args: as_params}
  name: vitb
  out_layers: [5, 7, 9, 11]
  alt_start: 4
  qknorm_start: 4
  rope_start: 4
  cat_token: True

head:
  __object__: {path: depth_anything_3.model.dualdpt, name: DualDPT, args: as_params}
  dim_in: &head_dim_in 1536
  output_dim: 2
  features: &head_features 128
  out_channels: &head_out_channels [96, 192, 384, 768]
"""


def wrapped(text: str) -> str:
    return "model:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("text", [USERS_OWN, wrapped(USERS_OWN)], ids=["top level", "in one key"])
def test_a_users_own_file_builds_the_published_network(write: Write, text: str) -> None:
    network = on_meta(load_config(write("my model.yaml", text)))
    published = on_meta(preset("da3-base")).state_dict()
    expected = {key: value.shape for key, value in published.items() if key.startswith(("backbone.", "head."))}
    assert {key: value.shape for key, value in network.state_dict().items()} == expected
    assert len(expected) > 360


def test_anchors_reach_other_parts_of_a_users_file(write: Write) -> None:
    cameras = """
cam_dec:
  __object__: {path: depth_anything_3.model.cam_dec, name: CameraDec, args: as_params}
  dim_in: *head_dim_in
"""
    network = on_meta(load_config(write("own.yaml", USERS_OWN + cameras)))
    assert network.state_dict()["cam_dec.fc_t.weight"].shape == (3, 1536)
