"""The benchmark: every predictor in every mode on every scene, into a folder that can be resumed and reported on."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from depth_anything_3.batch.engine import EngineOptions, Outcome, run_jobs
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

Reopen = Callable[[], tuple[Sequence[BenchDataset], Sequence[Contender]]]


@dataclass(frozen=True)
class _Job:
    """One scene in one row, by names alone, as it travels to a worker."""

    row: Row
    scene: str


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
    engine: EngineOptions | None = None,
    reopen: Reopen | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run what is not there yet, and keep every result, failures included.

    Predictions lie in ``out/predictions``, results in ``out/results``, the plan in ``out/run.json``. A run that was
    stopped goes on where it was; results that failed, or come from other options or weights, are computed again.
    Workers of a cluster keep predictions in the same folder, so that all machines have to see it by the same path.

    Args:
        out: folder, made where it is missing.
        datasets: to score on.
        contenders: to be scored.
        modes: names; none for all that a data set has the truth for.
        options: what else changes the numbers.
        scenes: ids of scenes or their last parts; none for all.
        limit: only so many scenes of each data set, evenly spaced.
        force: compute also what is there.
        engine: who computes; this process unless it says otherwise.
        reopen: opens the same data sets and predictors in another process. Needed there, without effect here.
        on_result: called after each scene, first for results that were there.

    Returns:
        All results of the plan of this call, in its order.

    Raises:
        InputError: an unknown mode or scene, a mode that a data set has no truth for, a damaged file in the folder, or
            another engine without ``reopen``.
    """
    chosen, engine = options or BenchOptions(), engine or EngineOptions()
    if engine.engine != "local" and reopen is None:
        raise InputError("reopen", "None", f"a function, for the engine {engine.engine}")
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
    known = {_Job(row, task.scene): task for row, row_tasks in tasks.items() for task in row_tasks}
    results = {} if force else _earlier(out, known, plan)
    tell = on_result or (lambda result: None)
    for result in results.values():
        tell(result)
    todo = [job for job in known if job not in results]

    def ended(index: int, outcome: Outcome[Result]) -> None:
        job = todo[index]
        results[job] = outcome.value or _lost(known[job], job.row, outcome)
        save_result(out, results[job])
        tell(results[job])

    make: Callable[[], Callable[[_Job], Result]] = partial(_from_tasks, known)
    if engine.engine != "local" and reopen is not None:
        make = partial(_reopened, reopen, out, chosen)
    run_jobs(make, todo, options=engine, on_outcome=ended)
    return [results[job] for job in known]


def _earlier(out: Path, known: Iterable[_Job], plan: Plan) -> dict[_Job, Result]:
    """What an earlier run left that still counts."""
    found = {job: find_result(out, job.row, job.scene) for job in known}
    return {
        job: result
        for job, result in found.items()
        if result is not None and result.error is None and result.identity == plan.rows[job.row][job.scene]
    }


def _from_tasks(known: Mapping[_Job, Task]) -> Callable[[_Job], Result]:
    """Does jobs here, with what is open."""
    return lambda job: run_task(known[job], MODES[job.row[1]])


def _reopened(reopen: Reopen, out: Path, options: BenchOptions) -> Callable[[_Job], Result]:
    """Does jobs in another process."""
    datasets, contenders = reopen()
    by_dataset = {dataset.name: dataset for dataset in datasets}
    by_contender = {contender.name: contender for contender in contenders}
    cache = PredictionCache(out / "predictions")

    def work(job: _Job) -> Result:
        dataset, mode, contender = job.row
        task = Task(
            dataset=by_dataset[dataset],
            scene=job.scene,
            contender=by_contender[contender],
            cache=cache,
            options=options,
        )
        return run_task(task, MODES[mode])

    return work


def _lost(task: Task, row: Row, outcome: Outcome[Result]) -> Result:
    """The result of a job that no worker came back from."""
    tried = "" if outcome.attempts == 1 else f", {outcome.attempts} times"
    return Result(
        dataset=row[0],
        scene=task.scene,
        mode=row[1],
        predictor=row[2],
        identity=_identity(task),
        frames=_frames(task),
        scores={},
        error=f"{outcome.error}{tried}",
    )


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
            names = _limited(_wanted(dataset, mode, scenes), limit)
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


def _wanted(dataset: BenchDataset, mode: Mode, scenes: Sequence[str]) -> tuple[str, ...]:
    available = dataset.scenes_for(mode.name)
    known = sorted_scenes(scenes, dataset.scenes())
    return tuple(scene for scene in known if scene in available and mode.suits(dataset, scene))


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
