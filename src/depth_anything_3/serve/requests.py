"""What a job is asked to do: the options of the Python API, from the dataclasses that define them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import parse_formats, resolve_options, shared_defaults
from depth_anything_3.export.glb import Options as GlbOptions
from depth_anything_3.types.option_values import build_options
from depth_anything_3.types.options import (
    EXTRINSICS_CONVENTIONS,
    INTRINSICS_ORIGINS,
    ExtrinsicsConvention,
    InferOptions,
    IntrinsicsOrigin,
    PreprocessOptions,
    VideoOptions,
    check_choice,
)

if TYPE_CHECKING:
    from depth_anything_3.types.rig import Rig

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """The arguments of ``DepthAnything3.inference`` that are neither preprocessing nor inference.

    Attributes:
        extrinsics: (N, 3, 4) or (N, 4, 4) poses, world to camera unless the convention says otherwise; None in the
            place of a pose that is not known.
        intrinsics: (N, 3, 3) in pixels of the upright images.
        extrinsics_convention: what ``extrinsics`` mean.
        intrinsics_origin: where ``intrinsics`` come from.
        export_format: format names joined by ``-``; by default ``mini_npz-glb``, or ``mini_npz-depth_vis`` of a model
            without cameras.
        rig: the number of fixed cameras whose pictures these are, or the cameras themselves: an object with
            ``camera_from_rig`` (C, 3, 4) and ``intrinsics`` (C, 3, 3) or null.
        conf_thresh_percentile, num_max_points, show_cameras, feat_vis_fps, clean: options of the formats that have
            them.
        export_kwargs: format -> options of that format.
        render_exts, render_ixts, render_hw: views to render, for formats that render.
        video: which frames of a video, an object with ``start``, ``end``, ``fps``, ``stride``, ``max_frames``; by
            default 32, spread evenly.
    """

    extrinsics: tuple[Matrix | None, ...] | None = None
    intrinsics: tuple[Matrix, ...] | None = None
    extrinsics_convention: ExtrinsicsConvention = "opencv_w2c"
    intrinsics_origin: IntrinsicsOrigin = "given"
    rig: dict | int | None = None  # type: ignore[type-arg] # build_options checks classes, not their parameters
    export_format: str | None = None
    conf_thresh_percentile: float = GlbOptions.conf_thresh_percentile
    num_max_points: int = GlbOptions.num_max_points
    show_cameras: bool = GlbOptions.show_cameras
    feat_vis_fps: float = 15
    clean: str | None = None
    export_kwargs: dict | None = None  # type: ignore[type-arg]
    render_exts: tuple[Matrix, ...] | None = None
    render_ixts: tuple[Matrix, ...] | None = None
    render_hw: tuple[int, int] | None = None
    video: dict | None = None  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        check_choice("extrinsics_convention", self.extrinsics_convention, EXTRINSICS_CONVENTIONS)
        check_choice("intrinsics_origin", self.intrinsics_origin, INTRINSICS_ORIGINS)
        if isinstance(self.rig, dict):
            _rig_of(self.rig)
        if self.video is not None:
            _frames_of(self.video)


def _frames_of(fields: dict[str, Any]) -> VideoOptions:
    options: VideoOptions = build_options(VideoOptions, {"video.": fields})
    return options


def _rig_of(fields: dict[str, Any]) -> Rig:
    from depth_anything_3.types.rig import Rig

    if set(fields) not in ({"camera_from_rig"}, {"camera_from_rig", "intrinsics"}):
        raise InputError(
            "rig", f"an object with {', '.join(map(str, fields)) or 'nothing'}", "camera_from_rig, intrinsics"
        )
    try:
        return Rig.from_dict({"intrinsics": None, **fields})
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("rig", "something that is no list of matrices", "lists of numbers") from None


OPTION_CLASSES: tuple[type[Any], ...] = (PreprocessOptions, InferOptions, SceneOptions)


LEFT_OPEN = ("process_res", "refine")
"""Options for which None, in a request, leaves the choice to the model."""


def option_names() -> list[str]:
    """Names of all options of a job."""
    return [entry.name for cls in OPTION_CLASSES for entry in dataclasses.fields(cls)]


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """The options of one job.

    Attributes:
        preprocess, infer, scene: checked options.
        given: what the client sent, which is what is stored and shown.
        notes: warnings about options without effect.
    """

    preprocess: PreprocessOptions
    infer: InferOptions
    scene: SceneOptions
    given: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def video(self) -> VideoOptions | None:
        """Which frames of a video were asked for."""
        return None if self.scene.video is None else _frames_of(self.scene.video)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``DepthAnything3.inference``; ``process_res`` is None unless the client gave one, and
        ``refine`` is None where the client leaves it to the model."""
        values: dict[str, Any] = {}
        for options in (self.preprocess, self.infer, self.scene):
            values |= {entry.name: getattr(options, entry.name) for entry in dataclasses.fields(options)}
        values["process_res"] = self.given.get("process_res")
        values["refine"] = self.given.get("refine", self.infer.refine)
        if isinstance(self.scene.rig, dict):
            values["rig"] = _rig_of(self.scene.rig)
        del values["video"]  # by then there are only frames
        return values

    def batch_key(self, images: int, processed_hw: tuple[int, int]) -> str | None:
        """Jobs of the same key may run together; None for those that run alone.

        These are single images without cameras, at one network size, with the same options of preprocessing and
        inference, none of which asks for more than depth and cameras.
        """
        scene = self.scene
        given = (scene.extrinsics, scene.intrinsics, scene.render_exts, scene.render_ixts, scene.render_hw, scene.rig)
        plain = not (any(given) or self.infer.infer_gs)
        if images != 1 or not plain or self.infer.refine != "off" or self.infer.export_feat_layers:
            return None
        options = [dataclasses.asdict(self.preprocess), dataclasses.asdict(self.infer), processed_hw]
        return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]


