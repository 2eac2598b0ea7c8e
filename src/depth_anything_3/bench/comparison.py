"""Two runs beside each other, and ours beside published rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from depth_anything_3.bench.published import known_model, published_rows, published_tables
from depth_anything_3.bench.summary import WITHHELD, Summary, summarise_folder
from depth_anything_3.bench.tables import markdown_table, number

CHECKPOINTS: Mapping[str, str] = {
    "DA3-Giant": "depth-anything/DA3-GIANT",
    "DA3-Large": "depth-anything/DA3-LARGE",
    "DA3-Base": "depth-anything/DA3-BASE",
    "DA3-Small": "depth-anything/DA3-SMALL",
    "DA3 mono student": "depth-anything/DA3MONO-LARGE",
    "DA3-metric": "depth-anything/DA3METRIC-LARGE",
}
"""The checkpoint that a published row is about: the first versions, because the tables are older than the others."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score twice.

    Attributes:
        dataset, mode, predictor, score: names.
        first: of the first run, or as published; None where it is withheld or missing.
        second: of the second run, or ours.
        better: as in :class:`~depth_anything_3.bench.modes.base.Column`.
    """

    dataset: str
    mode: str
    predictor: str
    score: str
    first: float | None
    second: float | None
    better: str

    @property
    def difference(self) -> float | None:
        """What the second has more."""
        return None if self.first is None or self.second is None else self.second - self.first


def compare(first: Path, second: Path) -> list[Difference]:
    """Every score of the rows that both runs have; ``difference`` is what the second gained.

    Raises:
        InputError: a folder holds no run.
    """
    before, after = ({_key(s): s for s in summarise_folder(folder)[1]} for folder in (first, second))
    rows = []
    for key in (key for key in before if key in after):
        one, two = before[key], after[key]
        for name, column in one.columns.items():
            values = one.means.get(name), two.means.get(name)
            if values != (None, None):
                rows.append(_difference(one, name, *values, better=column.better))
    return rows


def reproduction(folder: Path, model: str) -> list[Difference]:
    """Published numbers (``first``) of a model beside those of a run (``second``), for all it has rows for.

    Args:
        folder: of a run with one predictor.
        model: its name in the paper.

    Raises:
        InputError: nothing is published under the name, or the folder holds no run.
    """
    name = known_model(model)
    ours = {(s.dataset, s.mode): s for s in summarise_folder(folder)[1]}
    rows = []
    for dataset, mode in published_places(name):
        summary = ours.get((dataset, mode))
        for row in published_rows(dataset, mode, name):
            for score, printed in row.scores.items():
                rows.append(
                    Difference(
                        dataset=dataset,
                        mode=mode,
                        predictor=name,
                        score=score,
                        first=printed,
                        second=None if summary is None else summary.means.get(score),
                        better="lower" if score in ("chamfer", "absrel", "ate", "lpips") else "higher",
                    )
                )
    return rows


def published_places(model: str) -> list[tuple[str, str]]:
    """(data set, mode) of all rows of a model, in the order of the files."""
    found: dict[tuple[str, str], None] = {}
    for table in published_tables().values():
        if "mode" in table and model in table["rows"]:
            found |= {(dataset, table["mode"]): None for dataset in table["rows"][model]}
    return list(found)


def differences_table(rows: Sequence[Difference], *, first: str, second: str) -> str:
    """Markdown of some differences; what one side does not have is said.

    Args:
        rows: from one of the functions above.
        first, second: titles of the two columns.
    """
    head = ("data set", "mode", "predictor", "score", first, second, "difference")
    cells = [
        (r.dataset, r.mode, r.predictor, r.score, _shown(r.first), _shown(r.second), _signed(r.difference))
        for r in rows
    ]
    return "\n".join(markdown_table(head, cells)) + "\n"


def _difference(summary: Summary, score: str, first: float | None, second: float | None, *, better: str) -> Difference:
    return Difference(
        dataset=summary.dataset,
        mode=summary.mode,
        predictor=summary.predictor,
        score=score,
        first=first,
        second=second,
        better=better,
    )


def _key(summary: Summary) -> tuple[str, str, str]:
    return summary.dataset, summary.mode, summary.predictor


def _shown(value: float | None) -> str:
    return f"not measured or {WITHHELD}" if value is None else number(value)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
