"""Model configurations: YAML files to nested dictionaries to objects.

A node describes an object with ``__object__`` (``path`` of the module, ``name`` of the class, ``args``) and its
arguments beside it. ``__inherit__`` merges other files underneath a node. Only plain data is read, and only classes
of this package are built unless the caller allows others by name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from depth_anything_3._attr_dict import AttrDict
from depth_anything_3.errors import ConfigError

Config = AttrDict[Any]
"""A node: a dictionary whose entries can also be read as attributes."""

_PACKAGE = "depth_anything_3"
_OBJECT, _INHERIT = "__object__", "__inherit__"


class _Loader(yaml.SafeLoader):
    """PyYAML reads ``1e-5`` as a string (YAML 1.1); here it is a number (YAML 1.2)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_config(path: str | os.PathLike[str], argv: Sequence[str] | None = None) -> Config:
    """Read a configuration and resolve everything that it inherits.

    Args:
        path: a YAML file, or a dotted path inside this package (``depth_anything_3.configs.da3-small``).
        argv: overrides like ``net.name=vitb``; values are read as YAML.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, a loop of ``__inherit__``, or a malformed override.
    """
    file = _locate(os.fspath(path), Path.cwd())
    node = _read(file)
    for override in argv or ():
        _merge(node, _parse_override(override))
    config: Config = _to_config(_resolve(node, file, (file,)))
    return config


def create_object(config: Mapping[str, Any], *, allow: Collection[str] = ()) -> Any:
    """Build the object that a node describes, and first the objects that its arguments describe.

    Args:
        config: a node with ``__object__``, or a mapping whose only entry is such a node.
        allow: classes outside this package that may be built, as ``"package.module.Class"``.

    Raises:
        ConfigError: not a mapping, no ``__object__``, a class that does not exist or is not allowed, or arguments
            that it does not take.
    """
    if not isinstance(config, Mapping):
        raise ConfigError("config", f"an object of type {type(config).__name__}", "a mapping, as load_config returns")
    if _OBJECT not in config and len(config) == 1 and _is_node(only := next(iter(config.values()))):
        config = only
    if not _is_node(config):
        raise ConfigError(_OBJECT, f"a node with {', '.join(map(str, config)) or 'nothing'}", "an __object__ entry")
    spec = config[_OBJECT]
    cls = _find_class(spec, allow)
    style = spec.get("args", "as_config")
    if style == "as_config":
        return cls(config)
    if style != "as_params":
        raise ConfigError(f"{_OBJECT}.args", repr(style), "a known style", ("as_params", "as_config"))
    arguments = {
        key: create_object(value, allow=allow) if _is_node(value) else value
        for key, value in config.items()
        if key != _OBJECT
    }
    _check_arguments(cls, arguments)
    return cls(**arguments)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get(_OBJECT), Mapping)


def _find_class(spec: Mapping[str, Any], allow: Collection[str]) -> type:
    path, name = spec.get("path"), spec.get("name")
    if not isinstance(path, str) or not isinstance(name, str):
        raise ConfigError(_OBJECT, repr(dict(spec)), "'path' of a module and 'name' of a class")
    full = f"{path}.{name}"
    if path.split(".")[0] != _PACKAGE and full not in allow:
        raise ConfigError(
            _OBJECT, repr(full), f"a class of {_PACKAGE}; pass allow=({full!r},) to create_object if you trust it"
        )
    try:
        cls = getattr(importlib.import_module(path), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(_OBJECT, repr(full), f"a class that exists ({error})") from error
    if not isinstance(cls, type) or (cls.__module__.split(".")[0] != _PACKAGE and full not in allow):
        raise ConfigError(_OBJECT, repr(full), f"a class defined in {_PACKAGE}")
    return cls


def _check_arguments(cls: type, arguments: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:  # classes written in C may not tell what they take
        return
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if unknown := [name for name in arguments if name not in known and not takes_any]:
        raise ConfigError(cls.__name__, f"unknown argument {', '.join(unknown)}", "known arguments", known)
    required = [p.name for p in parameters if p.name in known and p.default is p.empty]
    if missing := [name for name in required if name not in arguments]:
        raise ConfigError(cls.__name__, f"no {', '.join(missing)}", "all required arguments", required)


def _locate(path: str, folder: Path) -> Path:
    """A dotted path of this package, or a file relative to ``folder``."""
    if "." in path and "/" not in path and os.sep not in path and not path.endswith((".yaml", ".yml")):
        parts = path.split(".")
        if parts[0] != _PACKAGE:
            raise ConfigError("path", repr(path), f"a .yaml file, or a dotted path that starts with {_PACKAGE}")
        file = Path(__file__).resolve().parent.joinpath(*parts[1:])
        file = file.with_name(file.name + ".yaml")
    else:
        file = (folder / Path(path).expanduser()).resolve()
    if not file.is_file():
        raise ConfigError("path", f"{path!r} ({file})", "a YAML file that exists")
    return file


def _read(file: Path) -> dict[str, Any]:
    try:
        node = _copy(yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # recursion: an anchor that contains itself
        raise ConfigError("path", f"{file} ({error})", "a YAML file of plain data") from error
    if not isinstance(node, dict):
        raise ConfigError("path", f"{file} with a {type(node).__name__} at the top", "a mapping at the top")
    return node


def _resolve(node: Any, file: Path, chain: tuple[Path, ...]) -> Any:
    """Replace every ``__inherit__`` below ``node``, which stands in ``file``, by what it names."""
    if isinstance(node, list):
        return [_resolve(item, file, chain) for item in node]
    if not isinstance(node, dict):
        return node
    own = {key: _resolve(value, file, chain) for key, value in node.items() if key != _INHERIT}
    merged: dict[str, Any] = {}
    for name in _as_list(node.get(_INHERIT)):
        parent = _locate(name, file.parent)
        if parent in chain:
            raise ConfigError(_INHERIT, " -> ".join(p.name for p in (*chain, parent)), "no loop")
        _merge(merged, _resolve(_read(parent), parent, (*chain, parent)))
    _merge(merged, own)
    return merged


def _as_list(inherit: Any) -> Iterable[str]:
    names = [] if inherit is None else [inherit] if isinstance(inherit, str) else inherit
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(_INHERIT, repr(inherit), "a path or a list of paths")
    return names


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError("argv", repr(override), "overrides like net.name=vitb")
    try:
        node: Any = _copy(yaml.load(text, Loader=_Loader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError("argv", f"{override!r} ({error})", "a value that is YAML of plain data") from error
    for part in reversed(key.split(".")):
        node = {part: node}
    return dict(node)


def _copy(node: Any) -> Any:
    """Own containers everywhere: YAML anchors share them, and merging into one must not reach the other."""
    if isinstance(node, dict):
        return {str(key): _copy(value) for key, value in node.items()}
    return [_copy(item) for item in node] if isinstance(node, list) else node


def _to_config(node: Any) -> Any:
    if isinstance(node, dict):
        return AttrDict({key: _to_config(value) for key, value in node.items()})
    return [_to_config(item) for item in node] if isinstance(node, list) else node
