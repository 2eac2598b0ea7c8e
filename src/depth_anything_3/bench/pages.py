"""Reports of a run: Markdown, and one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from depth_anything_3._files import atomic_path
from depth_anything_3.bench.charts import bars, curves
from depth_anything_3.bench.modes.base import MODES
from depth_anything_3.bench.results import Plan
from depth_anything_3.bench.summary import Summary, summaries_as_json, summarise_folder
from depth_anything_3.bench.tables import Table, markdown_table, tables

TITLE = "Benchmark"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2330; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dae3; } h3 { margin-top: 1.8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e6e9ef; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.published { color: #66708a; background: #f6f7fa; }
.failed { color: #b3261e; } svg { display: inline-block; margin: .8rem .8rem .8rem 0; max-width: 100%;
  vertical-align: top; }
p { max-width: 60rem; }
"""


def write_pages(folder: Path, *, partial: bool = False) -> tuple[list[Path], list[Summary]]:
    """Write ``report.md``, ``report.html`` and ``summary.json`` from the results of a run folder; each appears whole.

    Args:
        folder: of a run.
        partial: give means also where scenes failed.

    Returns:
        the files, and the summaries in them.

    Raises:
        InputError: the folder holds no run, or a file in it is damaged.
    """
    plan, summaries = summarise_folder(folder, partial=partial)
    shown = tables(summaries)
    texts = {
        "report.md": markdown_page(plan, shown, partial=partial),
        "report.html": html_page(plan, shown, partial=partial),
        "summary.json": summaries_as_json(plan, summaries),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts], summaries


def markdown_page(plan: Plan, shown: Sequence[Table], *, partial: bool = False, title: str = TITLE) -> str:
    """The report as Markdown."""
    lines = [f"# {title}", "", _rule(partial)]
    for dataset in dict.fromkeys(table.dataset for table in shown):
        lines += ["", f"## {dataset}"]
        for table in (t for t in shown if t.dataset == dataset):
            lines += ["", f"### {table.mode}", "", *markdown_table(table.head, [*table.rows, *table.published])]
            lines += [f"\nPublished: {source}." for source in table.sources]
    lines += [f"\n## {heading}\n\n" + "\n".join(f"* {item}" for item in items) for heading, items in _ends(plan, shown)]
    return "\n".join(lines) + "\n"


def html_page(plan: Plan, shown: Sequence[Table], *, partial: bool = False, title: str = TITLE) -> str:
    """The report as one HTML page with its plots."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(_rule(partial))}</p>",
    ]
    for dataset in dict.fromkeys(table.dataset for table in shown):
        parts.append(f"<h2>{escape(dataset)}</h2>")
        parts += [_html_section(table) for table in shown if table.dataset == dataset]
    for heading, items in _ends(plan, shown, explain=False):  # each section says what its mode is
        listed = "".join(f"<li>{escape(item)}</li>" for item in items)
        kind = ' class="failed"' if heading == "Failed" else ""
        parts.append(f"<h2>{escape(heading)}</h2><ul{kind}>{listed}</ul>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _html_section(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = [_html_row(row, "") for row in table.rows] + [_html_row(row, "published") for row in table.published]
    sources = "".join(f"<p>Published: {escape(source)}.</p>" for source in table.sources)
    plots = bars(table.summaries) + curves(table.summaries)
    return (
        f"<h3>{escape(table.mode)}</h3><p>{escape(MODES[table.mode].about)}</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{sources}{plots}"
    )


def _html_row(cells: Sequence[str], kind: str) -> str:
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return opening + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _rule(partial: bool) -> str:
    means = "Means over scenes (mono and metric: over pictures). "
    if partial:
        return means + "Where scenes failed, means are over the others: such rows must not be compared."
    return means + "A mean is withheld where a scene failed or is missing."


def _ends(plan: Plan, shown: Sequence[Table], *, explain: bool = True) -> list[tuple[str, list[str]]]:
    """What follows the tables: failures, rows that are left out, how it was measured, modes ``explain``-ed or not."""
    summaries = [summary for table in shown for summary in table.summaries]
    failed = [
        f"{s.dataset}, {s.mode}, {s.predictor}: {scene}: {why}" for s in summaries for scene, why in s.failed.items()
    ]
    left_out = [f"{', '.join(row)}: {why}" for row, why in plan.left_out.items()]
    modes = dict.fromkeys(table.mode for table in shown)
    how = [f"{name}: {MODES[name].about}" for name in modes] if explain else []
    how += [f"{name}: {text}" for name, text in plan.notes.items()]
    sections = [("Failed", failed), ("Left out", left_out), ("How it was measured", how)]
    return [(heading, items) for heading, items in sections if items]
