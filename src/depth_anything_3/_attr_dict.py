"""A dictionary whose entries can also be read as attributes."""

from __future__ import annotations

from typing import TypeVar

V = TypeVar("V")


class AttrDict(dict[str, V]):
    """``d["name"]`` and ``d.name``; a missing attribute is an :class:`AttributeError` that lists what is there."""

    def __getattr__(self, name: str) -> V:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no entry {name!r}; there are: {', '.join(self) or 'none'}") from None
