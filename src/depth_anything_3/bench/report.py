"""From runs to tables that can be trusted: intervals over scenes, and no mean where a scene failed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.bench.evaluate import MIN_BASELINE, POINT_THRESHOLD, Run
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.bootstrap import Interval, bootstrap_interval

ALL = "all"
"""The slice that every scene belongs to."""

COLUMNS = {
    "absrel": "AbsRel ↓",
    "delta_1.25": "δ1.25 ↑",
    "pose_auc_5": "pose AUC@5 ↑",
    "pose_auc_15": "pose AUC@15 ↑",
    "pose_auc_30": "pose AUC@30 ↑",
    "rotation_auc_30": "rotation AUC@30 ↑",
    "median_rotation_deg": "median rotation error [deg] ↓",
    "focal_error": "focal error ↓",
    "matching_top1": "patch matching top-1 ↑",
    "f_score": "F-score ↑",
}
"""Scores in the order of the table, with their titles."""

HEADLINE_VIEWS = 8
"""What the first tables of a scoreboard show: that many views, or all of a scene that has fewer."""

_FORMAT_VERSION = 1


_RULES = (
    "Depth and points after one scale per scene (median ratio); "
    f"F-score at {POINT_THRESHOLD:.0%} of the median depth; pairs of views with a baseline up to "
    f"{MIN_BASELINE:.0%} of it count by their rotation alone."
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One row of a table: one predictor, number of views and mode over the scenes of one slice.

    Attributes:
        slice: group of scenes; :data:`ALL` for all.
        predictor: its name.
        views: how many views were shown.
        given_cameras: whether the true cameras were handed in.
        scenes: runs that were meant to count.
        failed: names of the scenes whose run failed. If there is one, ``scores`` is empty: a mean over those that
            are left would favour whoever fails on hard scenes.
        scores: mean over scenes by name, with its bootstrap interval.
    """

    slice: str
    predictor: str
    views: int
    given_cameras: bool
    scenes: int
    failed: tuple[str, ...]
    scores: Mapping[str, Interval]


def summarise(runs: Sequence[Run], *, level: float = 0.95, seed: int = 0) -> list[Summary]:
    """Rows for all scenes together, then for each slice by name; within one, by mode, views and predictor.

    Args:
        runs: from :func:`~depth_anything_3.bench.evaluate.evaluate`.
        level: probability of the intervals.
        seed: of the bootstrap.
    """
    groups: dict[tuple[str, bool, int, str], list[Run]] = {}
    order = list(dict.fromkeys(run.predictor for run in runs))
    for run in runs:
        for name in (ALL, *run.slices):
            groups.setdefault((name, run.given_cameras, run.views, run.predictor), []).append(run)
    keys = sorted(groups, key=lambda k: (k[0] != ALL, k[0], k[1], k[2], order.index(k[3])))
    return [_summary(key, groups[key], level, seed) for key in keys]


def markdown(summaries: Sequence[Summary], *, title: str, notes: Mapping[str, str] | None = None) -> str:
    """The tables as Markdown, one per slice.

    Args:
        summaries: from :func:`summarise`.
        title: of the document.
        notes: facts to print above the tables, such as the resolution and the revision.
    """
    lines = [f"# {title}", ""]
    lines += [f"* {name}: {value}" for name, value in (notes or {}).items()]
    lines += [
        f"* Means over scenes with bootstrap intervals. {_RULES} A mean is withheld where a scene failed.",
    ]
    for name in dict.fromkeys(s.slice for s in summaries):
        rows = [s for s in summaries if s.slice == name]
        shown = [column for column in COLUMNS if any(column in s.scores for s in rows)]
        head = ["predictor", "views", "cameras given", "scenes", *(COLUMNS[c] for c in shown)]
        lines += ["", f"## {name}", "", _row(head), _row(["---"] * len(head))]
        lines += [_row(_cells(s, shown)) for s in rows]
    failures = [
        f"* {s.predictor}, {s.views} views, {_mode(s.given_cameras)}: {', '.join(s.failed)}"
        for s in summaries
        if s.failed and s.slice == ALL
    ]
    if failures:
        lines += ["", "## Failed", "", *failures]
    return "\n".join(lines) + "\n"


