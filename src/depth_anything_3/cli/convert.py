"""``da3 convert``: what was saved, in other formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._console import progress_bars
from depth_anything_3.cli._options import FileOptions, ReportOptions, command
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction


@command
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of results with exports/npz or exports/mini_npz, an .npz file, a file of "
            "Prediction.save; or cameras: a COLMAP model, transforms.json, cameras.json, a trajectory of TUM or KITTI.",
        ),
    ],
    files: FileOptions,
    report: ReportOptions,
) -> None:
    """Write a saved result, or a file of cameras, in other formats.

    Cameras without depth become cameras (cameras.json), colmap, kitti or tum.
    """
    from depth_anything_3.export._saved import saved_result

    if not source.exists():
        raise InputError("SOURCE", f"{source} (no such file or folder)", "a saved result, or a file of cameras")
    if saved_result(source) is not None:
        convert_result(source, files, report)
    else:
        _convert_cameras(source, files, report)


def convert_result(
    source: Path,
    files: FileOptions,
    report: ReportOptions,
    *,
    judge: Callable[[Prediction], tuple[dict[str, object], str]] | None = None,
) -> None:
    """Write a saved result in other formats, or say what would be written.

    Args:
        source: see :func:`depth_anything_3.export._saved.saved_result`.
        files: what to write, and where.
        report: what to say.
        judge: what else is to be said of the result: for JSON, and in a line.
    """
    from depth_anything_3.cli._folders import check_folder, gallery_folder
    from depth_anything_3.cli._report import told_scale
    from depth_anything_3.cli._scene import chosen_formats, warn_unused
    from depth_anything_3.export._saved import load_result
    from depth_anything_3.export.base import available_fields, check_exportable, export_all, planned_files
    from depth_anything_3.types.progress import Progress

    formats = chosen_formats(files)
    warn_unused(formats, files)
    prediction = load_result(source, argument="SOURCE")
    check_exportable(formats, available_fields(prediction))
    folder = files.export_dir or gallery_folder(source)
    planned = planned_files(len(prediction.depth), formats)
    check_folder(folder, planned, overwrite=files.overwrite)
    if not report.dry_run:
        with progress_bars(quiet=report.quiet or report.as_json) as progress:

            def told(name: str, done: int, total: int) -> None:
                if progress is not None:
                    progress(Progress("export", done, total, name))

            export_all(prediction, folder, formats, on_format=told)
    views, height, width = prediction.depth.shape
    facts: dict[str, object] = {"views": views, "map_size": [width, height], "scale": prediction.scale}
    facts["metric_focal"] = prediction.metric_focal
    summary = f"{views} view(s) at {width} x {height}, {told_scale(prediction, with_intrinsics=True)}"
    if judge is not None:
        more, line = judge(prediction)
        facts, summary = facts | more, f"{summary}\n{line}"
    show(facts, summary, source, folder, planned, report)


def _convert_cameras(source: Path, files: FileOptions, report: ReportOptions) -> None:
    from depth_anything_3.cli._folders import check_folder, gallery_folder
    from depth_anything_3.export._camera_files import check_camera_formats, export_cameras
    from depth_anything_3.io.cameras.base import read_cameras

    cameras = read_cameras(source, argument="SOURCE")
    formats = [name.strip() for name in files.export_format.split("-")]
    planned = check_camera_formats(formats)
    folder = files.export_dir or gallery_folder(source)
    check_folder(folder, planned, overwrite=files.overwrite)
    if not report.dry_run:
        export_cameras(cameras, folder, formats)
    show({"cameras": len(cameras)}, f"{len(cameras)} camera(s)", source, folder, planned, report)


def show(
    facts: dict[str, object], summary: str, source: Path, folder: Path, files: list[str], report: ReportOptions
) -> None:
    """Say what was written, or what would be."""
    from depth_anything_3.cli._report import show_files

    paths = [folder / name for name in files]
    if report.as_json:
        names = [str(path) for path in paths]
        typer.echo(json.dumps({"source": str(source), **facts, "export_dir": str(folder), "files": names}))
    elif report.dry_run:
        typer.echo(f"{summary}\nwould write:")
        for path in paths:
            typer.echo(f"  {path}")
    elif not report.quiet:
        typer.echo(summary)
        show_files(paths)
