"""``da3 panorama``: distances all around one place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from depth_anything_3.cli._console import progress_bars
from depth_anything_3.cli._options import (
    FileOptions,
    KnownCameras,
    ModelOptions,
    ReportOptions,
    SphereOptions,
    With,
    command,
)
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import FolderOptions, PreprocessOptions


@dataclass(frozen=True, kw_only=True)
class Around:
    """The options that mean something for one picture of all around."""

    cameras: Annotated[KnownCameras, With("intrinsics")]
    sphere: SphereOptions
    preprocessing: Annotated[PreprocessOptions, With("process_res")]
    model: ModelOptions
    files: FileOptions
    report: ReportOptions
    left_open: frozenset[str] = frozenset()


@command
def panorama(
    image: Annotated[
        Path, typer.Argument(metavar="INPUT", help="An equirectangular picture, or one through a fisheye lens.")
    ],
    around: Around,
) -> None:
    """Distances all around one place.

    INPUT is equirectangular (360 by 180 degrees), or a fisheye picture with --intrinsics, a file that knows its lens.
    panorama.npz and distance.png are on its own pixels; the formats hold the pinhole views that it was split into.
    """
    from depth_anything_3.cli._folders import check_folder, gallery_folder
    from depth_anything_3.cli._scene import choose_model, chosen_formats, load_model, warn_unused
    from depth_anything_3.cli.convert import show
    from depth_anything_3.export._panorama import FILES, write_panorama
    from depth_anything_3.export.base import export_all, planned_files
    from depth_anything_3.geometry.sphere import tangent_views

    formats = chosen_formats(around.files)
    warn_unused(formats, around.files)
    photo, known = _camera(image, around.cameras)
    folder = around.files.export_dir or gallery_folder(image)
    source, local = choose_model(around.model, ask=not around.report.dry_run)
    most = len(tangent_views(14, fov_deg=around.sphere.fov_deg, half_angle_deg=180.0))  # a fisheye needs fewer
    planned = [*FILES, *planned_files(most, formats)]
    check_folder(folder, planned, overwrite=around.files.overwrite, own=FILES)
    if around.report.dry_run:
        show({"model": source}, f"model: {source}", image, folder, planned, around.report)
        return
    started = time.perf_counter()
    with progress_bars(quiet=around.report.quiet or around.report.as_json) as progress:
        model = load_model(around.model, source, local=local)
        found = model.panorama(
            photo,
            **known,
            fov_deg=around.sphere.fov_deg,
            process_res=None if "process_res" in around.left_open else around.preprocessing.process_res,
            progress=progress,
        )
        paths = write_panorama(found, folder)
        paths += export_all(found.views, folder, formats, model=model.origin)
    height, width = found.distance.shape
    facts: dict[str, object] = {
        "model": source,
        "size": [width, height],
        "views": len(found.scales),
        "scale": found.views.scale,
        "seam": round(found.seam, 4),
        "seam_before": round(found.seam_before, 4),
        "coverage": round(found.coverage, 4),
        "seconds": round(time.perf_counter() - started, 3),
    }
    line = f"{len(found.scales)} views for {width} x {height} pixels, {found.views.scale} scale, seam {found.seam:.1%}"
    show(facts, line, image, folder, [path.relative_to(folder).as_posix() for path in paths], around.report)


def _camera(path: Path, cameras: KnownCameras) -> tuple[Path, dict[str, Any]]:
    """The picture, and matrix and lens where there is a file that knows them.

    Raises:
        InputError: INPUT is no single photo, or the file knows a pinhole only.
    """
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.io.images import LensPhoto

    if path.is_dir():
        raise InputError("INPUT", f"{path}, a folder", "a picture")
    (found,) = photos_in(path, FolderOptions(), cameras).views.images
    if cameras.intrinsics is None:
        return path, {}
    if not isinstance(found, LensPhoto):
        expected = "a file with the lens of a fisheye; da3 image takes pictures of a pinhole"
        raise InputError("intrinsics", f"{cameras.intrinsics}, of a pinhole", expected)
    return path, {"intrinsics": found.intrinsics, "lens": found.lens}
