"""``da3 video``: frames of a video to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import Scene, command
from depth_anything_3.types.options import VideoOptions


@command
def video(
    video_path: Annotated[Path, typer.Argument(metavar="VIDEO_PATH", help="A video.")],
    frames: VideoOptions,
    scene: Scene,
) -> None:
    """Reconstruct a scene from frames of a video."""
    from depth_anything_3.cli._film import film_of
    from depth_anything_3.cli._scene import reconstruct

    reconstruct(film_of(video_path, frames, scene.cameras), scene)
