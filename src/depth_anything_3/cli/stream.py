"""``da3 stream``: a long video or a large folder to cameras, depth and a cloud, in bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import human_size
from depth_anything_3.cli._folders import GALLERY, check_folder
from depth_anything_3.cli._options import (
    FileOptions,
    KnownCameras,
    ModelOptions,
    ReportOptions,
    ViewOptions,
    With,
    command,
)
from depth_anything_3.cli._scene import choose_model, load_model
from depth_anything_3.errors import InputError
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.types.options import FolderOptions, InferOptions, PreprocessOptions, StreamOptions, VideoOptions

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.stream.reconstructor import StreamingReconstructor
    from depth_anything_3.stream.sources import FrameSource

_OWN_FORMATS = ("ply", "tum", "kitti", "npz", "published")

_Refine = Annotated[
    InferOptions,
    With("refine", "matcher", "use_ray_pose", "ref_view_strategy", "metric_focal", "key_pooling", refine=False),
]
_Sequence = Annotated[StreamOptions, With("window", "overlap", "loops", "conditioning", "shared_intrinsics", "queue")]
_Files = Annotated[FileOptions, With("export_dir", "export_format", "overwrite", export_format="ply-tum")]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How frames become network inputs."""

    preprocessing: PreprocessOptions
    left_open: frozenset[str] = frozenset()

    def of(self, model: DepthAnything3) -> PreprocessOptions:
        """The options, with the model's own size where none was typed."""
        if "process_res" in self.left_open:
            return replace(self.preprocessing, process_res=model.process_res)
        return self.preprocessing


@command
def stream(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A video, a folder of photos in their order, or a folder with photos and cameras."
        ),
    ],
    photos: Annotated[FolderOptions, With("recursive", "stride", "limit")],
    clip: Annotated[VideoOptions, With("fps", "start", "end")],
    cameras: KnownCameras,
    views: Annotated[ViewOptions, With("masks")],
    model: ModelOptions,
    sequence: _Sequence,
    pictures: Pictures,
    inference: _Refine,
    files: _Files,
    report: Annotated[ReportOptions, With("as_json", "quiet")],
    memory: Annotated[
        float | None,
        typer.Option(
            help="Let the network take so many GB at most: leaner, and with smaller windows where that is not enough.",
            show_default=False,
        ),
    ] = None,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="The photos come in no order: put them into groups by what they show.")
    ] = False,
    voxel: Annotated[
        float | None,
        typer.Option(
            help="One point of the cloud per cube of this side. Default: 1 % of the median depth.", show_default=False
        ),
    ] = None,
    most_views: Annotated[int, typer.Option(help="Frames of formats that hold all of them in memory.")] = 200,
) -> None:
    """Reconstruct a long video or a large folder, frame by frame.

    Memory does not grow with the length. A run that was stopped goes on where it was when called again; with
    --overwrite it begins anew.

    Of the formats, ply, tum, kitti, npz and published hold all frames, the others at most --most-views.
    """
    started = time.perf_counter()
    formats = _formats(files.export_format)
    folder = files.export_dir or GALLERY / source.resolve().stem
    _check_folder(folder, formats, most_views, files.overwrite)
    frames = _open(source, photos, clip, cameras, views.masks)
    listed = frames.listed() if unordered else None
    chosen, local = choose_model(model, ask=True)
    loaded = load_model(model, chosen, local=local)
    preprocessing = pictures.of(loaded)

    from depth_anything_3.stream.collection import collect
    from depth_anything_3.stream.feed import feed
    from depth_anything_3.stream.output import write_results
    from depth_anything_3.stream.reconstructor import StreamingReconstructor

    if memory is not None:
        inference = replace(inference, max_memory=memory)
        sequence = _fitting(sequence, loaded, frames, preprocessing, inference)
    with (
        _of_folder(folder),
        StreamingReconstructor(
            loaded,
            sequence,
            preprocessing=preprocessing,
            inference=inference,
            store=_state(folder),
            anew=files.overwrite,
            total=None if unordered else frames.total,
            origin=_origin(source, chosen, model.revision, unordered, photos, clip, cameras, views),
        ) as reconstruction,
    ):
        came = reconstruction.received
        events = collect(reconstruction, listed) if listed is not None else feed(reconstruction, frames.frames(came))
        silent = report.quiet or report.as_json
        accepted = _follow(events, quiet=silent) + _follow(iter(reconstruction.finalize()), quiet=True)
        written = write_results(
            reconstruction, folder, formats, voxel=voxel, most_views=most_views, model=loaded.origin
        )
        if report.as_json or not report.quiet:
            _show(reconstruction, came, accepted, written, time.perf_counter() - started, report.as_json)


def _origin(source: Path, model: str, revision: str | None, unordered: bool, *choices: Any) -> dict[str, Any]:
    """What decides the frames and what is said of them: called again with anything else, a run does not go on."""
    found: dict[str, Any] = {"source": source.resolve(), "model": model, "revision": revision, "unordered": unordered}
    plain: dict[str, Any] = json.loads(json.dumps(found | {type(c).__name__: asdict(c) for c in choices}, default=str))
    return plain


