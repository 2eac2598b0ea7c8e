"""``da3 synth``: places of the procedural world as images, exact depth and cameras."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import EXIT_FAILED, command_errors, human_size, progress_bars
from depth_anything_3.errors import DA3Error, InputError

if TYPE_CHECKING:
    from depth_anything_3.synth.album import Album
    from depth_anything_3.synth.folder import FolderOptions
    from depth_anything_3.synth.sample import Sample

_BODIES = 2
_SECONDS_PER_VIEW = 0.4


def synth(
    export_dir: Annotated[Path, typer.Option(help="Folder that gets one folder per scene.")],
    seed: Annotated[int, typer.Option(help="Seed of the first scene; the next ones follow.")] = 0,
    count: Annotated[
        int | None, typer.Option(help="How many scenes. Default: 1, or all held-out ones.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="room, corridor, tabletop, street or open. Default: the seed chooses.", show_default=False),
    ] = None,
    views: Annotated[int, typer.Option(help="Views of each scene.")] = 8,
    size: Annotated[str, typer.Option(help="Width x height of the pictures, in pixels.")] = "640x480",
    trajectory: Annotated[
        str | None,
        typer.Option(
            help="orbit, walk, drive, loop, handheld, random or rig. Default: the seed chooses.", show_default=False
        ),
    ] = None,
    style: Annotated[str, typer.Option(help="Surfaces: textured, textureless or specular.")] = "textured",
    moving: Annotated[bool, typer.Option("--moving", help="Things move from view to view.")] = False,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos for pictures, rugs, posters, facades.", show_default=False)
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The held-out set instead, exactly as it is frozen.")
    ] = False,
    samples: Annotated[int, typer.Option(help="Colours are averaged over samples x samples rays per pixel.")] = 2,
    depth_format: Annotated[str, typer.Option(help="npy (metres) or png16 (millimetres).")] = "npy",
    image_format: Annotated[str, typer.Option(help="png or jpg.")] = "png",
    normals: Annotated[bool, typer.Option("--normals", help="Also write normals.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that holds files; replaces only those we write.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Make scenes with exact depth, cameras, normals and masks."""
    with command_errors(as_json=as_json):
        from depth_anything_3.synth.folder import FolderOptions

        options = FolderOptions(depth_format=depth_format, image_format=image_format, normals=normals)
        wish = _Wish(kind, views, *_size(size), trajectory, style, moving, photos, samples)
        if held_out:
            _warn_without_effect(wish, seed)
            jobs = _held_out_jobs(count)
        else:
            jobs = _made_jobs(wish, seed, 1 if count is None else count)
        _check_folder(export_dir, overwrite)
        started = time.perf_counter()
        report = _write(jobs, export_dir, options, overwrite=overwrite, quiet=quiet or as_json)
        if as_json or not quiet:
            _show(report, export_dir, time.perf_counter() - started, as_json)
        if report.failures:
            raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class _Wish:
    """What every scene of one call has in common."""

    kind: str | None
    views: int
    width: int
    height: int
    trajectory: str | None
    style: str
    moving: bool
    photos: Path | None
    samples: int


@dataclass(frozen=True)
class _Job:
    """One scene to be: its name, how many views it has, and how to get them."""

    name: str
    views: int
    make: Callable[[], Iterator[Sample]]


@dataclass(frozen=True)
class _Report:
    scenes: list[dict[str, Any]]
    failures: list[dict[str, str]]


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if match is None or min(int(match[1]), int(match[2])) < 8:
        raise InputError("--size", repr(text), "width x height in pixels, at least 8 each, as in 640x480")
    return int(match[1]), int(match[2])


