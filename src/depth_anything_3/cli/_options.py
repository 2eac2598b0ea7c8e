"""Every option of every command, declared once.

What an option is called, its type and its default stand in the dataclasses of the package (``types.options``, the
exporters' ``Options``) or, where only the command line has it, in the dataclasses here. :data:`FLAGS` says how it is
explained, and where it is typed otherwise. :func:`command` puts the options of a dataclass into a command.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from depth_anything_3.batch.engine import EngineOptions
from depth_anything_3.cli._console import command_errors
from depth_anything_3.errors import InputError
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.export.feat_vis import Options as FeatureOptions
from depth_anything_3.export.glb import Options as GlbOptions
from depth_anything_3.types.options import (
    CLEAN_PRESETS,
    FolderOptions,
    InferOptions,
    PreprocessOptions,
    StreamOptions,
    VideoOptions,
)

# --- what only the command line has -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KnownCameras:
    """What is known of the cameras, see :func:`depth_anything_3.io.cameras.given.open_views`."""

    poses: Path | None = None
    intrinsics: str | None = None


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What is known of several views, see :meth:`depth_anything_3.api.DepthAnything3.inference`."""

    masks: Path | None = None
    rig: str | None = None


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """How large pictures are split, see :meth:`depth_anything_3.api.DepthAnything3.tiled`."""

    tiled: bool = False
    tile: int | None = None
    tile_overlap: float = 0.25


@dataclass(frozen=True, kw_only=True)
class SphereOptions:
    """How pictures of all around are split, see :meth:`depth_anything_3.api.DepthAnything3.panorama`."""

    fov_deg: float = 100.0


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which weights, and where they run."""

    model_dir: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True, kw_only=True)
class RefinementOptions:
    """How far refinement goes, where there is any."""

    refine_depth: bool = True


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is written, and where. ``clean`` and those above it are for the formats that have such options."""

    export_dir: Path | None = None
    export_format: str = "glb"
    conf_thresh_percentile: float = GlbOptions.conf_thresh_percentile
    num_max_points: int = GlbOptions.num_max_points
    show_cameras: bool = GlbOptions.show_cameras
    feat_vis_fps: float = FeatureOptions.fps
    clean: str | None = None
    export_kwargs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    overwrite: bool = False

    @property
    def general(self) -> dict[str, Any]:
        """The options that :func:`depth_anything_3.export.base.shared_defaults` hands on to the formats."""
        names = ("conf_thresh_percentile", "num_max_points", "show_cameras", "feat_vis_fps", "clean")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is said."""

    dry_run: bool = False
    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Whether a running server does the work."""

    use_backend: bool = False
    backend_url: str = "http://localhost:8008"
    detach: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The options of every command that runs a model.

    Attributes:
        left_open: names of options that the model decides, because nothing was typed.
    """

    cameras: KnownCameras
    views: ViewOptions
    model: ModelOptions
    preprocessing: PreprocessOptions
    inference: InferOptions
    refinement: RefinementOptions
    files: FileOptions
    backend: BackendOptions
    report: ReportOptions
    left_open: frozenset[str] = frozenset()


# --- how an option is typed and explained -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An option as it is typed.

    Attributes:
        help: one or two sentences; the choices of a Literal are added.
        name: as typed, without dashes, where that is not the name of the field.
        also: further spellings, with dashes.
        typed: type and default on the command line, where the field's are not what is typed.
        read: what was typed, as the value of the field; None leaves the field at its default and the choice to the
            model.
        metavar: what stands for the value in the help.
        one_way: a switch without its opposite.
        shown: whether the help shows the default.
    """

    help: str
    name: str = ""
    also: tuple[str, ...] = ()
    typed: tuple[Any, Any] | None = None
    read: Callable[[Any], Any] | None = None
    metavar: str | None = None
    one_way: bool = False
    shown: bool = True


