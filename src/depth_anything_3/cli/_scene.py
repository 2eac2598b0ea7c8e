"""Pictures of one scene through a model into files: what every such command does, whatever its input."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3.cli._console import progress_bars
from depth_anything_3.cli._folders import check_folder, gallery_folder
from depth_anything_3.cli._options import BackendOptions, FileOptions, ModelOptions, Scene, flag_name
from depth_anything_3.cli._rig import rig_of
from depth_anything_3.errors import InputError
from depth_anything_3.export.base import EXPORTERS, parse_formats, planned_files, resolve_options, shared_defaults
from depth_anything_3.types.options import PROCESS_RES, InferOptions, PreprocessOptions

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.cli._material import Material, Size
    from depth_anything_3.types.prediction import Prediction
    from depth_anything_3.types.progress import ProgressCallback
    from depth_anything_3.types.rig import Rig


@dataclass(frozen=True)
class Job:
    """Everything that is decided before a model is loaded."""

    material: Material
    folder: Path
    formats: dict[str, Any]
    scene: Scene
    rig: Rig | int | None = None

    def files(self, count: int) -> list[str]:
        """What will be written for so many pictures, relative to the folder."""
        return [*self.material.own_files(count), *planned_files(count, self.formats)]


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    job: Job
    model: DepthAnything3
    source: str
    prediction: Prediction
    seconds: float


def reconstruct(material: Material, scene: Scene) -> None:
    """Do what a command was asked for, or say what would be done."""
    from depth_anything_3.cli._report import show_plan, show_result

    if scene.backend.use_backend:
        from depth_anything_3.cli._remote import reconstruct_there

        reconstruct_there(material, scene)
        return
    if scene.backend != BackendOptions():
        warnings.warn("--backend-url, --detach: no effect without --use-backend", stacklevel=2)
    job = plan(material, scene)
    source, local = choose_model(scene.model, ask=not scene.report.dry_run)
    if scene.report.dry_run:
        show_plan(job, *describe(job, source, certain=local or scene.model.model_dir is not None))
        return
    started = time.perf_counter()
    with progress_bars(quiet=scene.report.quiet or scene.report.as_json) as progress:
        model = load_model(scene.model, source, local=local)
        prediction = run(job, model, progress)
    if scene.report.as_json or not scene.report.quiet:
        show_result(Outcome(job, model, source, prediction, time.perf_counter() - started))


def run(job: Job, model: DepthAnything3, progress: ProgressCallback | None) -> Prediction:
    """Read the pictures, run the model, write the files."""
    scene = job.scene
    views = job.material.load(job.folder, progress)
    several = len(views.images) > 1 and "cameras" in model.model.abilities
    return model.inference(
        list(views.images),
        extrinsics=views.extrinsics,
        intrinsics=views.intrinsics,
        intrinsics_origin=views.intrinsics_origin,
        masks=scene.views.masks,
        rig=job.rig,
        **asdict(scene.preprocessing) | inference_options(scene, several=several),
        export_dir=job.folder,
        export_format=scene.files.export_format,
        **scene.files.general,
        export_kwargs=_of_formats(scene.files.export_kwargs, job.formats),
        progress=progress,
    )


def _of_formats(export_kwargs: Mapping[str, Any], formats: Mapping[str, Any]) -> dict[str, Any] | None:
    """What formats are given that are written; of others the plan has warned."""
    return {name: options for name, options in export_kwargs.items() if name in formats} or None


def inference_options(scene: Scene, *, several: bool) -> dict[str, Any]:
    """What was typed of the inference, and what was left to the model: its own size, and refinement where there is
    something to refine; refined views would not keep a rig."""
    choices = {"process_res": None, "refine": "full" if several and scene.views.rig is None else "off"}
    options = asdict(scene.inference) | {name: choices[name] for name in scene.left_open}
    if options["refine"] == "full" and not scene.refinement.refine_depth:
        options["refine"] = "poses"
    return options


def plan(material: Material, scene: Scene, *, writes: bool = True) -> Job:
    """Everything that can be found out, and can be wrong, before a model is loaded; ``writes`` is whether files will
    appear in the folder."""
    files = scene.files
    formats = chosen_formats(files, scene.inference)
    warn_without_effect(formats, scene.inference, with_poses=material.with_poses)
    warn_unused(formats, files)
    folder = gallery_folder(material.origin) if files.export_dir is None else files.export_dir
    if scene.views.masks is not None and not scene.views.masks.is_dir():
        raise InputError("masks", f"{scene.views.masks} (no such folder)", "a folder of masks")
    rig = None if scene.views.rig is None else rig_of(scene.views.rig)
    job = Job(material, folder, formats, scene, rig)
    if writes:
        own = material.own_files(len(material))
        check_folder(folder, job.files(len(material)), overwrite=files.overwrite, own=own)
    return job


def chosen_formats(files: FileOptions, inference: InferOptions | None = None) -> dict[str, Any]:
    """The options of every format asked for."""
    layers = () if inference is None else inference.export_feat_layers
    general = shared_defaults({**files.general, "export_feat_layers": layers})
    return resolve_options(parse_formats(files.export_format), files.export_kwargs, general)


def warn_without_effect(formats: dict[str, Any], inference: InferOptions, *, with_poses: bool) -> None:
    """Say which options of the inference do nothing for these formats and inputs."""
    if not inference.align_to_input_ext_scale and not with_poses:
        warnings.warn("--no-align-to-input-ext-scale: no effect without poses", stacklevel=2)
    for name, needed in (("export_feat_layers", "aux"), ("infer_gs", "gaussians")):
        if getattr(inference, name) and not any(needed in EXPORTERS[other].needs for other in formats):
            warnings.warn(f"{flag_name(name)}: no effect on {', '.join(formats)}", stacklevel=2)


def warn_unused(formats: dict[str, Any], files: FileOptions) -> None:
    """Say which general options none of the formats has."""
    changed = {name: value for name, value in files.general.items() if value != getattr(FileOptions, name)}
    unused = [flag_name(name) for name in changed if not shared_defaults({name: changed[name]}).keys() & formats.keys()]
    if unused:
        warnings.warn(f"{', '.join(unused)}: no effect on {', '.join(formats)}", stacklevel=2)


# --- models -----------------------------------------------------------------------------------------------------------


def choose_model(options: ModelOptions, *, ask: bool) -> tuple[str, bool]:
    """The model's source, and whether to look nowhere but on this disk; sends a request only if it may ``ask``."""
    from depth_anything_3.zoo.default import DEFAULT_MODEL, default_model

    if options.model_dir is not None:
        return options.model_dir, False
    if options.revision is not None:
        return DEFAULT_MODEL, False
    choice = default_model(ask=ask)
    if choice.note:
        warnings.warn(choice.note, stacklevel=2)
    return choice.source, choice.cached


