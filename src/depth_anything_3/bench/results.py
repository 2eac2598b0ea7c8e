"""Results on disk: one JSON file for each scene, mode and predictor, and the plan that says which there should be.

``results/<data set>/<mode>/<predictor>/<scene>.json`` holds scores or an error. ``run.json`` holds the plan: by row
(data set, mode, predictor) the scenes with the identity, of model, options and frames, that a result must have to
count. A scene that is missing, failed, or was computed from something else is never left out of a mean in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError

FORMAT_VERSION = 1

Row = tuple[str, str, str]
"""Data set, mode, predictor."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One predictor on one scene in one mode.

    Attributes:
        dataset, scene, mode, predictor: names.
        identity: of model, options and frames; see :meth:`~depth_anything_3.bench.task.Task.identity`.
        frames: names of those that were scored.
        scores: by name; empty where it failed.
        error: why it failed, or None.
        seconds: that the predictor took when it made its predictions, on the clock.
        warnings: what was said while it ran.
        noted: lists that the mode keeps beside its scores, such as the frames that were context and target views.
    """

    dataset: str
    scene: str
    mode: str
    predictor: str
    identity: str
    frames: tuple[str, ...]
    scores: Mapping[str, float]
    error: str | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    noted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def row(self) -> Row:
        """Where it counts."""
        return self.dataset, self.mode, self.predictor


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run folder should hold.

    Attributes:
        rows: by row the identity of each scene.
        left_out: why a row is missing.
        notes: options, versions, commands.
    """

    rows: Mapping[Row, Mapping[str, str]] = field(default_factory=dict)
    left_out: Mapping[Row, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def joined(self, later: Plan) -> Plan:
        """With what a later run into the same folder planned; its rows replace those of the same name."""
        left_out = {row: why for row, why in self.left_out.items() if row not in later.rows}
        return Plan(
            rows={**self.rows, **later.rows},
            left_out={**left_out, **later.left_out},
            notes={**self.notes, **later.notes},
        )


def slug(name: str) -> str:
    """A name as one part of a path."""
    return re.sub(r"[^\w.=,+-]+", "_", name).strip("._") or "_"


def result_file(folder: Path, row: Row, scene: str) -> Path:
    """Where a result lies."""
    dataset, mode, predictor = map(slug, row)
    return folder / "results" / dataset / mode / predictor / f"{slug(scene.removeprefix(f'{row[0]}/'))}.json"


def save_result(folder: Path, result: Result) -> Path:
    """Write a result; the file appears whole."""
    file = result_file(folder, result.row, result.scene)
    _write(file, {"format_version": FORMAT_VERSION, **asdict(result)})
    return file


def find_result(folder: Path, row: Row, scene: str) -> Result | None:
    """A result, or None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    file = result_file(folder, row, scene)
    if not file.is_file():
        return None
    content = _read(file)
    content.pop("format_version", None)
    try:
        frames, warnings = tuple(content.pop("frames")), tuple(content.pop("warnings", ()))
        noted = {name: tuple(values) for name, values in content.pop("noted", {}).items()}
        return Result(frames=frames, warnings=warnings, noted=noted, **content)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError("out", f"{file} ({error})", "a result of this version") from error


def save_plan(folder: Path, plan: Plan) -> None:
    """Write ``run.json``."""
    content = {
        "format_version": FORMAT_VERSION,
        "rows": [{"row": row, "scenes": dict(scenes)} for row, scenes in plan.rows.items()],
        "left_out": [{"row": row, "why": why} for row, why in plan.left_out.items()],
        "notes": dict(plan.notes),
    }
    _write(folder / "run.json", content)


def load_plan(folder: Path) -> Plan:
    """Read ``run.json``; an empty plan where there is none.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / "run.json"
    if not file.is_file():
        return Plan()
    content = _read(file)
    try:
        return Plan(
            rows={_row(entry["row"]): entry["scenes"] for entry in content["rows"]},
            left_out={_row(entry["row"]): entry["why"] for entry in content["left_out"]},
            notes=content["notes"],
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError("out", f"{file} ({error!r})", "a plan of this version") from error


def load_results(folder: Path) -> tuple[Plan, dict[Row, list[Result | None]]]:
    """The plan, and for each of its rows the results in its order; None for those that are missing or out of date.

    Raises:
        InputError: the folder holds no run, or a file is damaged.
    """
    if not (folder / "run.json").is_file():
        raise InputError("out", f"{folder} without run.json", "the folder of a run")
    plan = load_plan(folder)
    return plan, {row: [_current(folder, row, *item) for item in scenes.items()] for row, scenes in plan.rows.items()}


def _current(folder: Path, row: Row, scene: str, identity: str) -> Result | None:
    found = find_result(folder, row, scene)
    return found if found is not None and found.identity == identity else None


def _row(value: Sequence[str]) -> Row:
    dataset, mode, predictor = value
    return dataset, mode, predictor


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("out", f"{file} ({error})", "an undamaged JSON file") from error
    if not isinstance(content, dict):
        raise InputError("out", str(file), "a JSON object")
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
