"""Turning loose values into option dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.types.option_values import build_options


@dataclass(frozen=True, kw_only=True)
class Options:
    """All kinds of annotations that options use."""

    mode: Literal["smooth", "extend"] = "smooth"
    interval: int | None = 1
    size: tuple[int, int] | None = None
    layers: tuple[float, ...] = ()
    name: str = ""


def test_values_become_what_the_annotations_say() -> None:
    options = build_options(Options, {"": {"mode": "extend", "interval": None, "size": [3, 4], "layers": [1, 2.5]}})
    assert options == Options(mode="extend", interval=None, size=(3, 4), layers=(1.0, 2.5))
    assert [type(layer) for layer in options.layers] == [float, float]


def test_first_source_wins() -> None:
    options = build_options(Options, {"a.": {"name": "first"}, "b.": {"name": "second", "interval": 9}})
    assert options == Options(name="first", interval=9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "wobble"}, r"^x\.mode: got 'wobble'; .*\(valid: smooth, extend\)"),
        ({"interval": "1"}, r"^x\.interval: got '1'; expected a whole number or None"),
        ({"size": (1, 2, 3)}, r"^x\.size"),
        ({"size": "12"}, r"^x\.size"),
        ({"layers": 3}, r"^x\.layers"),
        ({"layers": [1, None]}, r"^x\.layers"),
        ({"name": 3}, r"^x\.name: got 3; expected a string"),
        ({"layers": [None] * 10_000}, r"^x\.layers: got \[(None, ){20}\.\.\.\]; "),
        ({"nam": ""}, r"^x\.nam: .*mode, interval, size, layers, name"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_options(Options, {"x.": values})