def load_model(options: ModelOptions, source: str, *, local: bool) -> DepthAnything3:
    """The model, where and how it shall run."""
    from depth_anything_3.api import DepthAnything3

    return DepthAnything3.from_pretrained(
        source, revision=options.revision, local_files_only=local, device=options.device, dtype=options.dtype
    )


@dataclass(frozen=True)
class _Known:
    """What is known of a model without downloading it; no configuration where it is not on this disk."""

    facts: dict[str, object]
    preset: str = ""
    config: dict[str, Any] | None = None
    process_res: int = PROCESS_RES


def describe(job: Job, source: str, *, certain: bool) -> tuple[dict[str, object], Size, Size]:
    """What a model is, as far as that is known without its weights, and the sizes of what it reads and returns.

    Raises:
        InputError: the model cannot do the job, or there is no such device or precision.
    """
    from depth_anything_3.infer.device import choose_device, choose_dtype

    choose_dtype(choose_device(job.scene.model.device), job.scene.model.dtype)
    known = _known(source, job.scene.model.revision)
    preprocessing = job.scene.preprocessing
    if "process_res" in job.scene.left_open:
        preprocessing = replace(preprocessing, process_res=known.process_res)
    sizes = job.material.sizes()
    read = processed_size(sizes, preprocessing)
    facts, returned = dict(known.facts), read
    if known.config is not None:
        more, inference = _judged(known, job, read)
        facts |= more
        returned = map_size(sizes, preprocessing, inference)
    if not certain:
        facts["otherwise"] = "bundled, if the hub does not answer"
    return facts, read, returned


