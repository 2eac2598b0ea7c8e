"""``da3 depth``: each photo by itself."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import EXIT_FAILED, progress_bars
from depth_anything_3.cli._options import (
    NOT_OFFERED,
    BackendOptions,
    FileOptions,
    KnownCameras,
    Scene,
    TileOptions,
    ViewOptions,
    With,
    command,
    flag_name,
)
from depth_anything_3.errors import Cancelled, DA3Error
from depth_anything_3.types.options import FolderOptions, InferOptions, VideoOptions

if TYPE_CHECKING:
    from depth_anything_3.cli._scene import Job
    from depth_anything_3.types.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Separate(Scene):
    """The options that mean something for one photo without neighbours."""

    views: Annotated[ViewOptions, With("")]
    cameras: Annotated[KnownCameras, With("intrinsics")]
    inference: Annotated[
        InferOptions, With("use_ray_pose", "metric_focal", "metric_res", "output_size", "export_feat_layers")
    ]
    files: Annotated[FileOptions, With(export_format="depth_vis-depth_raw")]
    backend: Annotated[BackendOptions, NOT_OFFERED]


@command
def depth(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Photos, folders of photos, and videos.")],
    photos: FolderOptions,
    frames: Annotated[VideoOptions, With("fps", "start", "end")],
    tiles: TileOptions,
    scene: Separate,
) -> None:
    """Depth of photos that have nothing to do with each other, and steady depth of videos.

    Every photo is processed alone, and its results go to a folder of their own, called by its name. So do those of a
    video, whose frames get one scale and do not flicker; all of them are held in memory.
    """
    from depth_anything_3.cli._alone import run_clip, run_tiled
    from depth_anything_3.cli._film import Film
    from depth_anything_3.cli._scene import choose_model, load_model, run
    from depth_anything_3.types.progress import Progress

    jobs = _jobs(inputs, photos, frames, scene)
    _warn_without_effect(jobs, frames, tiles, scene)
    if scene.report.dry_run:
        _show_plan(jobs, scene)
        return
    source, local = choose_model(scene.model, ask=True)
    started, failures = time.perf_counter(), []
    scales: dict[str, dict[str, str | None]] = {}
    with progress_bars(quiet=scene.report.quiet or scene.report.as_json) as progress:
        model = load_model(scene.model, source, local=local)
        for index, job in enumerate(jobs):
            try:
                if isinstance(job.material, Film):
                    found = run_clip(job, model, job.material, None)
                elif tiles.tiled:
                    found = run_tiled(job, model, tiles, None)
                else:
                    found = run(job, model, None)
                scales[job.material.inputs[0]] = _scale_of(found, job)
            except Cancelled:
                raise
            except DA3Error as error:
                failures.append({"input": job.material.inputs[0], "type": type(error).__name__, "message": str(error)})
            if progress is not None:
                progress(Progress("network", index + 1, len(jobs)))
    _show_results(jobs, failures, scales, scene, source, time.perf_counter() - started)
    if failures:
        raise typer.Exit(EXIT_FAILED)


def _warn_without_effect(jobs: list[Job], frames: VideoOptions, tiles: TileOptions, scene: Scene) -> None:
    from depth_anything_3.cli._film import Film

    clips = sum(isinstance(job.material, Film) for job in jobs)
    if not clips and (typed := [f"--{n}" for n in ("fps", "start", "end") if getattr(frames, n) is not None]):
        warnings.warn(f"{', '.join(typed)}: no effect on photos", stacklevel=2)
    if not tiles.tiled and (tiles.tile is not None or tiles.tile_overlap != TileOptions.tile_overlap):
        warnings.warn("--tile, --tile-overlap: no effect without --tiled", stacklevel=2)
    if tiles.tiled and clips:
        warnings.warn("--tiled: no effect on videos", stacklevel=2)
    if clips or tiles.tiled:
        given = {**vars(scene.inference), **vars(scene.preprocessing)}
        plain = {**vars(type(scene.inference)()), **vars(type(scene.preprocessing)())}
        changed = [flag_name(name) for name in given if name != "process_res" and given[name] != plain[name]]
        if changed:
            warnings.warn(f"{', '.join(changed)}: no effect on videos and with --tiled", stacklevel=2)


def _jobs(inputs: list[Path], photos: FolderOptions, frames: VideoOptions, scene: Scene) -> list[Job]:
    from depth_anything_3.cli._film import Film, film_of
    from depth_anything_3.cli._folders import gallery_folder
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import plan
    from depth_anything_3.io.video import is_video

    stride = photos.stride if frames.fps is None else None
    chosen = replace(frames, stride=stride, max_frames=photos.limit)
    films: dict[Path, Film] = {
        path: film_of(path, chosen, scene.cameras) for path in inputs if path.is_file() and is_video(path)
    }
    found = [
        photo
        for path in inputs
        for photo in ([path] if path in films else photos_in(path, photos, KnownCameras()).views.photos)
    ]
    root = scene.files.export_dir or gallery_folder(inputs[0])
    jobs, taken = [], set[str]()
    for photo in found:
        name, number = photo.stem, 2
        while name.casefold() in taken:
            name, number = f"{photo.stem}-{number}", number + 1
        taken.add(name.casefold())
        own = replace(scene, files=replace(scene.files, export_dir=root / name))
        jobs.append(plan(films.get(photo) or photos_in(photo, FolderOptions(), scene.cameras), own))
    return jobs


def _files(job: Job) -> list[Path]:
    from depth_anything_3.export.base import planned_files

    return [job.folder / name for name in planned_files(len(job.material), job.formats)]


def _show_plan(jobs: list[Job], scene: Scene) -> None:
    from depth_anything_3.cli._scene import choose_model, describe

    source, local = choose_model(scene.model, ask=False)
    facts, *_ = describe(jobs[0], source, certain=local or scene.model.model_dir is not None)
    plans = [(job.material.inputs[0], [str(path) for path in _files(job)]) for job in jobs]
    if scene.report.as_json:
        results = [{"input": name, "files": files} for name, files in plans]
        typer.echo(json.dumps({"model": facts, "results": results}))
        return
    typer.echo(f"{len(jobs)} photo(s), each by itself\nmodel: {facts['name']}\nwould write:")
    for name, files in plans:
        typer.echo(f"  {name} -> {', '.join(files)}")


def _scale_of(prediction: Prediction, job: Job) -> dict[str, str | None]:
    from depth_anything_3.cli._report import told_scale

    told = told_scale(prediction, with_intrinsics=job.material.with_intrinsics)
    return {"scale": prediction.scale, "metric_focal": prediction.metric_focal, "told": told}


def _show_results(
    jobs: list[Job],
    failures: list[dict[str, str]],
    scales: dict[str, dict[str, str | None]],
    scene: Scene,
    source: str,
    seconds: float,
) -> None:
    from depth_anything_3.cli._report import show_files

    done = [job for job in jobs if job.material.inputs[0] in scales]
    if scene.report.as_json:
        results: list[dict[str, Any]] = [
            {
                "input": job.material.inputs[0],
                **{name: scales[job.material.inputs[0]][name] for name in ("scale", "metric_focal")},
                "files": [str(path) for path in _files(job)],
            }
            for job in done
        ]
        summary = {"model": source, "results": results, "failures": failures, "seconds": round(seconds, 3)}
        typer.echo(json.dumps(summary))
        return
    for failure in failures:
        typer.echo(f"error: {failure['input']}: {' '.join(failure['message'].split())}", err=True)
    if not scene.report.quiet:
        told = sorted({str(entry["told"]) for entry in scales.values()})
        typer.echo(", ".join([f"{len(done)} of {len(jobs)} photo(s)", f"{seconds:.1f} s", *told]))
        show_files([path for job in done for path in _files(job)])
