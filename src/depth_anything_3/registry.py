"""Named extension points.

A :class:`Registry` maps names to objects. Entries come from the decorator, from a lazy ``module:attribute`` string,
or from the entry points of other installed packages, so that a new exporter or model is one file and no edit here.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar, cast

from depth_anything_3.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name; lazy, strict about duplicates, helpful about unknown names.

    Args:
        group: what is registered, in the singular ("exporter"). Other packages add to it through the
            entry-point group ``depth_anything_3.<group>``.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._entries: dict[str, T | str] = {}
        self._plugins_read = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers an object under ``name``."""

        def add(item: T) -> T:
            self._add(name, item)
            return item

        return add

    def register_lazy(self, name: str, target: str) -> None:
        """Register ``"package.module:attribute"``; it is imported when first asked for."""
        self._add(name, target)

    def _add(self, name: str, item: T | str) -> None:
        if name in self._entries:
            raise ValueError(f"{self.group} {name!r} is registered twice")
        self._entries[name] = item

    def _read_plugins(self) -> None:
        if not self._plugins_read:
            self._plugins_read = True
            for point in entry_points(group=f"depth_anything_3.{self.group}"):
                self._add(point.name, point.value)

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._read_plugins()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        """The object called ``name``. Raises :class:`UnknownNameError`, which lists the known names."""
        if name not in self:
            raise UnknownNameError(self.group, repr(name), f"a registered {self.group}", self.names())
        item = self._entries[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            item = cast(T, getattr(importlib.import_module(module), attribute))
            self._entries[name] = item
        return item


class _Presets(dict[str, str]):
    """Preset name -> absolute path of its YAML file; an unknown name lists the known ones.

    Other packages add presets through the entry-point group ``depth_anything_3.model``: ``name = "module:ATTRIBUTE"``,
    where the attribute is the path of a YAML file. They are listed from the start and imported when asked for.
    """

    def __missing__(self, name: str) -> str:
        raise UnknownNameError("model_name", repr(name), "a preset that is installed", self)

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if value.startswith(_PLUGIN):
            module, _, attribute = value.removeprefix(_PLUGIN).partition(":")
            value = str(Path(getattr(importlib.import_module(module), attribute)).resolve())
            self[name] = value
        return value


_PLUGIN = "plugin "


def _find_presets() -> _Presets:
    folder = Path(__file__).resolve().parent / "configs"
    presets = _Presets((path.stem, str(path)) for path in sorted(folder.glob("*.yaml")))
    for point in entry_points(group="depth_anything_3.model"):
        if point.name in presets:  # an error would keep the whole package from being imported
            warnings.warn(f"model {point.name!r} of {point.value} is left out: the name is taken", stacklevel=2)
        else:
            presets[point.name] = _PLUGIN + point.value
    return presets


MODEL_REGISTRY: dict[str, str] = _find_presets()
"""Preset name -> absolute path of its YAML file, sorted by name; those of other packages come last."""


def get_all_models() -> dict[str, str]:
    """A copy of :data:`MODEL_REGISTRY`."""
    return {name: MODEL_REGISTRY[name] for name in MODEL_REGISTRY}