def _check_folder(folder: Path, formats: Sequence[str], most_views: int, overwrite: bool) -> None:
    """Where the state of a run is, its files are ours: it may have ended before it could list them."""
    from depth_anything_3.stream.output import possible_files
    from depth_anything_3.stream.store import is_store

    planned = possible_files(folder, formats, most_views=most_views)
    check_folder(folder, planned, overwrite=overwrite, begun=is_store(_state(folder)))


@contextmanager
def _of_folder(folder: Path) -> Iterator[None]:
    """What is wrong with the state of a run is wrong with the folder that was typed."""
    from depth_anything_3.stream.store import is_store

    try:
        yield
    except InputError as error:
        if error.argument != "store":
            raise
        way_out = "; or --overwrite, to begin anew" if is_store(_state(folder)) else ""
        raise InputError("--export-dir", error.got, f"{error.expected}{way_out}") from error


def _state(folder: Path) -> Path:
    return folder / "state"


def _formats(text: str) -> list[str]:
    names, known = [name.strip() for name in text.split("-")], (*_OWN_FORMATS, *EXPORTERS)
    if wrong := [name for name in names if name not in known]:
        raise InputError("--export-format", repr(wrong[0]), "format names joined by '-'", dict.fromkeys(known))
    return list(dict.fromkeys(names))


def _open(
    source: Path, photos: FolderOptions, clip: VideoOptions, cameras: KnownCameras, masks: Path | None
) -> FrameSource:
    from depth_anything_3.io.video import is_video
    from depth_anything_3.stream.sources import open_source

    given: dict[str, Any] = {"poses": cameras.poses, "intrinsics": cameras.intrinsics, "masks": masks}
    if is_video(source):
        stride = None if photos.stride == 1 else photos.stride
        return open_source(source, video=replace(clip, stride=stride, max_frames=photos.limit), **given)
    return open_source(source, folder=photos, video=clip, **given)


def _fitting(
    options: StreamOptions,
    model: DepthAnything3,
    frames: FrameSource,
    preprocessing: PreprocessOptions,
    inference: InferOptions,
) -> StreamOptions:
    """The largest windows, up to those asked for, that ``inference.max_memory`` holds by the estimate."""
    from depth_anything_3.infer.plan import largest_window
    from depth_anything_3.infer.preprocess import plan_resize

    size, memory = plan_resize(frames.size, preprocessing).processed_hw, inference.max_memory
    assert memory is not None
    how: dict[str, Any] = {"device": model.device, "dtype": model.dtype, "kept_features": 1, "fast": model.fast}
    window = largest_window(model.model, size, int(memory * 1e9), most=options.window, **how)
    if window < 2 * options.overlap:
        raise InputError("--memory", f"{memory:g} GB, enough for windows of {window}", "more, or a smaller --overlap")
    return replace(options, window=window)


def _follow(events: Any, *, quiet: bool) -> int:
    """Use up the events; how many loops were accepted."""
    from depth_anything_3.stream.events import LoopChecked, WindowAdded

    accepted = 0
    for event in events:
        if isinstance(event, LoopChecked):
            accepted += event.check.accepted
        if isinstance(event, WindowAdded) and not quiet:
            typer.echo(f"frames {event.window.start} to {event.window.stop - 1}", err=True)
    return accepted


def _show(
    reconstruction: StreamingReconstructor, came: int, loops: int, files: list[Path], seconds: float, as_json: bool
) -> None:
    from depth_anything_3.cli._report import told_scale

    part = reconstruction.prediction([0])
    facts = {
        "frames": len(reconstruction),
        "resumed_at": came,
        "loops_accepted": loops,
        "inferred_per_frame": round(reconstruction.inferred / len(reconstruction), 3),
        "scale": part.scale,
        "metric_focal": part.metric_focal,
        "windows_conditioned": reconstruction.conditioned.count("held"),
        "conditioning_given_up": "disagreed" in reconstruction.conditioned,
        "state_bytes": reconstruction.store.size,
        "seconds": round(seconds, 1),
        "files": [str(path) for path in files],
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{facts['frames']} frames, {loops} loops, {told_scale(part, with_intrinsics=True)}, "
        f"{facts['inferred_per_frame']} frames inferred for each, {_told(reconstruction)}, {seconds:.0f} s; "
        f"state of {human_size(reconstruction.store.size)}"
    )
    for path in files[:10]:
        typer.echo(f"  {path}  ({human_size(path.stat().st_size)})")
    if len(files) > 10:
        typer.echo(f"  and {len(files) - 10} more")


def _told(reconstruction: StreamingReconstructor) -> str:
    told, windows = reconstruction.conditioned.count("held"), len(reconstruction.conditioned)
    if "disagreed" in reconstruction.conditioned:
        return f"poses given up in window {reconstruction.conditioned.index('disagreed') + 1} of {windows}"
    return f"poses told in {told} of {windows} windows"