def block_indices(text: str) -> tuple[int, ...]:
    """``"5,11"`` as (5, 11).

    Raises:
        InputError: something in it is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError("--export-feat", repr(text), "block indices joined by commas, as in 5,11") from None


def format_options(text: str) -> dict[str, dict[str, object]]:
    """``"glb:camera_size:0.1,depth_raw:encoding:exr"`` as options by format.

    True, False, None, whole numbers and other numbers become such values, everything else stays text. A value may
    hold colons, but no comma.

    Raises:
        InputError: a part is not ``FORMAT:OPTION:VALUE``, or an option comes twice.
    """
    result: dict[str, dict[str, object]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, *rest = part.split(":", 2)
        if len(rest) != 2 or not name or not rest[0]:
            raise InputError("--export-kwargs", repr(part), "FORMAT:OPTION:VALUE, several joined by commas")
        if rest[0] in result.setdefault(name, {}):
            raise InputError("--export-kwargs", f"{name}:{rest[0]} twice", "each option once")
        result[name][rest[0]] = _value(rest[1])
    return result


def _value(text: str) -> object:
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _formats_starting_with(incomplete: str) -> list[str]:
    before, dash, last = incomplete.rpartition("-")
    return [f"{before}{dash}{name}" for name in EXPORTERS if name.startswith(last)]


_COMPLETIONS: dict[str, Callable[[str], list[str]]] = {"export_format": _formats_starting_with}

FLAGS: dict[str, Flag] = {
    # which pictures
    "recursive": Flag(help="Also take the photos in the folders below INPUT."),
    "stride": Flag(help="Take every how many-th photo of a folder, or frame of a video."),
    "limit": Flag(help="Take at most that many photos of a folder, or frames of a video. Default: all.", shown=False),
    "extensions": Flag(
        help="Take only photos with these file name extensions, joined by commas. Default: all that can be read.",
        name="image-extensions",
        typed=(str, ""),
        read=lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
        shown=False,
    ),
    # which frames
    "start": Flag(help="From this time on, in seconds. Default: the start of the video.", shown=False),
    "end": Flag(help="Before this time, in seconds. Default: the end of the video.", shown=False),
    "fps": Flag(
        help="Take so many frames a second, evenly by their times. Default: 1, or all that --stride takes.", shown=False
    ),
    "max_frames": Flag(help="Take at most that many frames, spread evenly. Default: all.", shown=False),
    # cameras
    "poses": Flag(
        help="Known cameras: a COLMAP model, transforms.json, cameras.json, or a trajectory of TUM or KITTI. Lens "
        "distortion is undone.",
        metavar="FILE",
        shown=False,
    ),
    "intrinsics": Flag(
        help="Known intrinsics: a file as for --poses, rows of 'fx fy cx cy' or a 3x3 matrix in pixels; a horizontal "
        "field of view such as 60deg; or 'exif', the focal length in the photos.",
        metavar="FILE|FOV|exif",
        shown=False,
    ),
    "masks": Flag(
        help="Folder of masks named like the photos, or like the frames in input_images; white keeps a pixel.",
        metavar="FOLDER",
        shown=False,
    ),
    "rig": Flag(
        help="The pictures are those of fixed cameras at one or several times, all cameras of the first time first: a "
        "file of their poses, or how many they are.",
        metavar="FILE|N",
        shown=False,
    ),
    "align_to_input_ext_scale": Flag(help="With known poses: return them as they are, with the depth at their scale."),
    # large and round pictures
    "tiled": Flag(help="Depth at the photo's own size, by tiles.", one_way=True),
    "tile": Flag(help="Side of a tile in pixels of the photo. Default: --process-res.", shown=False),
    "tile_overlap": Flag(help="Share of a tile that its neighbour shows too, up to a half."),
    "fov_deg": Flag(help="Field of view in degrees of the views that the picture is split into.", name="fov"),
    # model
    "model_dir": Flag(
        help="Hub id, folder, or .safetensors file of the model, see 'da3 models'; or 'bundled'. Default: "
        "depth-anything/DA3-BASE, and 'bundled' where that is neither in the cache nor to be had.",
        shown=False,
    ),
    "revision": Flag(help="Revision of a model on the hub.", shown=False),
    "device": Flag(help="auto, cpu, cuda, cuda:1, mps, ..."),
    "dtype": Flag(help="Precision of the transformer: auto, float32, bfloat16, float16."),
    # inference
    "process_res": Flag(
        help="Length of the bounded side, in pixels. Default: the model's own.", typed=(int | None, None), shown=False
    ),
    "process_res_method": Flag(help="What is bounded, and how sides become multiples of 14."),
    "alpha": Flag(help="What becomes of transparency."),
    "mixed_sizes": Flag(help="How photos of different shapes are brought to a common one."),
    "infer_gs": Flag(help="Also predict 3D Gaussians, for the formats that begin with gs_."),
    "gs_source": Flag(help="What makes them: the model's own head, or its depth alone."),
    "gs_refine": Flag(help="Steps in which Gaussians are optimised until pictures of them look like the photos."),
    "use_ray_pose": Flag(help="Cameras from the predicted rays."),
    "ref_view_strategy": Flag(help="How the reference view is chosen."),
    "metric_focal": Flag(help="Which focal length makes metres of what a metric model says."),
    "metric_res": Flag(
        help="Longest side in pixels of the picture that a metric model takes metres from, whatever --process-res is. "
        "Default: the model's own, or --process-res where it has none.",
        shown=False,
    ),
    "export_feat_layers": Flag(
        help="Transformer blocks whose features to keep, as in '5,11'.",
        name="export-feat",
        typed=(str, ""),
        read=block_indices,
        metavar="BLOCKS",
        shown=False,
    ),
    "refine": Flag(
        help="Let matches between the pictures correct cameras and depth. Default: where there are several and the "
        "model gives cameras.",
        typed=(bool | None, None),
        read={True: "full", False: "off", None: None}.get,
        shown=False,
    ),
    "matcher": Flag(
        help="What finds the matches: sift, attention (the model's own), sift+attention (the second where the first "
        "finds too little), or the name of another that is installed."
    ),
    "refine_depth": Flag(help="Refine the depth too, not only the cameras."),
    "shared_intrinsics": Flag(help="One predicted camera matrix for all pictures."),
    "square_pixels": Flag(help="Predicted cameras with fx = fy."),
    "derive_confidence": Flag(help="Confidence from how well the model agrees with itself on changed pictures."),
    "output_size": Flag(
        help="Depth, confidence and intrinsics for the pixels of the processed pictures, or of the input, which must "
        "then have one size."
    ),
    "max_memory": Flag(
        help="Memory that the model may take, in GB. Default: what the machine has free.", metavar="GB", shown=False
    ),
    "key_pooling": Flag(
        help="For many pictures, approximate: N x N neighbouring patches are one in attention across pictures; 1 is "
        "exact.",
        metavar="N",
    ),
    # long sequences
    "window": Flag(help="Frames that the network sees together."),
    "overlap": Flag(help="Frames that neighbouring windows share."),
    "loops": Flag(help="When to look for places seen again."),
    "conditioning": Flag(help="What a network that takes poses is told of the frames that a window shares."),
    "queue": Flag(help="Frames that are read ahead."),
    # files
    "export_dir": Flag(help="Folder for the results. Default: workspace/gallery/<name of INPUT>.", shown=False),
    "export_format": Flag(help=f"Format names joined by '-', of: {', '.join(EXPORTERS)}."),
    "conf_thresh_percentile": Flag(help="Share of the least confident pixels left out of clouds, in percent."),
    "num_max_points": Flag(help="Most points in a cloud."),
    "show_cameras": Flag(help="Draw the cameras in the GLB."),
    "feat_vis_fps": Flag(help="Pictures per second in films of features."),
    "clean": Flag(
        help=f"Clean clouds and meshes: one of {', '.join(CLEAN_PRESETS)}. Default: clouds by confidence alone, as "
        "--conf-thresh-percentile says; meshes 'clean'.",
        shown=False,
    ),
    "export_kwargs": Flag(
        help="Any option of a format, listed below: FORMAT:OPTION:VALUE, several joined by commas.",
        typed=(str, ""),
        read=format_options,
        metavar="FORMAT:OPTION:VALUE",
        shown=False,
    ),
    "overwrite": Flag(
        help="Write into a folder that holds files; replaces files of an earlier result, and no others.",
        also=("--auto-cleanup",),
        one_way=True,
    ),
    # where
    "use_backend": Flag(help="Upload the photos to a running 'da3 backend' and fetch the results.", one_way=True),
    "backend_url": Flag(help="Of the backend. An API key is read from the environment variable DA3_API_KEY."),
    "detach": Flag(
        help="With --use-backend: do not wait; print the id of the job, whose results stay with the backend.",
        one_way=True,
    ),
    # many scenes
    "engine": Flag(help="Who works: this process ('local'), or the workers of a Ray cluster."),
    "workers": Flag(help="Of Ray: jobs at a time at most. Default: as many as the cluster has room for.", shown=False),
    "address": Flag(help="Of a Ray cluster that runs already. Default: one is started on this machine.", shown=False),
    "gpus": Flag(help="Of each Ray worker; a part of one lets workers share it."),
    "attempts": Flag(help="How often what fails is tried, but for errors that say what is wrong with the input."),
    # what is said
    "dry_run": Flag(help="Check everything and say what would happen.", one_way=True),
    "as_json": Flag(help="Print one JSON object, also for errors.", name="json", one_way=True),
    "quiet": Flag(help="No progress and no summary.", also=("-q",), one_way=True),
}
"""Field name -> how it is typed and explained."""

PANELS: dict[type, str] = {
    FolderOptions: "Which pictures",
    VideoOptions: "Which pictures",
    KnownCameras: "Cameras",
    ViewOptions: "Cameras",
    TileOptions: "Tiles",
    SphereOptions: "Inference",
    ModelOptions: "Model",
    PreprocessOptions: "Inference",
    InferOptions: "Inference",
    RefinementOptions: "Refinement",
    StreamOptions: "Sequence",
    FileOptions: "Files",
    BackendOptions: "Backend",
    ReportOptions: "Report",
    EngineOptions: "Engine",
}
"""The heading in the help, by dataclass."""

_PANEL_OF_FIELD = {"align_to_input_ext_scale": "Cameras", "refine": "Refinement", "matcher": "Refinement"}

# How Python calls what is typed under another name; errors and warnings speak of these.
_ALIASES = {
    "source": "--model-dir",
    "extrinsics": "--poses",
    "export_feat_layers": "--export-feat",
    "preset": "--clean",
}


# --- from dataclasses to commands -------------------------------------------------------------------------------------


def flag_name(field: str) -> str:
    """How the option for a field is typed: ``export_feat_layers`` -> ``--export-feat``."""
    flag = FLAGS.get(field)
    return f"--{(flag and flag.name) or field.replace('_', '-')}"


class With:
    """In ``Annotated[SomeOptions, With(...)]``: which fields a command takes, and other defaults.

    Args:
        only: names of fields; empty for all, ``""`` for none.
        defaults: field -> default of this command.
    """

    def __init__(self, *only: str, **defaults: Any) -> None:
        self.only, self.defaults = only, defaults


NOT_OFFERED = With("")
"""In ``Annotated``: a command takes none of the fields; they keep their defaults."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A Typer command that takes the fields of its dataclass parameters as options.

    Parameters annotated with a dataclass are replaced by one option per field, those of dataclasses within it
    included; the function gets the dataclass. Errors of the package end the command as
    :func:`~depth_anything_3.cli._console.command_errors` says, in the words of the command line.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, _Group] = {}
    own: list[str] = []
    for name, hint in _hints(function).items():
        if (group := _group(hint)) is not None:
            groups[name] = group
            parameters += group.parameters()
        else:
            own.append(name)
            plain = inspect.signature(function).parameters[name]
            parameters.append(plain.replace(kind=plain.KEYWORD_ONLY, annotation=hint))
    words = _words(parameters)

    def run(**typed: Any) -> None:
        with command_errors(as_json=bool(typed.get("as_json")), spelled=words):
            built = {name: group.built(typed) for name, group in groups.items()}
            function(**{name: typed[name] for name in own}, **built)

    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _hints(item: Any) -> dict[str, Any]:
    hints = get_type_hints(item, include_extras=True)
    hints.pop("return", None)
    return hints


