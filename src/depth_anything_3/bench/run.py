"""The benchmark: every predictor in every mode on every scene, into a folder that can be resumed and reported on."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from depth_anything_3.bench.cache import PredictionCache
from depth_anything_3.bench.modes.base import MODES, Mode
from depth_anything_3.bench.results import (
    Plan,
    Result,
    Row,
    find_result,
    load_plan,
    save_plan,
    save_result,
)
from depth_anything_3.bench.task import BenchOptions, Contender, Task
from depth_anything_3.datasets.benchmark.base import BenchDataset, sorted_scenes
from depth_anything_3.errors import Cancelled, DA3Error, InputError

UNKNOWN = "unknown"
"""Identity of a scene whose frames cannot be listed."""


def run_bench(
    out: Path,
    datasets: Sequence[BenchDataset],
    contenders: Sequence[Contender],
    *,
    modes: Sequence[str] = (),
    options: BenchOptions | None = None,
    scenes: Sequence[str] = (),
    limit: int | None = None,
    force: bool = False,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run what is not there yet, and keep every result, failures included.

    Predictions lie in ``out/predictions``, results in ``out/results``, the plan in ``out/run.json``. A run that was
    stopped goes on where it was; results that failed, or come from other options or weights, are computed again.

    Args:
        out: folder, made where it is missing.
        datasets: to score on.
        contenders: to be scored.
        modes: names; none for all that a data set has the truth for.
        options: what else changes the numbers.
        scenes: ids of scenes or their last parts; none for all.
        limit: only so many scenes of each data set, evenly spaced.
        force: compute also what is there.
        on_result: called after each scene, also for results that were there.

    Returns:
        All results of the plan of this call, in its order.

    Raises:
        InputError: an unknown mode or scene, a mode that a data set has no truth for, a damaged file in the folder.
    """
    chosen = options or BenchOptions()
    if limit is not None and limit < 1:
        raise InputError("limit", repr(limit), "at least one scene")
    cache = PredictionCache(out / "predictions")
    tasks, left_out = _tasks(datasets, contenders, modes, cache, chosen, scenes, limit)
    plan = Plan(
        rows={row: {task.scene: _identity(task) for task in row_tasks} for row, row_tasks in tasks.items()},
        left_out=left_out,
        notes=_notes(chosen, contenders, limit),
    )
    save_plan(out, load_plan(out).joined(plan))
    results = []
    for row, row_tasks in tasks.items():
        for task in row_tasks:
            found = None if force else find_result(out, row, task.scene)
            if found is None or found.error is not None or found.identity != plan.rows[row][task.scene]:
                found = run_task(task, MODES[row[1]])
                save_result(out, found)
            results.append(found)
            if on_result is not None:
                on_result(found)
    return results


def run_task(task: Task, mode: Mode) -> Result:
    """One scene in one mode. What goes wrong becomes the result's error.

    Raises:
        Cancelled: the caller asked for it.
    """
    scores: Mapping[str, float] = {}
    error: str | None = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            scores = {name: float(value) for name, value in mode.score(task).items()}
            if bad := [name for name, value in scores.items() if not np.isfinite(value)]:
                error = f"scores that are not finite: {', '.join(bad)}"
                scores = {name: value for name, value in scores.items() if np.isfinite(value)}
        except Cancelled:
            raise
        except Exception as failure:  # a foreign program or file: one scene must not end the others
            error = f"{type(failure).__name__}: {failure}"
    return Result(
        dataset=task.dataset.name,
        scene=task.scene,
        mode=mode.name,
        predictor=task.contender.name,
        identity=_identity(task),
        frames=_frames(task),
        scores=scores,
        error=error,
        seconds=sum(task.spent),
        warnings=tuple(dict.fromkeys(str(warning.message) for warning in said)),
        noted=dict(task.noted),
    )


def _tasks(
    datasets: Sequence[BenchDataset],
    contenders: Sequence[Contender],
    modes: Sequence[str],
    cache: PredictionCache,
    options: BenchOptions,
    scenes: Sequence[str],
    limit: int | None,
) -> tuple[dict[Row, list[Task]], dict[Row, str]]:
    """Tasks by row, and why rows are left out."""
    tasks: dict[Row, list[Task]] = {}
    left_out: dict[Row, str] = {}
    for dataset in datasets:
        for mode in _modes(dataset, modes):
            names = _limited(_wanted(dataset, mode.name, scenes), limit)
            for contender in contenders:
                row = (dataset.name, mode.name, contender.name)
                why = mode.misses(contender.gives, contender.given_cameras)
                if why is not None:
                    left_out[row] = why
                    continue
                tasks[row] = [
                    Task(dataset=dataset, scene=scene, contender=contender, cache=cache, options=options)
                    for scene in names
                ]
    return tasks, left_out


def _modes(dataset: BenchDataset, names: Sequence[str]) -> Iterator[Mode]:
    for name in names or [name for name in dataset.modes if name in MODES]:
        mode = MODES[name]
        if name not in dataset.modes:
            raise InputError("mode", repr(name), f"a mode that {dataset.name} has the truth for", dataset.modes)
        yield mode


def _wanted(dataset: BenchDataset, mode: str, scenes: Sequence[str]) -> tuple[str, ...]:
    available = dataset.scenes_for(mode)
    return tuple(scene for scene in sorted_scenes(scenes, dataset.scenes()) if scene in available)


def _limited(scenes: tuple[str, ...], limit: int | None) -> tuple[str, ...]:
    if limit is None or len(scenes) <= limit:
        return scenes
    return tuple(scenes[int(i)] for i in np.rint(np.linspace(0, len(scenes) - 1, limit)))


def _identity(task: Task) -> str:
    try:
        return task.identity()
    except DA3Error:
        return UNKNOWN


def _frames(task: Task) -> tuple[str, ...]:
    try:
        return task.frames
    except DA3Error:
        return ()


def _notes(options: BenchOptions, contenders: Sequence[Contender], limit: int | None) -> dict[str, str]:
    notes = {
        "options": ", ".join(f"{name} {value}" for name, value in vars(options).items()),
        "versions": ", ".join(_versions()),
        "machine": f"{platform.system()} {platform.machine()}, {_device()}",
    }
    if limit is not None:
        notes["scenes"] = f"at most {limit} of each data set, evenly spaced"
    for contender in contenders:
        if contender.licence is not None:
            notes[f"licence of {contender.name}"] = contender.licence
    return notes


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _versions() -> Iterator[str]:
    for name in ("depth-anything-3", "torch", "numpy", "scipy", "opencv-python-headless", "pycolmap"):
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