def _known(source: str, revision: str | None) -> _Known:
    from depth_anything_3.errors import HubError
    from depth_anything_3.zoo.cards import describe_licence, find_card
    from depth_anything_3.zoo.checkpoints import config_of, resolve

    card = None if Path(source).expanduser().exists() else find_card(source)
    if card is not None:
        facts = {"name": card.hub_id, "licence": card.licence, "note": describe_licence(card)}
        return _Known({k: v for k, v in facts.items() if v}, card.preset, config_of(card.preset))
    try:
        found = resolve(source, revision=revision, local_files_only=True)
    except HubError:
        return _Known({"name": source, "note": "not a published model and not on this disk; unknown until downloaded"})
    facts = {"name": source, "preset": found.model_name}
    return _Known(facts, found.model_name, found.config, found.process_res)  # type: ignore[arg-type]


def _judged(known: _Known, job: Job, size: Size) -> tuple[dict[str, object], InferOptions]:
    """What a model takes, and with which options it would run; an error if it cannot do the job."""
    import torch

    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.export.base import check_exportable
    from depth_anything_3.infer.device import choose_device, choose_dtype
    from depth_anything_3.infer.plan import plan_memory

    with torch.device("meta"):
        model = DepthAnything3(known.preset, config=known.config, device="meta")
    count, material = len(job.material), job.material
    several = count > 1 and "cameras" in model.model.abilities
    options = inference_options(job.scene, several=several)
    inference = replace(job.scene.inference, refine=options["refine"])
    model.check_options(inference, with_poses=material.with_poses, views=count)
    fields = model.predicted_fields(inference, views=count, with_intrinsics=material.with_intrinsics)
    check_exportable(job.formats, fields)
    device = choose_device(job.scene.model.device)
    memory = plan_memory(
        model.model,
        count,
        size,
        device=device,
        dtype=choose_dtype(device, job.scene.model.dtype),
        kept_features=len(inference.export_feat_layers),
        poses=material.with_poses,
        gaussians=inference.infer_gs and inference.gs_source == "head",
        limit=None if inference.max_memory is None else int(inference.max_memory * 1e9),
    )
    facts: dict[str, object] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "memory_plan": f"{memory} on {device}",
    }
    return facts, inference


# --- sizes ------------------------------------------------------------------------------------------------------------


def processed_size(sizes: Sequence[Size], options: PreprocessOptions) -> Size:
    """Height and width at which the network sees the pictures."""
    from depth_anything_3.infer.preprocess import common_size, plan_resize

    return common_size([plan_resize(size, options, index=i).processed_hw for i, size in enumerate(sizes)], options)


def map_size(sizes: Sequence[Size], options: PreprocessOptions, inference: InferOptions) -> Size:
    """Height and width of the maps that come back: refinement makes them larger than what the network saw."""
    from depth_anything_3.infer.preprocess import at_most, common_size, plan_resize

    if inference.output_size == "input" and len(set(sizes)) == 1:
        return sizes[0]
    read = processed_size(sizes, options)
    with_head = inference.infer_gs and inference.gs_source == "head"  # its Gaussians belong to what was read
    if inference.refine != "full" or len(sizes) < 2 or max(read) >= PROCESS_RES or with_head:
        return read
    planned = [plan_resize(size, at_most(options, size, PROCESS_RES)).processed_hw for size in sizes]
    return common_size(planned, options)
