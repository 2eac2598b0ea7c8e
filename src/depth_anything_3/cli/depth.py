"""``da3 depth``: each photo by itself."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import EXIT_FAILED, progress_bars
from depth_anything_3.cli._options import NOT_OFFERED, BackendOptions, FileOptions, KnownCameras, Scene, With, command
from depth_anything_3.errors import Cancelled, DA3Error
from depth_anything_3.types.options import FolderOptions, InferOptions

if TYPE_CHECKING:
    from depth_anything_3.cli._scene import Job


@dataclass(frozen=True, kw_only=True)
class Separate(Scene):
    """The options that mean something for one photo without neighbours."""

    cameras: Annotated[KnownCameras, With("intrinsics")]
    inference: Annotated[InferOptions, With("use_ray_pose", "metric_focal", "export_feat_layers")]
    files: Annotated[FileOptions, With(export_format="depth_vis-depth_raw")]
    backend: Annotated[BackendOptions, NOT_OFFERED]


@command
def depth(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Photos, and folders of photos.")],
    photos: FolderOptions,
    scene: Separate,
) -> None:
    """Depth of photos that have nothing to do with each other.

    Every photo is processed alone, and its results go to a folder of their own, called by its name.
    """
    from depth_anything_3.cli._scene import choose_model, load_model, run
    from depth_anything_3.types.progress import Progress

    jobs = _jobs(inputs, photos, scene)
    if scene.report.dry_run:
        _show_plan(jobs, scene)
        return
    source, local = choose_model(scene.model, ask=True)
    started, failures = time.perf_counter(), []
    with progress_bars(quiet=scene.report.quiet or scene.report.as_json) as progress:
        model = load_model(scene.model, source, local=local)
        for index, job in enumerate(jobs):
            try:
                run(job, model, None)
            except Cancelled:
                raise
            except DA3Error as error:
                failures.append({"input": job.material.inputs[0], "type": type(error).__name__, "message": str(error)})
            if progress is not None:
                progress(Progress("network", index + 1, len(jobs)))
    _show_results(jobs, failures, scene, source, time.perf_counter() - started)
    if failures:
        raise typer.Exit(EXIT_FAILED)


def _jobs(inputs: list[Path], photos: FolderOptions, scene: Scene) -> list[Job]:
    from depth_anything_3.cli._folders import gallery_folder
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import plan

    found = [photo for path in inputs for photo in photos_in(path, photos, KnownCameras()).views.photos]
    root = scene.files.export_dir or gallery_folder(inputs[0])
    jobs, taken = [], set[str]()
    for photo in found:
        name, number = photo.stem, 2
        while name.casefold() in taken:
            name, number = f"{photo.stem}-{number}", number + 1
        taken.add(name.casefold())
        own = replace(scene, files=replace(scene.files, export_dir=root / name))
        jobs.append(plan(photos_in(photo, FolderOptions(), scene.cameras), own))
    return jobs


def _show_plan(jobs: list[Job], scene: Scene) -> None:
    from depth_anything_3.cli._scene import choose_model, describe

    source, local = choose_model(scene.model, ask=False)
    facts, *_ = describe(jobs[0], source, certain=local or scene.model.model_dir is not None)
    plans = [(job.material.inputs[0], [str(job.folder / name) for name in job.files(1)]) for job in jobs]
    if scene.report.as_json:
        results = [{"input": name, "files": files} for name, files in plans]
        typer.echo(json.dumps({"model": facts, "results": results}))
        return
    typer.echo(f"{len(jobs)} photo(s), each by itself\nmodel: {facts['name']}\nwould write:")
    for name, files in plans:
        typer.echo(f"  {name} -> {', '.join(files)}")


def _show_results(jobs: list[Job], failures: list[dict[str, str]], scene: Scene, source: str, seconds: float) -> None:
    from depth_anything_3.cli._report import show_files

    wrong = {failure["input"] for failure in failures}
    done = [job for job in jobs if job.material.inputs[0] not in wrong]
    if scene.report.as_json:
        results: list[dict[str, Any]] = [
            {"input": job.material.inputs[0], "files": [str(job.folder / name) for name in job.files(1)]}
            for job in done
        ]
        summary = {"model": source, "results": results, "failures": failures, "seconds": round(seconds, 3)}
        typer.echo(json.dumps(summary))
        return
    for failure in failures:
        typer.echo(f"error: {failure['input']}: {' '.join(failure['message'].split())}", err=True)
    if not scene.report.quiet:
        typer.echo(f"{len(done)} of {len(jobs)} photo(s), {seconds:.1f} s")
        show_files([job.folder / name for job in done for name in job.files(1)])
