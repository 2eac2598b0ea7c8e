"""Published numbers as they were printed, in data files with their sources, and by the names of our scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from depth_anything_3.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One method on one data set in one mode.

    Attributes:
        model: as in the paper.
        dataset, mode: by our names.
        scores: by our names and in our units: parts of 1, not percent.
        source: which table of what.
        version: of the paper, or when the numbers are from.
    """

    model: str
    dataset: str
    mode: str
    scores: Mapping[str, float]
    source: str
    version: str


@cache
def published_tables() -> Mapping[str, Mapping[str, Any]]:
    """All data files by name, as they are: ``source``, ``version``, ``scores``, ``rows`` and so on.

    In the rows of a file, every data set has a list of numbers, in the order of ``scores``; None where nothing is
    printed. ``unit`` is what one printed unit is in ours, 0.01 for percent.
    """
    files = sorted(
        (file for file in resources.files(__package__).iterdir() if file.name.endswith(".json")),
        key=lambda file: file.name,
    )
    return {file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8")) for file in files}


def published_rows(dataset: str, mode: str, model: str | None = None) -> list[PublishedRow]:
    """Rows that compare with ours.

    Args:
        dataset, mode: our names.
        model: only this one, in whatever case, such as ``"da3-giant"``.
    """
    rows = [row for row in _rows() if (row.dataset, row.mode) == (dataset, mode)]
    return [row for row in rows if model is None or row.model.lower() == model.lower()]


def published_models() -> list[str]:
    """Names of all methods that have a row, in the order of the files."""
    return list(dict.fromkeys(row.model for row in _rows()))


def known_model(name: str) -> str:
    """The printed name of a model, in whatever case it comes.

    Raises:
        InputError: nothing is published under the name.
    """
    for model in published_models():
        if model.lower() == name.lower():
            return model
    raise InputError("model", repr(name), "a model with published numbers", published_models())


@cache
def _rows() -> tuple[PublishedRow, ...]:
    return tuple(row for table in published_tables().values() if "mode" in table for row in _rows_of(table))


def _rows_of(table: Mapping[str, Any]) -> Iterator[PublishedRow]:
    for model, by_dataset in table["rows"].items():
        for dataset, printed in by_dataset.items():
            values = zip(table["scores"], printed, strict=True)
            units = table.get("units", {}).get(dataset, {})
            scores = {
                units.get("score", name): value * units.get("unit", table["unit"])
                for name, value in values
                if value is not None
            }
            yield PublishedRow(
                model=model,
                dataset=dataset,
                mode=table["mode"],
                scores=scores,
                source=table["source"],
                version=table["version"],
            )
