"""Pictures that are no scene: large ones by tiles, and the frames of one video."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.cli._film import Film
    from depth_anything_3.cli._options import TileOptions
    from depth_anything_3.cli._scene import Job
    from depth_anything_3.types.prediction import Prediction
    from depth_anything_3.types.progress import ProgressCallback


def run_tiled(job: Job, model: DepthAnything3, tiles: TileOptions, progress: ProgressCallback | None) -> Prediction:
    """Depth of one large photo at its own size, and its files."""
    views = job.material.load(job.folder, progress)
    prediction = model.tiled(
        views.images[0],
        intrinsics=None if views.intrinsics is None else views.intrinsics[0],
        intrinsics_origin=views.intrinsics_origin,
        tile=tiles.tile,
        overlap=tiles.tile_overlap,
        process_res=_process_res(job),
        progress=progress,
    )
    return write(job, model, prediction, progress)


def run_clip(job: Job, model: DepthAnything3, film: Film, progress: ProgressCallback | None) -> Prediction:
    """Steady depth of a video, and its files."""
    from depth_anything_3.stream.video_depth import video_depth

    views = film.views(progress)
    prediction = video_depth(
        model,
        views.images,
        intrinsics=views.intrinsics,
        intrinsics_origin=views.intrinsics_origin,
        process_res=_process_res(job),
        progress=progress,
    )
    return write(job, model, prediction, progress)


def write(job: Job, model: DepthAnything3, prediction: Prediction, progress: ProgressCallback | None) -> Prediction:
    """The files of a job."""
    from depth_anything_3.export.base import export_all
    from depth_anything_3.types.progress import Progress

    def told(name: str, done: int, total: int) -> None:
        if progress is not None:
            progress(Progress("export", done, total, name))

    export_all(prediction, job.folder, job.formats, on_format=told, model=model.origin)
    return prediction


def _process_res(job: Job) -> int | None:
    scene = job.scene
    return None if "process_res" in scene.left_open else scene.preprocessing.process_res
