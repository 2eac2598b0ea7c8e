"""``da3 auto``: a photo, or a folder of photos of one scene, with or without known cameras, to files."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import command_errors, human_size, progress_bars
from depth_anything_3.cli._inputs import (
    InputArgument,
    IntrinsicsOption,
    LimitOption,
    PosesOption,
    RecursiveOption,
    StrideOption,
)
from depth_anything_3.errors import InputError
from depth_anything_3.export.base import EXPORTERS, shared_defaults
from depth_anything_3.export.glb import Options as GlbOptions
from depth_anything_3.types.options import (
    ALPHA_MODES,
    METRIC_FOCALS,
    PROCESS_METHODS,
    PROCESS_RES,
    REFERENCE_VIEW_STRATEGIES,
    FolderOptions,
    InferOptions,
    PreprocessOptions,
)

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.io.cameras.given import GivenViews
    from depth_anything_3.types.prediction import Prediction

_GALLERY = Path("workspace/gallery")


def auto(
    input_path: InputArgument,
    model_dir: Annotated[
        str | None,
        typer.Option(
            help="Hub id, folder, or .safetensors file of the model, see 'da3 models'; or 'bundled'. Default: "
            "depth-anything/DA3-BASE, and 'bundled' where that is neither in the cache nor to be had.",
            show_default=False,
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a model on the hub.")] = None,
    export_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: workspace/gallery/<name of INPUT>.", show_default=False),
    ] = None,
    export_format: Annotated[
        str, typer.Option(help=f"Format names joined by '-', of: {', '.join(EXPORTERS)}.")
    ] = "glb",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Precision of the transformer: auto, float32, bfloat16, float16.")
    ] = "auto",
    process_res: Annotated[
        int | None,
        typer.Option(help="Length of the bounded side, in pixels. Default: the model's own.", show_default=False),
    ] = None,
    process_res_method: Annotated[
        str, typer.Option(help=f"One of {', '.join(PROCESS_METHODS)}.")
    ] = PreprocessOptions.process_res_method,
    recursive: RecursiveOption = FolderOptions.recursive,
    stride: StrideOption = FolderOptions.stride,
    limit: LimitOption = FolderOptions.limit,
    poses: PosesOption = None,
    intrinsics: IntrinsicsOption = None,
    align_to_input_ext_scale: Annotated[
        bool, typer.Option(help="With known poses: return them as they are, with the depth at their scale.")
    ] = InferOptions.align_to_input_ext_scale,
    alpha: Annotated[
        str, typer.Option(help=f"Transparency: one of {', '.join(ALPHA_MODES)}.")
    ] = PreprocessOptions.alpha,
    export_feat: Annotated[str, typer.Option(help="Transformer blocks whose features to keep, as in '5,11'.")] = "",
    use_ray_pose: Annotated[bool, typer.Option(help="Cameras from the predicted rays.")] = InferOptions.use_ray_pose,
    ref_view_strategy: Annotated[
        str, typer.Option(help=f"One of {', '.join(REFERENCE_VIEW_STRATEGIES)}.")
    ] = InferOptions.ref_view_strategy,
    metric_focal: Annotated[
        str, typer.Option(help=f"Focal length that makes metres, of metric models: one of {', '.join(METRIC_FOCALS)}.")
    ] = InferOptions.metric_focal,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="Let matches between the photos correct cameras and depth, or take the network's answer as it is. "
            "Default: refine, where there are several photos and the model gives cameras.",
            show_default=False,
        ),
    ] = None,
    conf_thresh_percentile: Annotated[
        float, typer.Option(help="Share of the least confident pixels left out of the GLB, in percent.")
    ] = GlbOptions.conf_thresh_percentile,
    num_max_points: Annotated[int, typer.Option(help="Most points in the GLB.")] = GlbOptions.num_max_points,
    show_cameras: Annotated[bool, typer.Option(help="Draw the cameras in the GLB.")] = GlbOptions.show_cameras,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", "--auto-cleanup", help="Write into a folder that holds files; replaces only those we write."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would happen.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Reconstruct a photo or a folder of photos: depth, cameras, point cloud."""
    with command_errors(as_json=as_json):
        job = _plan(
            input_path,
            export_dir,
            export_format,
            overwrite=overwrite,
            folder_options=FolderOptions(recursive=recursive, stride=stride, limit=limit),
            poses=poses,
            intrinsics=intrinsics,
            preprocessing=PreprocessOptions(
                process_res=PROCESS_RES if process_res is None else process_res,
                process_res_method=process_res_method,  # type: ignore[arg-type]
                alpha=alpha,  # type: ignore[arg-type]
            ),
            inference=InferOptions(
                align_to_input_ext_scale=align_to_input_ext_scale,
                use_ray_pose=use_ray_pose,
                ref_view_strategy=ref_view_strategy,  # type: ignore[arg-type]
                export_feat_layers=_block_indices(export_feat),
                refine="full" if refine else "off",
                metric_focal=metric_focal,  # type: ignore[arg-type]
            ),
            glb={
                "conf_thresh_percentile": conf_thresh_percentile,
                "num_max_points": num_max_points,
                "show_cameras": show_cameras,
            },
        )
        source, local = _choose_model(model_dir, revision, ask=not dry_run)
        if dry_run:
            _check_machine(device, dtype)
            if process_res is None:
                own = replace(job.preprocessing, process_res=_process_res_of(source, revision))
                job = replace(job, preprocessing=own)
            facts = _describe_model(source, revision, job)
            if model_dir is None and not local:
                facts["otherwise"] = "bundled, if the hub does not answer"
            _show_plan(job, facts, as_json)
            return
        started = time.perf_counter()
        with progress_bars(quiet=quiet or as_json) as progress:
            from depth_anything_3.api import DepthAnything3

            model = DepthAnything3.from_pretrained(
                source, revision=revision, local_files_only=local, device=device, dtype=dtype
            )
            several = len(job.views.images) > 1 and "cameras" in model.model.abilities
            prediction = model.inference(
                list(job.views.images),
                extrinsics=job.views.extrinsics,
                intrinsics=job.views.intrinsics,
                align_to_input_ext_scale=job.inference.align_to_input_ext_scale,
                refine="full" if refine or (refine is None and several) else "off",
                process_res=process_res,
                process_res_method=job.preprocessing.process_res_method,
                alpha=job.preprocessing.alpha,
                use_ray_pose=job.inference.use_ray_pose,
                ref_view_strategy=job.inference.ref_view_strategy,
                metric_focal=job.inference.metric_focal,
                export_feat_layers=job.inference.export_feat_layers,
                export_dir=job.folder,
                export_format=export_format,
                conf_thresh_percentile=conf_thresh_percentile,
                num_max_points=num_max_points,
                show_cameras=show_cameras,
                progress=progress,
            )
        if as_json or not quiet:
            _show_result(job, model, source, prediction, time.perf_counter() - started, as_json)