def parse_request(values: Mapping[str, Any], *, images: int | None, process_res: int | None = None) -> JobRequest:
    """Check the options of a job with so many images.

    Args:
        values: option name -> value, as plain data; what is absent has its default.
        images: number of images; None for a video.
        process_res: of the model, where the client names none.

    Raises:
        InputError: an unknown option, or a value that is wrong; the argument is the option.
    """
    if not isinstance(values, Mapping):
        raise InputError("options", repr(values), "an object of option names and values", option_names())
    if unknown := sorted(set(values) - set(option_names()), key=str):
        raise InputError(str(unknown[0]), "an unknown option", "an option of a job", option_names())
    chosen = {name: value for name, value in values.items() if name not in LEFT_OPEN or value is not None}
    if process_res is not None:
        chosen.setdefault("process_res", process_res)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        preprocess, infer, scene = (_build(cls, chosen) for cls in OPTION_CLASSES)
        _check_formats(scene, infer)
        _check_cameras(scene, images)
        if scene.video is not None and images is not None:
            raise InputError("video", "which frames to take, with photos", "a video among the images, alone")
    notes = tuple(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return JobRequest(preprocess=preprocess, infer=infer, scene=scene, given=dict(values), notes=notes)


def _build(cls: type[Any], values: Mapping[str, Any]) -> Any:
    names = {entry.name for entry in dataclasses.fields(cls)}
    return build_options(cls, {"": {name: value for name, value in values.items() if name in names}})


def _check_formats(scene: SceneOptions, infer: InferOptions) -> None:
    general = {
        "conf_thresh_percentile": scene.conf_thresh_percentile,
        "num_max_points": scene.num_max_points,
        "show_cameras": scene.show_cameras,
        "feat_vis_fps": scene.feat_vis_fps,
        "clean": scene.clean,
        "export_feat_layers": infer.export_feat_layers,
    }
    formats = parse_formats(scene.export_format or "mini_npz-glb")
    resolve_options(formats, scene.export_kwargs, shared_defaults(general))


def _check_cameras(scene: SceneOptions, images: int | None) -> None:
    if scene.extrinsics is None and scene.intrinsics is None:
        return
    if images is None:  # how many frames there are is seen when the video is read
        images = len(scene.extrinsics or scene.intrinsics or ())
    from depth_anything_3.infer.preprocess import check_cameras

    check_cameras(scene.extrinsics, scene.intrinsics, images, convention=scene.extrinsics_convention)


def options_schema() -> dict[str, Any]:
    """JSON schema of the options of a job, made from the dataclasses; descriptions come from their docstrings."""
    from pydantic import TypeAdapter

    properties: dict[str, Any] = {}
    for cls in OPTION_CLASSES:
        schema = TypeAdapter(cls).json_schema(ref_template="#/components/schemas/{model}")
        described = _descriptions(cls)
        for name, entry in schema["properties"].items():
            properties[name] = {**entry, **({"description": described[name]} if name in described else {})}
    properties["process_res"] = {
        "anyOf": [{"type": "integer", "minimum": 14}, {"type": "null"}],
        "default": None,
        "description": f"{properties['process_res']['description']} Null: the model's own.",
    }
    frames = TypeAdapter(VideoOptions).json_schema()
    described = _descriptions(VideoOptions)
    fields = {name: {**entry, "description": described[name]} for name, entry in frames["properties"].items()}
    properties["video"]["anyOf"][0] = {"type": "object", "properties": fields, "additionalProperties": False}
    refine = properties["refine"]
    text = f"{refine.pop('description')} Null: `full` where there are several images and the model gives cameras."
    properties["refine"] = {"anyOf": [refine, {"type": "null"}], "default": refine["default"], "description": text}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """Field -> its entry in the section ``Attributes`` of the docstring; one entry may name several fields."""
    found: dict[str, str] = {}
    current: Sequence[str] = ()
    for line in (cls.__doc__ or "").partition("Attributes:")[2].splitlines():
        text = line.strip()
        names, colon, rest = text.partition(": ")
        if colon and line.startswith(" " * 8) and not line.startswith(" " * 9):
            current = [name.strip() for name in names.split(",")]
            found |= dict.fromkeys(current, rest)
        elif text:
            found |= {name: f"{found[name]} {text}" for name in current}
        else:
            current = ()
    return {name: text.replace("``", "`") for name, text in found.items()}
