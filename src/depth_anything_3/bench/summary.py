"""From results to rows of tables: means that are withheld where a scene failed, beside published numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from depth_anything_3.bench.modes.base import MODES, Column
from depth_anything_3.bench.results import Plan, Result, Row, load_results
from depth_anything_3.metrics.bootstrap import bootstrap_interval

WITHHELD = "withheld"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One predictor in one mode on one data set.

    Attributes:
        dataset, mode, predictor: names.
        scenes: how many were planned.
        failed: why, by scene; a scene that was not run is among them.
        means: of the scores, over scenes, or over images where the mode counts these. Empty where a scene failed and
            partial means were not asked for: a mean over the rest would favour whoever fails on hard scenes.
        intervals: 95 % bootstrap intervals of means over at least two scenes.
        by_scene: scores by scene.
        seconds: median over scenes of the time for predictions.
    """

    dataset: str
    mode: str
    predictor: str
    scenes: int
    failed: Mapping[str, str]
    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    by_scene: Mapping[str, Mapping[str, float]]
    seconds: float

    @property
    def columns(self) -> Mapping[str, Column]:
        """Those of its mode."""
        return MODES[self.mode].columns


def summarise(plan: Plan, results: Mapping[Row, Sequence[Result | None]], *, partial: bool = False) -> list[Summary]:
    """One summary per row of the plan, in its order.

    Args:
        plan, results: from :func:`~depth_anything_3.bench.results.load_results`.
        partial: give means also where scenes failed; ``failed`` still names them.
    """
    return [_summary(row, plan.rows[row], found, partial) for row, found in results.items()]


def summarise_folder(folder: Path, *, partial: bool = False) -> tuple[Plan, list[Summary]]:
    """The plan and the summaries of a run folder.

    Raises:
        InputError: it holds no run, or a file is damaged.
    """
    plan, results = load_results(folder)
    return plan, summarise(plan, results, partial=partial)


def summaries_as_json(plan: Plan, summaries: Sequence[Summary]) -> str:
    """Everything that the reports show, for other programs."""
    content = {
        "format_version": 1,
        "notes": dict(plan.notes),
        "left_out": [{"row": row, "why": why} for row, why in plan.left_out.items()],
        "summaries": [asdict(summary) for summary in summaries],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _summary(row: Row, planned: Mapping[str, str], found: Sequence[Result | None], partial: bool) -> Summary:
    pairs = list(zip(planned, found, strict=True))
    failed = {scene: "not run" if r is None else r.error or "" for scene, r in pairs if r is None or r.error}
    good = [result for result in found if result is not None and result.error is None]
    means: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    if not failed or partial:
        for name in dict.fromkeys(name for result in good for name in result.scores if name != "images"):
            having = [result for result in good if name in result.scores]
            values = np.array([result.scores[name] for result in having])
            weights = np.array([result.scores.get("images", 1.0) for result in having])
            means[name] = float(np.average(values, weights=weights))
            if len(values) > 1 and (weights == weights[0]).all():
                interval = bootstrap_interval(values)
                intervals[name] = (interval.low, interval.high)
    return Summary(
        dataset=row[0],
        mode=row[1],
        predictor=row[2],
        scenes=len(planned),
        failed=failed,
        means=means,
        intervals=intervals,
        by_scene={result.scene: dict(result.scores) for result in good},
        seconds=float(np.median([result.seconds for result in good])) if good else 0.0,
    )
