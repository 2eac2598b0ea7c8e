"""Binary PLY files, written block by block.

Format: G. Turk, "The PLY Polygon File Format" (1994); little-endian, one fixed record per element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path

_TYPES = {"float": "<f4", "uchar": "u1", "int": "<i4"}


@dataclass(frozen=True)
class Element:
    """One kind of record.

    Attributes:
        name: ``vertex``, ``face``, ...
        count: how many there are.
        properties: (type, name) in order, with the types of PLY; ``("list uchar int", name)`` for a list of three.
        blocks: structured arrays of :meth:`dtype`, together ``count`` long.
    """

    name: str
    count: int
    properties: Sequence[tuple[str, str]]
    blocks: Iterable[npt.NDArray[np.void]]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The record; a list of three is its length, as ``<name>_length``, and three numbers."""
        return record(self.properties)


def record(properties: Sequence[tuple[str, str]]) -> np.dtype[np.void]:
    """The packed numpy type of one element with these properties."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for kind, name in properties:
        if kind.startswith("list"):
            fields += [(f"{name}_length", "u1"), (name, _TYPES[kind.split()[-1]], (3,))]
        else:
            fields.append((name, _TYPES[kind]))
    return np.dtype(fields)


def write_ply(path: Path, elements: Sequence[Element], comments: Sequence[str] = ()) -> Path:
    """Write elements one after the other; the file appears whole or not at all.

    Args:
        path: where.
        elements: their blocks are read once, in order.
        comments: lines for the header, ASCII.
    """
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    for element in elements:
        header.append(f"element {element.name} {element.count}")
        header += [f"property {kind} {name}" for kind, name in element.properties]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        for element in elements:
            written = 0
            for block in element.blocks:
                assert block.dtype == element.dtype
                file.write(block.tobytes())
                written += len(block)
            assert written == element.count, (element.name, written, element.count)
    return path
