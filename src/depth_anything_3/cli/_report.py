"""What commands say when they are done, or when they are only asked what they would do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from depth_anything_3.cli._console import human_size
from depth_anything_3.cli._scene import Job, Outcome, processed_size

if TYPE_CHECKING:
    from depth_anything_3.cli._material import Size
    from depth_anything_3.cli._remote import RemoteResult
    from depth_anything_3.types.prediction import Prediction


def show_plan(job: Job, model: dict[str, object], read: Size, returned: Size) -> None:
    """What would be done."""
    material, files = job.material, [str(job.folder / name) for name in job.files(len(job.material))]
    if job.scene.report.as_json:
        plan = {
            "inputs": material.inputs,
            "views": len(material),
            "given": material.given,
            "processed_size": _width_height(read),
            "map_size": _width_height(returned),
            "model": model,
            "export_dir": str(job.folder),
            "files": files,
        }
        typer.echo(json.dumps(plan))
        return
    typer.echo(f"{len(material)} image(s), processed at {_times(read)} pixels:")
    _indented(material.inputs)
    if material.given:
        typer.echo(f"given: {', '.join(material.given)}")
    if returned != read:
        typer.echo(f"maps come back, refined, at {_times(returned)} pixels")
    typer.echo(f"model: {model['name']}")
    _indented(f"{key.replace('_', ' ')}: {value}" for key, value in model.items() if key != "name")
    typer.echo("would write:")
    _indented(files)


def show_result(outcome: Outcome) -> None:
    """What was done."""
    job, prediction, model = outcome.job, outcome.prediction, outcome.model
    views, height, width = prediction.depth.shape
    dtype, optimised = str(model.dtype).removeprefix("torch."), prediction.gaussian_refinement
    files = [job.folder / name for name in job.files(views)]
    if job.scene.report.as_json:
        result = {
            "inputs": job.material.inputs,
            "views": views,
            "model": outcome.source,
            "model_name": prediction.model_name,
            "device": str(model.device),
            "dtype": dtype,
            "processed_size": _width_height(_network_size(outcome)),
            "map_size": [width, height],
            "scale": prediction.scale,
            "refinement": None if prediction.refinement is None else prediction.refinement.as_dict(),
            "gaussian_refinement": None if optimised is None else asdict(optimised),
            "alignment": None if prediction.alignment is None else prediction.alignment.as_dict(),
            "metric_focal": prediction.metric_focal,
            "memory_plan": prediction.memory_plan,
            "seconds": round(outcome.seconds, 3),
            "export_dir": str(job.folder),
            "files": [str(path) for path in files],
        }
        typer.echo(json.dumps(result))
        return
    typer.echo(
        f"{views} view(s) at {width} x {height}, {prediction.model_name} in {dtype} on {model.device}, "
        f"{outcome.seconds:.1f} s, {told_scale(prediction, with_intrinsics=job.material.with_intrinsics)}"
    )
    if prediction.refinement is not None:
        typer.echo(prediction.refinement.summary())
    if optimised is not None:
        typer.echo(optimised.summary())
    show_files(files)


def show_remote(job: Job, result: RemoteResult, seconds: float) -> None:
    """What a server did, or has taken on."""
    done, report, summary = result.job, job.scene.report, result.job.summary or {}
    if report.as_json:
        facts = {
            "inputs": job.material.inputs,
            "views": len(done.images),
            "backend": job.scene.backend.backend_url,
            "job": done.id,
            "url": result.url,
            "status": done.status,
            "model_name": summary.get("model_name"),
            "map_size": summary.get("processed_size"),
            "scale": summary.get("scale"),
            "metric_focal": summary.get("metric_focal"),
            "seconds": round(seconds, 3),
            "export_dir": str(job.folder) if result.files else None,
            "files": [str(path) for path in result.files],
        }
        typer.echo(json.dumps(facts))
    elif not done.finished:
        typer.echo(done.id if report.quiet else f"job {done.id}: {result.url}")
    elif not report.quiet:
        typer.echo(
            f"{len(done.images)} view(s), {summary.get('model_name', 'a model')} at {job.scene.backend.backend_url}, "
            f"{seconds:.1f} s, {summary.get('scale', 'unknown')} scale"
        )
        show_files(result.files)


_FOCALS = {
    "given": "given",
    "fov": "from the field of view",
    "exif": "from the photos' EXIF tags",
    "predicted": "predicted",
}


def told_scale(prediction: Prediction, *, with_intrinsics: bool) -> str:
    """The scale, and whose focal length made the metres, or that a metric model lacks one."""
    from depth_anything_3.infer.postprocess import CANONICAL_PRESETS

    focal, note = prediction.metric_focal, ""
    if focal is not None:
        note = f" (focal length {_FOCALS[focal]})"
    elif prediction.model_name in CANONICAL_PRESETS and not with_intrinsics:
        note = " (metres need a focal length: --intrinsics exif, 60deg or a file)"
    return f"{prediction.scale} scale{note}"


def show_files(files: Sequence[Path], *, most: int = 40) -> None:
    """Every file with its size; of a long list the first and the last."""
    shown = files if len(files) <= most else files[: most - 4]
    for path in shown:
        typer.echo(f"  {path}  ({human_size(path.stat().st_size)})")
    if len(shown) < len(files):
        typer.echo(f"  ... {len(files) - len(shown)} more, listed in {files[-1]}")


def _network_size(outcome: Outcome) -> Size:
    from dataclasses import replace

    scene = outcome.job.scene
    options = scene.preprocessing
    if "process_res" in scene.left_open:
        options = replace(options, process_res=outcome.model.process_res)
    return processed_size(outcome.job.material.sizes(), options)


def _indented(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(f"  {line}")


def _times(size: Size) -> str:
    return f"{size[1]} x {size[0]}"


def _width_height(size: Size) -> list[int]:
    return [size[1], size[0]]
