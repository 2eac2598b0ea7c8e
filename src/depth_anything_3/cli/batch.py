"""``da3 batch``: many scenes to files."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.batch.engine import EngineOptions
from depth_anything_3.cli._console import EXIT_FAILED
from depth_anything_3.cli._options import (
    NOT_OFFERED,
    BackendOptions,
    KnownCameras,
    ReportOptions,
    Scene,
    ViewOptions,
    With,
    command,
)
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import FolderOptions, VideoOptions

if TYPE_CHECKING:
    from depth_anything_3.batch.engine import Outcome
    from depth_anything_3.batch.folder import Entry


@dataclass(frozen=True, kw_only=True)
class EachScene(Scene):
    """The options that mean the same for every scene."""

    cameras: Annotated[KnownCameras, NOT_OFFERED]
    views: Annotated[ViewOptions, NOT_OFFERED]
    backend: Annotated[BackendOptions, NOT_OFFERED]
    report: Annotated[ReportOptions, With("as_json", "quiet")]


@dataclass(frozen=True)
class _Job:
    name: str
    path: Path


@dataclass(frozen=True)
class _Done:
    seconds: float
    warnings: tuple[str, ...]


@command
def batch(
    scenes: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCENE...",
            help="What 'da3 auto' takes: photos, folders of photos, videos, COLMAP folders; or text files (.txt) with "
            "one such path a line.",
        ),
    ],
    photos: Annotated[FolderOptions, With("recursive", "stride", "limit")],
    frames: Annotated[VideoOptions, With("fps", "start", "end")],
    scene: EachScene,
    engine: EngineOptions,
) -> None:
    """Reconstruct many scenes, here or on a Ray cluster; goes on where it was.

    Each goes into a folder of its name below --export-dir. A scene that is done is not done again, one that fails ends
    nothing: batch.json says what failed and why, and the
    exit code is 1. With '--engine ray' the machines of a cluster share the scenes; they need the same folders.
    """
    from depth_anything_3.batch import folder as results
    from depth_anything_3.batch.engine import run_jobs
    from depth_anything_3.cli._scene import choose_model

    if scene.files.export_dir is None:
        raise InputError("export_dir", "none", "a folder for all scenes")
    root, paths = scene.files.export_dir.absolute(), _paths(scenes)
    source, local = choose_model(scene.model, ask=True)
    identity = results.identity_of(_decisive(photos, frames, scene, source))
    entries = results.read_report(root)
    jobs = _jobs(paths, root, entries, scene)
    todo = [job for job in jobs if not _is_done(root, job, entries, identity, scene)]

    def ended(index: int, outcome: Outcome[_Done]) -> None:
        job = todo[index]
        entries[job.name] = results.Entry(
            source=str(job.path),
            identity=identity,
            error=outcome.error,
            attempts=outcome.attempts,
            seconds=0.0 if outcome.value is None else round(outcome.value.seconds, 3),
        )
        results.write_report(root, entries)
        _tell(job, outcome, scene.report)

    make = partial(_worker, photos, frames, scene, source, local, root)
    run_jobs(make, todo, options=engine, on_outcome=ended)
    _show(jobs, len(jobs) - len(todo), entries, root, scene.report)
    if any(entries[job.name].error is not None for job in jobs):
        raise typer.Exit(EXIT_FAILED)


def _worker(
    photos: FolderOptions, frames: VideoOptions, scene: EachScene, source: str, local: bool, root: Path
) -> Callable[[_Job], _Done]:
    """What does a job; loads the model."""
    from depth_anything_3.batch.folder import unfinished
    from depth_anything_3.cli._scene import load_model, plan, run
    from depth_anything_3.cli.auto import material_of

    model = load_model(scene.model, source, local=local)

    def work(job: _Job) -> _Done:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            material = material_of(job.path, photos, frames, "", KnownCameras())
            with unfinished(root, job.name) as place:
                run(plan(material, replace(scene, files=replace(scene.files, export_dir=place))), model, None)
        told = tuple(dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning)))
        return _Done(time.perf_counter() - start, told)

    return work


def _paths(scenes: list[Path]) -> list[Path]:
    """The scenes, those in lists among them; paths in a list are relative to it."""
    found: list[Path] = []
    for path in scenes:
        if path.suffix.lower() != ".txt":
            found.append(path.absolute())
            continue
        if not path.is_file():
            raise InputError("scenes", f"{path} (no such file)", "a list of scenes")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        found += [path.absolute().parent / line for line in lines if line and not line.startswith("#")]
    return found


def _decisive(photos: FolderOptions, frames: VideoOptions, scene: EachScene, source: str) -> dict[str, object]:
    """All options that change results."""
    files = {k: v for k, v in asdict(scene.files).items() if k not in ("export_dir", "overwrite")}
    model = {k: v for k, v in asdict(scene.model).items() if k != "device"}
    parts = (scene.preprocessing, scene.inference, scene.refinement, photos, frames)
    options: dict[str, object] = {type(part).__name__: sorted(asdict(part).items(), key=str) for part in parts}
    return options | {"files": files, "model": {**model, "model_dir": source}, "open": sorted(scene.left_open)}


def _jobs(paths: list[Path], root: Path, entries: dict[str, Entry], scene: EachScene) -> list[_Job]:
    """One job per scene, after everything that can be wrong with all of them was looked at."""
    from depth_anything_3.batch.folder import scene_names
    from depth_anything_3.cli._scene import chosen_formats

    chosen_formats(scene.files, scene.inference)
    jobs = [_Job(name, path) for name, path in zip(scene_names(paths), paths, strict=True)]
    for job in jobs:
        before = entries.get(job.name)
        if before is not None and before.source != str(job.path):
            got = f"{root / job.name}, which is of {before.source}"
            raise InputError("export_dir", got, f"another folder for {job.path}")
    return jobs


def _is_done(root: Path, job: _Job, entries: dict[str, Entry], identity: str, scene: EachScene) -> bool:
    from depth_anything_3.batch.folder import is_done
    from depth_anything_3.cli._folders import check_folder

    if not scene.files.overwrite:
        return is_done(root, job.name, entries.get(job.name), identity)
    check_folder(root / job.name, [], overwrite=True)
    return False


def _tell(job: _Job, outcome: Outcome[_Done], report: ReportOptions) -> None:
    if outcome.error is not None:
        typer.echo(f"error: {job.path}: {' '.join(outcome.error.split())}", err=True)
    elif outcome.value is not None and not (report.quiet or report.as_json):
        typer.echo(f"{job.name}: {outcome.value.seconds:.1f} s")
    for text in () if outcome.value is None else outcome.value.warnings:
        typer.echo(f"warning: {job.name}: {' '.join(text.split())}", err=True)


def _show(jobs: list[_Job], before: int, entries: dict[str, Entry], root: Path, report: ReportOptions) -> None:
    done = [job for job in jobs if entries[job.name].error is None]
    if report.as_json:
        content: dict[str, Any] = {job.name: asdict(entries[job.name]) for job in jobs}
        typer.echo(json.dumps({"folder": str(root), "scenes": content}))
    elif not report.quiet:
        earlier = f", {before} of them before" if before else ""
        typer.echo(f"{len(done)} of {len(jobs)} scene(s){earlier}, in {root}")
