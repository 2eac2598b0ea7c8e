"""Text files with rows of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

_LOOKED_AT = 65536  # bytes of a file that are read to recognise it


def read_rows(file: Path) -> Float64[np.ndarray, "rows columns"]:
    """All rows; empty lines and what follows a ``#`` are passed over. Numbers are separated by blanks or commas.

    Raises:
        ValueError: something is no number, or rows differ in length.
    """
    rows = [_numbers(line) for line in file.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if row]
    if len({len(row) for row in kept}) > 1:
        raise ValueError("rows of different lengths")
    return np.array(kept, np.float64).reshape(len(kept), -1)


def columns_of(path: Path) -> int:
    """How many numbers are in the first row of a text file; 0 where it is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        content = stream.read(_LOOKED_AT)
    try:
        rows = (_numbers(line) for line in content.decode("utf-8", "replace").splitlines())
        return len(next(filter(None, rows), []))
    except ValueError:
        return 0


def _numbers(line: str) -> list[float]:
    return [float(word) for word in line.split("#", 1)[0].replace(",", " ").split()]