@dataclass(frozen=True)
class _Job:
    views: GivenViews
    folder: Path
    formats: dict[str, Any]
    preprocessing: PreprocessOptions
    inference: InferOptions

    @property
    def given(self) -> list[str]:
        """What is known of the cameras."""
        from depth_anything_3.io.images import LensPhoto

        through_lens = any(isinstance(image, LensPhoto) for image in self.views.images)
        known = {
            "intrinsics": self.views.intrinsics is not None,
            "poses": self.views.extrinsics is not None,
            "lens distortion, undone": through_lens,
        }
        return [name for name, there in known.items() if there]

    @property
    def files(self) -> list[Path]:
        from depth_anything_3.export.base import planned_files

        return [self.folder / name for name in planned_files(len(self.views.photos), self.formats)]


def _choose_model(named: str | None, revision: str | None, *, ask: bool) -> tuple[str, bool]:
    """The model's source, and whether to look nowhere but on this disk; sends a request only if it may ``ask``."""
    from depth_anything_3.zoo.default import DEFAULT_MODEL, default_model

    if named is not None:
        return named, False
    if revision is not None:
        return DEFAULT_MODEL, False
    choice = default_model(ask=ask)
    if choice.note:
        warnings.warn(choice.note, stacklevel=2)
    return choice.source, choice.cached