def _check_folder(folder: Path, overwrite: bool) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError("--export-dir", f"{folder}, where {existing} is a file", "a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError("--export-dir", f"{folder}, which holds files", "an empty or new folder, or --overwrite")


def _warn_without_effect(wish: _Wish, seed: int) -> None:
    plain = _Wish(None, 8, 640, 480, None, "textured", False, None, 2)
    names = {"width": "size", "height": "size"}
    changed = [names.get(name, name) for name, value in vars(wish).items() if value != getattr(plain, name)]
    unused = dict.fromkeys([*changed, *(["seed"] if seed else [])])
    if unused:
        options = ", ".join(f"--{name}" for name in unused)
        warnings.warn(f"{options}: no effect on the held-out set, which is frozen", stacklevel=2)


def _held_out_jobs(count: int | None) -> list[_Job]:
    from depth_anything_3.synth.held_out import VIEWS, HeldOutScene, held_out, render_held_out

    def job(spec: HeldOutScene) -> _Job:
        return _Job(spec.name, VIEWS, lambda: iter([render_held_out(spec)]))

    scenes = held_out()
    if count is not None and not 1 <= count <= len(scenes):
        raise InputError("--count", str(count), f"a number from 1 to {len(scenes)}")
    return [job(spec) for spec in scenes[:count]]


def _made_jobs(wish: _Wish, seed: int, count: int) -> list[_Job]:
    from depth_anything_3.synth.album import load_album
    from depth_anything_3.synth.cameras import TRAJECTORIES
    from depth_anything_3.synth.held_out import HELD_OUT_SEEDS
    from depth_anything_3.synth.sample import STYLES
    from depth_anything_3.synth.scenes import KINDS

    for option, value, known in (
        ("--kind", wish.kind, KINDS),
        ("--trajectory", wish.trajectory, TRAJECTORIES),
        ("--style", wish.style, STYLES),
    ):
        if value is not None and value not in known:
            raise InputError(option, repr(value), "one of those known", known)
    for option, number, least in (
        ("--count", count, 1), ("--views", wish.views, 1), ("--samples", wish.samples, 1), ("--seed", seed, 0)
    ):  # fmt: skip
        if number < least:
            raise InputError(option, str(number), f"at least {least}")
    if seed < HELD_OUT_SEEDS.stop and seed + count > HELD_OUT_SEEDS.start:
        warnings.warn(
            f"seeds from {HELD_OUT_SEEDS.start} on belong to the held-out set: do not train on them", stacklevel=2
        )
    album = None
    if wish.photos is not None:
        from depth_anything_3.io.sources import list_images

        album = load_album(list_images(wish.photos, argument="--photos"))
    kinds = tuple(KINDS)

    def job(number: int) -> _Job:
        name = f"{wish.kind or kinds[number % len(kinds)]}_{number:07d}"
        return _Job(name, wish.views, lambda: _film(wish, number, album))

    return [job(seed + i) for i in range(count)]


def _film(wish: _Wish, seed: int, album: Album | None) -> Iterator[Sample]:
    """The views of one scene, one at a time."""
    from depth_anything_3.synth.sample import build, cameras_for, film, separate

    times = [i * _SECONDS_PER_VIEW for i in range(wish.views)]
    scene, motions = build(seed, wish.kind, style=wish.style, moving=_BODIES * wish.moving, photos=album,
                           duration=times[-1] + _SECONDS_PER_VIEW)  # fmt: skip
    cameras = cameras_for(scene, motions, times, wish.height, wish.width, seed=seed, kind=wish.trajectory)
    for time_of, camera in zip(times, separate(cameras), strict=True):
        yield film(scene, motions, camera, wish.height, wish.width, times=[time_of], samples=wish.samples)


def _write(jobs: list[_Job], folder: Path, options: FolderOptions, *, overwrite: bool, quiet: bool) -> _Report:
    from depth_anything_3.synth.folder import write_folder
    from depth_anything_3.types.progress import Progress

    report, total, done = _Report([], []), sum(job.views for job in jobs), 0
    with progress_bars(quiet=quiet) as progress:
        for job in jobs:

            def written(views: int, before: int = done) -> None:
                if progress is not None:
                    progress(Progress("export", before + views, total))

            try:
                files = write_folder(folder / job.name, job.make(), options, overwrite=overwrite, written=written)
                size = sum(file.stat().st_size for file in files)
                report.scenes.append({"name": job.name, "views": job.views, "files": len(files), "bytes": size})
            except DA3Error as error:
                report.failures.append({"name": job.name, "error": str(error)})
            done += job.views
    return report


def _show(report: _Report, folder: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        result = {"export_dir": str(folder), "scenes": report.scenes, "failures": report.failures}
        typer.echo(json.dumps({**result, "seconds": round(seconds, 3)}))
        return
    for scene in report.scenes:
        typer.echo(f"  {folder / scene['name']}  ({scene['views']} views, {human_size(scene['bytes'])})")
    for failure in report.failures:
        typer.echo(f"  {failure['name']}: {failure['error']}", err=True)
    total = len(report.scenes) + len(report.failures)
    typer.echo(f"{len(report.scenes)} of {total} scene(s) in {folder}, {seconds:.1f} s")
