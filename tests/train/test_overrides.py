"""``--set``: every field can be changed, and what does not fit is said where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from depth_anything_3.errors import InputError, UnknownNameError
from depth_anything_3.train.overrides import fitted, override, parse
from depth_anything_3.train.recipes import RECIPES

TINY = RECIPES["da3_tiny"](teacher="there")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", ("seed", 3)),
        (" seed = 3", ("seed", 3)),
        ("labels=null", ("labels", None)),
        ("a.b=x=y", ("a.b", "x=y")),
        ("sizes=[[70, 84], [84, 70]]", ("sizes", [[70, 84], [84, 70]])),
        ("fixed_batch=true", ("fixed_batch", True)),
        ("source=", ("source", None)),
    ],
)
def test_parsing(text: str, expected: tuple[str, Any]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["seed", "=3", " =3", "a=[1", "a={"])
def test_what_cannot_be_parsed(text: str) -> None:
    with pytest.raises(InputError, match=r"^set: got "):
        parse(text)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("seed", 3, 3),
        ("precision", "float32", "float32"),
        ("fixed_batch", True, True),
        ("phases.0.steps", 7, 7),
        ("phases.2.learning_rate", 1, 1.0),
        ("phases.1.learning_rate", "1e-4", 1e-4),  # YAML takes it for text
        ("phases.0.data.sizes", [[70, 84]], ((70, 84),)),
        ("phases.1.data.views", [2, 3], (2, 3)),
        ("phases.1.data.views.1", 3, 3),
        ("optimiser.betas", [0.9, 0.99], (0.9, 0.99)),
        ("objective.conf_weight", None, None),
        ("objective.conf_weight", 0.5, 0.5),
        ("objective.levels", [4, 16], (4, 16)),
        ("phases.1.objective.pose_conditioning", 0.5, 0.5),
        ("labels.share", 0.25, 0.25),
        ("labels", None, None),
        ("init.source", "elsewhere", "elsewhere"),
        ("init.frozen", [], ()),
        ("model", ["net.extra_blocks=2"], ("net.extra_blocks=2",)),
        ("sources.0.0.count", 5, 5),
        ("sources.0.0.cache", "~/scenes", Path("~/scenes").expanduser()),
        ("sources.0.1", 2, 2.0),
    ],
)
def test_changes(path: str, value: Any, expected: Any) -> None:
    before = repr(TINY)
    found: Any = override(TINY, {path: value})
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    assert found == expected and type(found) is type(expected)
    assert repr(TINY) == before


def test_several_changes_and_nothing_else() -> None:
    changed = override(TINY, {"phases.0.steps": 7, "seed": 9})
    assert (changed.phases[0].steps, changed.seed) == (7, 9)
    assert override(changed, {"phases.0.steps": TINY.phases[0].steps, "seed": TINY.seed}) == TINY
    assert override(TINY, {}) == TINY


@pytest.mark.parametrize(
    ("path", "part", "known"),
    [
        ("sed", "a field of TrainConfig", "seed"),
        ("steps", "a field of TrainConfig", "phases"),  # the sum of the phases is no field
        ("optimiser.lr", "a field of OptimiserOptions", "backbone_rate"),
        ("phases.0.data.size", "a field of ViewOptions", "sizes"),
        ("sources.0.0.metric", "a field of ProceduralSource", "cache"),
        ("phases.1.objective.rays", "a field of ObjectiveOptions", "ray_target"),
    ],
)
def test_unknown_fields(path: str, part: str, known: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"set: got '{path}'; expected {part} \(valid: .*\b{known}\b"):
        override(TINY, {path: 1})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("seed", 1.5, "a whole number"),
        ("seed", "three", "a whole number"),
        ("seed", True, "a whole number"),
        ("phases.0.learning_rate", "fast", "a number"),
        ("phases.0.learning_rate", True, "a number"),
        ("fixed_batch", 1, "true or false"),
        ("preset", 3, "text"),
        ("precision", "float16", r"one of its values \(valid: float32, bfloat16\)"),
        ("labels.teacher", 3, "text or null"),
        ("labels", 3, r"one field of it or null \(valid: teacher, "),
        ("optimiser", 3, r"one field of it \(valid: betas, "),
        ("phases.0.data.views", [1, 2, 3], r"a list \[a whole number, a whole number\]"),
        ("phases.0.data.sizes", [[1, 2.5]], r"a list \[a list \[a whole number, a whole number\], \.\.\.\]"),
        ("phases.0.data.sizes", 84, r"a list \["),
        ("model", "net.name=vits", r"a list \[text, \.\.\.\]"),
        ("sources.0.0.cache", 3, "a path or null"),
    ],
)
def test_wrong_types(path: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=rf"^set: got {path}=.*; expected {expected}"):
        override(TINY, {path: value})


@pytest.mark.parametrize("path", ["phases.3.steps", "phases.last.steps", "phases.-1.steps"])
def test_wrong_indices(path: str) -> None:
    with pytest.raises(InputError, match="an index from 0 to 2"):
        override(TINY, {path: 1})


def test_paths_that_go_too_far() -> None:
    with pytest.raises(InputError, match="ends before 'value'"):
        override(TINY, {"seed.value": 1})
    with pytest.raises(InputError, match="ends before 'share'"):
        override(RECIPES["da3_tiny"](), {"labels.share": 0.5})


def test_arguments_of_recipes_are_checked_alike() -> None:
    assert fitted(tuple[int, int, int], [1, 2, 3], "steps") == (1, 2, 3)
    assert fitted(Path | None, "there", "cache") == Path("there")
    assert fitted(Literal["a", "b"], "a", "how") == "a"
    with pytest.raises(InputError, match=r"set: got steps=100; expected a list \[a whole number"):
        fitted(tuple[int, int, int], 100, "steps")
    with pytest.raises(InputError, match=r"valid: a, b"):
        fitted(Literal["a", "b"], "c", "how")