def _plan(
    input_path: Path,
    export_dir: Path | None,
    export_format: str,
    *,
    overwrite: bool,
    folder_options: FolderOptions,
    poses: Path | None,
    intrinsics: str | None,
    preprocessing: PreprocessOptions,
    inference: InferOptions,
    glb: dict[str, object],
) -> _Job:
    """Everything that can be found out, and can be wrong, before a model is loaded."""
    from depth_anything_3.export.base import parse_formats, resolve_options
    from depth_anything_3.io.cameras.given import open_views

    general = {**glb, "export_feat_layers": inference.export_feat_layers}
    formats = resolve_options(parse_formats(export_format), None, shared_defaults(general))
    views = open_views(input_path, poses=poses, intrinsics=intrinsics, options=folder_options)
    _warn_without_effect(formats, inference, glb, with_poses=views.extrinsics is not None)
    folder = _free_folder(input_path) if export_dir is None else export_dir
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError("--export-dir", f"{folder}, where {existing} is a file", "a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError("--export-dir", f"{folder}, which holds files", "an empty or new folder, or --overwrite")
    return _Job(views, folder, formats, preprocessing, inference)


def _warn_without_effect(
    formats: dict[str, Any], inference: InferOptions, glb: dict[str, object], *, with_poses: bool
) -> None:
    if not inference.align_to_input_ext_scale and not with_poses:
        warnings.warn("--no-align-to-input-ext-scale: no effect without poses", stacklevel=2)
    unused = []
    if inference.export_feat_layers and not any("aux" in EXPORTERS[name].needs for name in formats):
        unused.append("--export-feat")
    for name, value in glb.items():
        if value != getattr(GlbOptions, name) and not shared_defaults({name: value}).keys() & formats.keys():
            unused.append(f"--{name.replace('_', '-')}")
    if unused:
        warnings.warn(f"{', '.join(unused)}: no effect on {', '.join(formats)}", stacklevel=2)


def _free_folder(input_path: Path) -> Path:
    """workspace/gallery/<name>, then <name>-2, <name>-3, ..."""
    name = (input_path.resolve().stem if input_path.is_file() else input_path.resolve().name) or "scene"
    folder, number = _GALLERY / name, 2
    while folder.exists():
        folder, number = _GALLERY / f"{name}-{number}", number + 1
    return folder


def _block_indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError("--export-feat", repr(text), "block indices joined by commas, as in 5,11") from None


def _check_machine(device: str, dtype: str) -> None:
    from depth_anything_3.infer.device import choose_device, choose_dtype

    choose_dtype(choose_device(device), dtype)


def _show_plan(job: _Job, model: dict[str, object], as_json: bool) -> None:
    width, height = _processed_size(job)
    plan = {
        "inputs": [str(path) for path in job.views.photos],
        "given": job.given,
        "processed_size": [width, height],
        "model": model,
        "export_dir": str(job.folder),
        "files": [str(path) for path in job.files],
    }
    if as_json:
        typer.echo(json.dumps(plan))
        return
    typer.echo(f"{len(job.views.photos)} image(s), processed at {width} x {height} pixels:")
    for path in job.views.photos:
        typer.echo(f"  {path}")
    if job.given:
        typer.echo(f"given: {', '.join(job.given)}")
    typer.echo(f"model: {model['name']}")
    for key, value in model.items():
        if key != "name":
            typer.echo(f"  {key.replace('_', ' ')}: {value}")
    typer.echo("would write:")
    for path in job.files:
        typer.echo(f"  {path}")


def _processed_size(job: _Job) -> tuple[int, int]:
    """Common width and height after preprocessing, from the headers alone."""
    from depth_anything_3.infer.preprocess import plan_resize
    from depth_anything_3.io.images import image_size

    sizes = [
        plan_resize(image_size(path, index=i), job.preprocessing, index=i, name=path.name).processed_hw
        for i, path in enumerate(job.views.photos)
    ]
    return min(width for _, width in sizes), min(height for height, _ in sizes)


def _process_res_of(source: str, revision: str | None) -> int:
    """What a model was made for, as far as that is known without downloading it."""
    from depth_anything_3.errors import HubError
    from depth_anything_3.zoo.checkpoints import resolve

    try:
        return resolve(source, revision=revision, local_files_only=True).process_res
    except HubError:
        return PROCESS_RES


def _describe_model(source: str, revision: str | None, job: _Job) -> dict[str, object]:
    """What is known of a model without downloading it; an error if it cannot do the job."""
    from depth_anything_3.errors import HubError
    from depth_anything_3.zoo.cards import describe_licence, find_card
    from depth_anything_3.zoo.checkpoints import config_of, resolve

    card = None if Path(source).expanduser().exists() else find_card(source)
    if card is not None:
        facts = {"name": card.hub_id, "licence": card.licence, "note": describe_licence(card)}
        return {**{k: v for k, v in facts.items() if v}, **_judge(card.preset, config_of(card.preset), job)}
    try:
        checkpoint = resolve(source, revision=revision, local_files_only=True)
    except HubError:
        return {"name": source, "note": "not a published model and not on this disk; unknown until downloaded"}
    return {
        "name": source,
        "preset": checkpoint.model_name,
        **_judge(checkpoint.model_name, checkpoint.config, job),
    }


def _judge(model_name: str, config: dict[str, Any], job: _Job) -> dict[str, object]:
    """What a model takes; an error if it cannot do the job. No weights are read."""
    import torch

    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.export.base import check_exportable
    from depth_anything_3.infer.memory import estimate_memory

    with torch.device("meta"):
        model = DepthAnything3(model_name, config=config, device="meta")
    model.check_options(job.inference, with_poses=job.views.extrinsics is not None, views=len(job.views.photos))
    fields = model.predicted_fields(job.inference, with_intrinsics=job.views.intrinsics is not None)
    check_exportable(job.formats, fields)
    width, height = _processed_size(job)
    memory = estimate_memory(model.model, len(job.views.photos), (height, width))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "memory_estimate": f"{memory / 1e9:.1f} GB (float32 on the CPU)",
    }


def _show_result(
    job: _Job, model: DepthAnything3, source: str, prediction: Prediction, seconds: float, as_json: bool
) -> None:
    views, height, width = prediction.depth.shape
    result = {
        "inputs": [str(path) for path in job.views.photos],
        "model": source,
        "model_name": prediction.model_name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "processed_size": [width, height],
        "scale": prediction.scale,
        "refinement": None if prediction.refinement is None else prediction.refinement.as_dict(),
        "alignment": None if prediction.alignment is None else prediction.alignment.as_dict(),
        "metric_focal": prediction.metric_focal,
        "seconds": round(seconds, 3),
        "export_dir": str(job.folder),
        "files": [str(path) for path in job.files],
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(
        f"{views} view(s) at {width} x {height}, {result['model_name']} in {result['dtype']} on {result['device']}, "
        f"{seconds:.1f} s, {prediction.scale} scale"
    )
    if prediction.refinement is not None:
        typer.echo(prediction.refinement.summary())
    for path in job.files:
        typer.echo(f"  {path}  ({human_size(path.stat().st_size)})")