@dataclass(frozen=True)
class _Group:
    """A dataclass as options."""

    cls: type
    only: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def fields(self) -> list[tuple[dataclasses.Field[Any], Any]]:
        hints = _hints(self.cls)
        fields = [field for field in dataclasses.fields(self.cls) if field.name != "left_open"]
        return [(field, hints[field.name]) for field in fields if not self.only or field.name in self.only]

    def parameters(self) -> list[inspect.Parameter]:
        result = []
        for field, hint in self.fields():
            inner = _group(hint)
            result += [self._option(field, hint)] if inner is None else inner.parameters()
        return result

    def _option(self, field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
        flag = FLAGS[field.name]
        kind, default = flag.typed or (hint, field.default)
        default = self.defaults.get(field.name, default)
        text = flag.help
        if get_origin(kind) is Literal:
            text, kind = f"{text} One of {', '.join(get_args(kind))}.", str
        spelling = flag_name(field.name)
        if kind in (bool, bool | None) and not flag.one_way:
            spelling += f"/--no-{spelling.removeprefix('--')}"
        option = typer.Option(
            spelling,
            *flag.also,
            help=text,
            metavar=flag.metavar,
            show_default=flag.shown and not flag.one_way,
            rich_help_panel=_PANEL_OF_FIELD.get(field.name, PANELS.get(self.cls)),
            autocompletion=_COMPLETIONS.get(field.name),
        )
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )

    def built(self, typed: Mapping[str, Any]) -> Any:
        values, left_open = self._values(typed)
        if any(field.name == "left_open" for field in dataclasses.fields(self.cls)):
            values["left_open"] = left_open
        return self.cls(**values)

    def _values(self, typed: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
        values: dict[str, Any] = {}
        left_open: frozenset[str] = frozenset()
        for field, hint in self.fields():
            if (inner := _group(hint)) is not None:
                parts, below = inner._values(typed)
                values[field.name], left_open = inner.cls(**parts), left_open | below
                continue
            flag, value = FLAGS[field.name], typed[field.name]
            value = value if flag.read is None else flag.read(value)
            if flag.typed is not None and value is None:
                left_open |= {field.name}
            else:
                values[field.name] = value
        return values, left_open


def _group(hint: Any) -> _Group | None:
    """The options that an annotation stands for; None where it is one value."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    cls = get_args(hint)[0] if extras else hint
    if not dataclasses.is_dataclass(cls):
        return None
    chosen = next((extra for extra in extras if isinstance(extra, With)), With())
    return _Group(cls, chosen.only, chosen.defaults)  # type: ignore[arg-type]


def _words(parameters: list[inspect.Parameter]) -> dict[str, str]:
    """What Python calls by a name -> how this command spells it."""
    words = {}
    for parameter in parameters:
        info = get_args(parameter.annotation)[1]
        if isinstance(info, typer.models.ArgumentInfo):
            words[parameter.name] = str(info.metavar or parameter.name.upper()).removesuffix("...")
        else:
            words[parameter.name] = flag_name(parameter.name)
    present = set(words.values())
    return words | {name: flag for name, flag in _ALIASES.items() if flag in present}
