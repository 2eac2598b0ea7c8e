"""``da3 view``: a video and its depth in a browser, while both are computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from starlette.applications import Starlette

PORT = 8009


def view(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    model_dir: Annotated[
        str | None,
        typer.Option(
            help="Hub id, folder, or .safetensors file of the model, see 'da3 models'; or 'bundled'. Default: as in "
            "'da3 auto'.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Precision of the transformer: auto, float32, bfloat16, float16.")
    ] = "auto",
    process_res: Annotated[int, typer.Option(help="Length of the longest side of the depth maps, in pixels.")] = 252,
    fps: Annotated[float, typer.Option(help="Most frames per second.")] = 15.0,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = PORT,
    open_browser: Annotated[bool, typer.Option(help="Open the page.")] = False,
) -> None:
    """Watch a video in 3D: depth and colour, also in stereo and in VR."""
    with command_errors():
        from depth_anything_3._optional import require

        for module in ("starlette", "uvicorn", "websockets"):
            require(module, extra="serve")
        if process_res < 14:
            raise InputError("--process-res", str(process_res), "at least 14 pixels")
        from depth_anything_3.web.run import run

        app = _make_app(video, model_dir, device, dtype, process_res, fps)
        run(
            app,
            host=host,
            port=port,
            open_browser=open_browser,
            on_ready=lambda address: typer.echo(f"{video.name}: {address}  (Ctrl+C ends it)"),
        )


def _make_app(video: Path, model_dir: str | None, device: str, dtype: str, process_res: int, fps: float) -> Starlette:
    from depth_anything_3.io.video import iterate_video, probe_video
    from depth_anything_3.types.options import VideoOptions

    options = VideoOptions(fps=fps)
    info = probe_video(video)
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.view.app import make_app
    from depth_anything_3.view.estimate import Steady
    from depth_anything_3.view.playback import Playback
    from depth_anything_3.zoo.default import default_model

    source, local = model_dir, False
    if source is None:
        choice = default_model(ask=True)
        source, local = choice.source, choice.cached
        if choice.note:
            warnings.warn(choice.note, stacklevel=2)
    steady = Steady(
        DepthAnything3.from_pretrained(source, local_files_only=local, device=device, dtype=dtype), process_res
    )
    last = max(0.0, info.duration - 2 / (info.fps or fps)) if info.duration else None

    def playback(on_ready: Callable[[], None]) -> Playback:
        return Playback(
            lambda start: iterate_video(video, start=start if last is None else min(start, last), fps=options.fps),
            steady,
            reset=steady.reset,
            on_ready=on_ready,
        )

    return make_app(playback, {"name": video.name, "duration": info.duration, "model": steady.name})
