"""Rows of tables, once for Markdown and for HTML: ours and, where the same was measured, the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depth_anything_3.bench.modes.base import Column
from depth_anything_3.bench.published import PublishedRow, published_rows
from depth_anything_3.bench.summary import WITHHELD, Summary


@dataclass(frozen=True, kw_only=True)
class Table:
    """One data set in one mode.

    Attributes:
        dataset, mode: names.
        head: titles of the columns.
        rows: cells of our rows.
        published: cells of published rows.
        sources: what published rows are from.
        summaries: what the rows were made of.
    """

    dataset: str
    mode: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    published: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]
    summaries: tuple[Summary, ...]


def tables(summaries: Sequence[Summary]) -> list[Table]:
    """One table for each data set and mode, in the order in which they come."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in summaries:
        groups.setdefault((summary.dataset, summary.mode), []).append(summary)
    return [_table(*key, group) for key, group in groups.items()]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]


def number(value: float | None) -> str:
    """A score for people; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _table(dataset: str, mode: str, group: list[Summary]) -> Table:
    published = published_rows(dataset, mode)
    measured = {name for summary in group for scores in summary.by_scene.values() for name in scores}
    columns = {
        name: column for name, column in group[0].columns.items() if name in measured or _is_published(name, published)
    }
    return Table(
        dataset=dataset,
        mode=mode,
        head=("predictor", "scenes", *(column.heading for column in columns.values()), "seconds"),
        rows=tuple(_row(summary, columns) for summary in group),
        published=tuple(_published_cells(row, columns) for row in published),
        sources=tuple(dict.fromkeys(f"{row.source}; {row.version}" for row in published)),
        summaries=tuple(group),
    )


def _is_published(name: str, rows: Sequence[PublishedRow]) -> bool:
    return any(name in row.scores for row in rows)


def _row(summary: Summary, columns: Mapping[str, Column]) -> tuple[str, ...]:
    done = summary.scenes - len(summary.failed)
    scenes = f"{done} of {summary.scenes}" if summary.failed else str(summary.scenes)
    if summary.failed and not summary.means:
        cells = [WITHHELD] * len(columns)
    else:
        cells = [number(summary.means.get(name)) for name in columns]
    return (summary.predictor, scenes, *cells, f"{summary.seconds:.2f}")


def _published_cells(row: PublishedRow, columns: Mapping[str, Column]) -> tuple[str, ...]:
    return (f"{row.model} (published)", "", *(number(row.scores.get(name)) for name in columns), "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
