"""Named extension points: by decorator, by name of a module, from other packages; and the presets."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from depth_anything_3.errors import DA3Error, InputError, UnknownNameError
from depth_anything_3.registry import MODEL_REGISTRY, Registry, get_all_models

PRESETS = [
    "da3-base",
    "da3-giant",
    "da3-gs-tiny",
    "da3-large",
    "da3-small",
    "da3-tiny",
    "da3metric-large",
    "da3metric-tiny",
    "da3mono-large",
    "da3nested-giant-large",
    "da3nested-tiny",
]


class Package:
    """A distribution on ``sys.path``: one module, and entry points that name its objects."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch

    def install(self, entry_points: str, code: str, module: str = "someone_elses_package") -> None:
        (self.folder / f"{module}.py").write_text(dedent(code))
        information = self.folder / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(dedent(entry_points))
        self._monkeypatch.syspath_prepend(self.folder)
        self._monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    return Package(tmp_path, monkeypatch)


def test_the_decorator_registers_and_returns_the_object() -> None:
    registry: Registry[type] = Registry("test group")

    @registry.register("one")
    class One:
        pass

    assert registry["one"] is One
    assert isinstance(One, type)


def test_names_are_sorted_and_can_be_asked_for() -> None:
    registry: Registry[int] = Registry("test group")
    for name, value in (("b", 2), ("c", 3), ("a", 1)):
        registry.register(name)(value)
    assert registry.names() == list(registry) == ["a", "b", "c"]
    assert "a" in registry and "d" not in registry and None not in registry
    assert {name: registry[name] for name in registry} == {"a": 1, "b": 2, "c": 3}


def test_a_lazy_entry_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazily_imported.py").write_text("class Thing:\n    made = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lazily_imported", raising=False)
    registry: Registry[type] = Registry("test group")
    registry.register_lazy("thing", "lazily_imported:Thing")
    assert "thing" in registry and registry.names() == ["thing"]
    assert "lazily_imported" not in sys.modules
    assert registry["thing"] is sys.modules["lazily_imported"].Thing
    assert registry["thing"] is registry["thing"]


@pytest.mark.parametrize("target", ["no_such_module_anywhere:Thing", "json:NoSuchName"])
def test_a_lazy_entry_that_cannot_be_imported_is_an_error(target: str) -> None:
    registry: Registry[object] = Registry("test group")
    registry.register_lazy("thing", target)
    for _ in range(2):
        with pytest.raises((ImportError, AttributeError), match=r"no_such_module_anywhere|NoSuchName"):
            registry["thing"]


@pytest.mark.parametrize("first_lazy", [False, True])
@pytest.mark.parametrize("second_lazy", [False, True])
def test_a_duplicate_is_an_error_and_changes_nothing(first_lazy: bool, second_lazy: bool) -> None:
    registry: Registry[object] = Registry("gadget")

    def add(target: str, lazy: bool) -> None:
        if lazy:
            registry.register_lazy("one", target)
        else:
            registry.register("one")(target.split(":"))

    add("json:dumps", first_lazy)
    before = registry["one"]
    with pytest.raises(ValueError, match="gadget 'one' is registered twice"):
        add("json:loads", second_lazy)
    assert registry["one"] is before


def test_an_unknown_name_lists_the_known_ones_and_reads_well() -> None:
    registry: Registry[int] = Registry("gadget")
    registry.register("one")(1)
    registry.register("two")(2)
    for kind in (UnknownNameError, InputError, ValueError, KeyError, DA3Error):
        with pytest.raises(kind) as caught:
            registry["three"]
        assert str(caught.value) == "gadget: got 'three'; expected a registered gadget (valid: one, two)"
    error = caught.value
    assert isinstance(error, UnknownNameError)
    assert (error.argument, error.got, error.alternatives) == ("gadget", "'three'", ("one", "two"))


def test_registries_do_not_share_entries() -> None:
    first: Registry[int] = Registry("gadget")
    second: Registry[int] = Registry("gadget")
    first.register("one")(1)
    assert "one" not in second


# --- other packages ---------------------------------------------------------------------------------------------------


def test_another_package_adds_an_entry(package: Package) -> None:
    package.install(
        """
        [depth_anything_3.gadget]
        outside = someone_elses_package:Outside

        [depth_anything_3.other]
        wrong = someone_elses_package:Wrong
        """,
        "class Outside: pass",
    )
    registry: Registry[type] = Registry("gadget")
    registry.register("inside")(int)
    assert registry.names() == ["inside", "outside"]
    assert "someone_elses_package" not in sys.modules
    outside = registry["outside"]
    assert (outside.__name__, outside.__module__) == ("Outside", "someone_elses_package")
    assert Registry("other").names() == ["wrong"]


def test_another_package_is_known_to_every_question(package: Package) -> None:
    package.install("[depth_anything_3.gadget]\noutside = json:dumps\n", "")
    assert "outside" in Registry("gadget")
    assert list(Registry("gadget")) == ["outside"]
    assert Registry("gadget")["outside"] is __import__("json").dumps
    with pytest.raises(UnknownNameError, match="valid: outside"):
        Registry("gadget")["gone"]


def test_a_package_that_is_broken_disturbs_only_who_asks_for_it(package: Package) -> None:
    package.install(
        "[depth_anything_3.gadget]\nbroken = someone_elses_package:Outside\n", "raise ImportError('broken')"
    )
    registry: Registry[object] = Registry("gadget")
    registry.register("inside")(1)
    assert registry["inside"] == 1
    with pytest.raises(ImportError, match="broken"):
        registry["broken"]


def test_another_package_cannot_take_a_name_that_is_taken(package: Package) -> None:
    package.install("[depth_anything_3.gadget]\none = json:dumps\n", "")
    registry: Registry[object] = Registry("gadget")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="gadget 'one' is registered twice"):
        registry.names()


# --- presets ----------------------------------------------------------------------------------------------------------


def test_the_presets_in_order() -> None:
    assert list(MODEL_REGISTRY) == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_absolute_path_of_its_file(name: str) -> None:
    path = MODEL_REGISTRY[name]
    assert isinstance(path, str)
    assert Path(path).is_absolute() and Path(path).is_file()
    assert Path(path).name == f"{name}.yaml" and Path(path).parent.name == "configs"


def test_all_models_is_a_copy() -> None:
    models = get_all_models()
    assert models == MODEL_REGISTRY and models is not MODEL_REGISTRY
    models.clear()
    assert list(MODEL_REGISTRY) == PRESETS and len(get_all_models()) == 11


@pytest.mark.parametrize("kind", [KeyError, ValueError, UnknownNameError])
def test_an_unknown_preset_lists_the_known_ones(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        MODEL_REGISTRY["da3-huge"]
    expected = f"model_name: got 'da3-huge'; expected a preset that is installed (valid: {', '.join(PRESETS)})"
    assert str(caught.value) == expected


def test_asking_for_an_unknown_preset_adds_none() -> None:
    assert "da3-huge" not in MODEL_REGISTRY and MODEL_REGISTRY.get("da3-huge") is None
    with pytest.raises(KeyError):
        MODEL_REGISTRY["da3-huge"]
    assert len(MODEL_REGISTRY) == 11


def test_presets_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(MODEL_REGISTRY)) == MODEL_REGISTRY
