"""``--set key=value``: changes of a typed configuration, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from depth_anything_3.errors import InputError, UnknownNameError

T = TypeVar("T")


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
        InputError: the value is of another kind than the one it replaces.
    """
    for path, value in changes.items():
        config = _changed(config, path.split("."), value, path)
    return config


def _changed(node: Any, path: list[str], value: Any, whole: str) -> Any:
    if not path:
        return _fitted(node, value, whole)
    name, rest = path[0], path[1:]
    if is_dataclass(node) and not isinstance(node, type):
        known = [field.name for field in fields(node) if field.init]
        if name not in known:
            raise UnknownNameError("set", repr(whole), f"a field of {type(node).__name__}", known)
        return replace(node, **{name: _changed(getattr(node, name), rest, value, whole)})
    if isinstance(node, tuple):
        if not name.isdigit() or int(name) >= len(node):
            raise InputError("set", repr(whole), f"an index from 0 to {len(node) - 1} in place of {name!r}")
        index = int(name)
        return (*node[:index], _changed(node[index], rest, value, whole), *node[index + 1 :])
    raise InputError("set", repr(whole), f"a path that ends before {name!r}: there are no fields below")


def _fitted(old: Any, new: Any, path: str) -> Any:
    """The new value in the type of the old one."""
    if is_dataclass(old):
        raise InputError("set", repr(path), f"one field of it: {', '.join(f.name for f in fields(old))}")
    if isinstance(old, tuple):
        if not isinstance(new, list):
            raise InputError("set", f"{path}={new!r}", "a list, such as [1, 2]")
        return tuple(tuple(item) if isinstance(item, list) else item for item in new)
    if isinstance(old, Path) and isinstance(new, str):
        return Path(new)
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    if old is not None and new is not None and type(old) is not type(new):
        raise InputError("set", f"{path}={new!r}", f"a value like {old!r}")
    return new
