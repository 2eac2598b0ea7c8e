"""``--set key=value``: changes of a typed configuration, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from depth_anything_3.errors import InputError, UnknownNameError

T = TypeVar("T")

_NAMES: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path", NoneType: "null",
}  # fmt: skip


def parse(text: str) -> tuple[str, Any]:
    """``key=value`` with the value read as YAML.

    Raises:
        InputError: there is no key, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError("set", repr(text), "key=value, such as phases.0.steps=100")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError("set", repr(text), f"a value that YAML can read ({error})") from None


def override(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of a configuration with some fields changed.

    Args:
        config: a frozen dataclass of dataclasses, tuples and plain values.
        changes: path of a field, such as ``phases.0.steps``, to its new value.

    Raises:
        UnknownNameError: no such field.
        InputError: the value is not of the field's type.
    """
    for path, value in changes.items():
        config = _changed(config, type(config), path.split("."), value, path)
    return config


def fitted(hint: Any, value: Any, path: str) -> Any:
    """A value as YAML gives it, in the type of a field.

    Args:
        hint: type of the field: a plain type, a path, a literal, a tuple of such, or a choice between them.
        value: the new value.
        path: of the field, for the error.

    Raises:
        InputError: it does not fit.
    """
    try:
        return _fitted(hint, value)
    except TypeError:
        raise InputError("set", f"{path}={value!r}", _described(hint), _alternatives(hint)) from None


def _changed(node: Any, hint: Any, path: list[str], value: Any, whole: str) -> Any:
    if not path:
        return fitted(hint, value, whole)
    name, rest = path[0], path[1:]
    if is_dataclass(node) and not isinstance(node, type):
        known = [field.name for field in fields(node) if field.init]
        if name not in known:
            raise UnknownNameError("set", repr(whole), f"a field of {type(node).__name__}", known)
        hint = get_type_hints(type(node))[name]
        return replace(node, **{name: _changed(getattr(node, name), hint, rest, value, whole)})
    if isinstance(node, tuple):
        if not name.isdigit() or int(name) >= len(node):
            raise InputError("set", repr(whole), f"an index from 0 to {len(node) - 1} in place of {name!r}")
        index = int(name)
        changed = _changed(node[index], _element_hints(hint, len(node))[index], rest, value, whole)
        return (*node[:index], changed, *node[index + 1 :])
    raise InputError("set", repr(whole), f"a path that ends before {name!r}: there are no fields below")


def _fitted(hint: Any, value: Any) -> Any:
    """The value in the type of the hint, or a TypeError."""
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return _fitted_to_any(get_args(hint), value)
    if kind is Literal and value in get_args(hint):
        return value
    if kind is tuple and isinstance(value, list):
        return tuple(_fitted(part, v) for part, v in zip(_element_hints(hint, len(value)), value, strict=True))
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if hint is float and type(value) in (int, str):
        with suppress(ValueError):
            return float(value)  # YAML takes 1e-4 for text
    if hint in (int, float, bool, str, NoneType) and type(value) is hint:
        return value
    raise TypeError


def _fitted_to_any(hints: tuple[Any, ...], value: Any) -> Any:
    for hint in hints:
        with suppress(TypeError):
            return _fitted(hint, value)
    raise TypeError


def _element_hints(hint: Any, count: int) -> tuple[Any, ...]:
    """The types of the elements of a tuple, or a TypeError if there cannot be that many."""
    parts = get_args(hint)
    if len(parts) == 2 and parts[1] is Ellipsis:
        return (parts[0],) * count
    if len(parts) != count:
        raise TypeError
    return parts


def _described(hint: Any) -> str:
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return " or ".join(_described(part) for part in get_args(hint))
    if kind is Literal:
        return "one of its values"
    if kind is tuple:
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        more = ", ..." if Ellipsis in get_args(hint) else ""
        return f"a list [{', '.join(_described(part) for part in parts)}{more}]"
    return _NAMES.get(hint, "one field of it")


def _alternatives(hint: Any) -> tuple[str, ...]:
    """What can be chosen from: values, or the fields of what has fields."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    values = [str(v) for part in parts if get_origin(part) is Literal for v in get_args(part)]
    return tuple(values + [f.name for part in parts if is_dataclass(part) for f in fields(part) if f.init])