def write_report(
    folder: str | os.PathLike[str],
    runs: Sequence[Run],
    *,
    notes: Mapping[str, str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write ``held_out.json`` (every run and every row) and ``held_out.md`` (the tables). Each file appears whole.

    Args:
        folder: made where it is missing; files of these names are replaced.
        runs: at least one.
        notes: as in :func:`markdown`; also in the JSON.
        level, seed: as in :func:`summarise`.

    Returns:
        Paths of the JSON and of the Markdown file.

    Raises:
        InputError: there is no run.
    """
    if not runs:
        raise InputError("runs", "none", "at least one run")
    summaries = summarise(runs, level=level, seed=seed)
    content: dict[str, Any] = {
        "format_version": _FORMAT_VERSION,
        "notes": dict(notes or {}),
        "level": level,
        "seed": seed,
        "summaries": [asdict(summary) for summary in summaries],
        "runs": [asdict(run) for run in runs],
    }
    return _write(folder, "held_out", content, markdown(summaries, title="Held-out scenes", notes=notes))


def _write(folder: str | os.PathLike[str], name: str, content: Mapping[str, Any], text: str) -> tuple[Path, Path]:
    json_path, md_path = Path(folder) / f"{name}.json", Path(folder) / f"{name}.md"
    texts = {json_path: json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", md_path: text}
    for path, content_of_file in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(content_of_file, encoding="utf-8")
    return json_path, md_path


def write_scoreboard(
    folder: str | os.PathLike[str], runs: Sequence[Run], *, notes: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write ``scoreboard.json`` (every run) and ``scoreboard.md`` (:func:`scoreboard`). Each file appears whole.

    Args:
        folder: made where it is missing; files of these names are replaced.
        runs: at least one.
        notes: as in :func:`scoreboard`; also in the JSON.

    Returns:
        Paths of the JSON and of the Markdown file.

    Raises:
        InputError: there is no run.
    """
    if not runs:
        raise InputError("runs", "none", "at least one run")
    content = {
        "format_version": _FORMAT_VERSION,
        "notes": dict(notes or {}),
        "runs": [asdict(run) for run in runs],
    }
    return _write(folder, "scoreboard", content, scoreboard(runs, notes=notes))


def scoreboard(runs: Sequence[Run], *, notes: Mapping[str, str] | None = None) -> str:
    """Runs on a few scenes as Markdown: what matters at a glance, then every number of every scene, then the time.

    Args:
        runs: scenes and predictors keep their order.
        notes: facts to print above the details, such as versions.
    """
    glance = _headline_runs(runs)
    lines = ["# Scoreboard", "", f"Real scenes at {HEADLINE_VIEWS} views (in brackets: scenes that have fewer), "]
    lines[-1] += "no cameras given; the best of each row is bold."
    for column, what in (("pose_auc_30", "Poses"), ("delta_1.25", "Depth")):
        lines += ["", f"## {what}: {COLUMNS[column]}", "", *_scenes_by_predictors(glance, column)]
    lines += ["", "## How it was measured", "", *(f"* {name}: {text}" for name, text in (notes or {}).items())]
    lines += [f"* {_RULES} A dash: the row gives no such answer, or the scene no such truth.", "", "## Details"]
    for scene in dict.fromkeys(run.scene for run in runs):
        for given in (False, True):
            rows = [run for run in runs if (run.scene, run.given_cameras) == (scene, given)]
            if rows:
                lines += ["", f"### {scene}, {_mode(given)}", "", *_predictors_by_scores(rows)]
    lines += ["", "## Time", "", "Seconds of processor time of the runs in the first tables. "]
    lines[-1] += "The only numbers here that differ from one run of the command to the next."
    lines += ["", *_seconds(glance)]
    return "\n".join(lines) + "\n"


def _headline_runs(runs: Sequence[Run]) -> list[Run]:
    """Those without given cameras at the most views of their scene up to the limit."""
    free = [run for run in runs if not run.given_cameras and run.views <= HEADLINE_VIEWS]
    most = {scene: max(run.views for run in free if run.scene == scene) for scene in {run.scene for run in free}}
    return [run for run in free if run.views == most[run.scene]]


def _scenes_by_predictors(runs: Sequence[Run], column: str) -> list[str]:
    """One score: scenes as rows, predictors that have it anywhere as columns, and means where no scene is missing."""
    shown = [run for run in runs if column in run.scores or run.error is not None]
    scenes = dict.fromkeys(run.scene for run in shown if column in run.scores)
    names = dict.fromkeys(run.predictor for run in shown if column in run.scores)
    scores = {(run.scene, run.predictor): run.scores.get(column) for run in shown}
    table = [_row(["scene", *names]), _row(["---"] * (len(names) + 1))]
    for scene in scenes:
        views = next(run.views for run in shown if run.scene == scene)
        title = scene if views == HEADLINE_VIEWS else f"{scene} ({views})"
        table.append(_row([title, *_best_bold([scores.get((scene, name)) for name in names], column)]))
    means: list[float | None] = []
    for name in names:
        values = [value for scene in scenes if (value := scores.get((scene, name))) is not None]
        means.append(float(np.mean(values)) if len(values) == len(scenes) else None)
    return [*table, _row(["mean", *_best_bold(means, column)])]


def _best_bold(values: Sequence[float | None], column: str) -> list[str]:
    known = [f"{value:.3f}" for value in values if value is not None]
    best = (max if COLUMNS[column].endswith("↑") else min)(known, key=float, default="")
    cells = ["-" if value is None else f"{value:.3f}" for value in values]
    return [f"**{cell}**" if cell == best else cell for cell in cells]


def _predictors_by_scores(runs: Sequence[Run]) -> list[str]:
    """One scene: a row per run, in the order of views."""
    shown = [column for column in COLUMNS if any(column in run.scores for run in runs)]
    head = ["views", "predictor", *(COLUMNS[column] for column in shown)]
    table = [_row(head), _row(["---"] * len(head))]
    for run in runs:
        cells = [f"{run.scores[column]:.3f}" if column in run.scores else "-" for column in shown]
        failed = "" if run.error is None else f" (failed: {run.error})"
        table.append(_row([str(run.views), run.predictor + failed, *cells]))
    return table


def _seconds(runs: Sequence[Run]) -> list[str]:
    names = dict.fromkeys(run.predictor for run in runs)
    seconds = {(run.scene, run.predictor): run.seconds for run in runs}
    table = [_row(["scene", *names]), _row(["---"] * (len(names) + 1))]
    for scene in dict.fromkeys(run.scene for run in runs):
        table.append(_row([scene, *(f"{seconds[scene, name]:.1f}" for name in names)]))
    return table


def _summary(key: tuple[str, bool, int, str], runs: list[Run], level: float, seed: int) -> Summary:
    failed = tuple(sorted(run.scene for run in runs if run.error is not None))
    scores: dict[str, Interval] = {}
    for column in () if failed else COLUMNS:
        values = [run.scores[column] for run in runs if column in run.scores]
        if values:
            scores[column] = bootstrap_interval(np.array(values), level=level, seed=seed)
    return Summary(
        slice=key[0],
        given_cameras=key[1],
        views=key[2],
        predictor=key[3],
        scenes=len(runs),
        failed=failed,
        scores=scores,
    )


def _cells(summary: Summary, columns: Sequence[str]) -> list[str]:
    done = summary.scenes - len(summary.failed)
    scenes = f"{done} of {summary.scenes}" if summary.failed else str(summary.scenes)
    return [
        summary.predictor,
        str(summary.views),
        "yes" if summary.given_cameras else "no",
        scenes,
        *(_cell(summary, column) for column in columns),
    ]


def _cell(summary: Summary, column: str) -> str:
    if summary.failed:
        return "withheld"
    interval = summary.scores.get(column)
    if interval is None:
        return "-"
    few = "" if interval.count == summary.scenes else f" (of {interval.count})"
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]{few}"


def _mode(given_cameras: bool) -> str:
    return "cameras given" if given_cameras else "no cameras given"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
