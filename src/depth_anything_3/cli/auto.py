"""``da3 auto``: whatever it is, to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import Scene, With, command
from depth_anything_3.types.options import FolderOptions


@command
def auto(
    input_path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A photo, a folder of photos of one scene, a video, or a folder with a COLMAP model, transforms.json "
            "or cameras.json, whose cameras are then used.",
        ),
    ],
    photos: Annotated[FolderOptions, With("recursive", "stride", "limit")],
    scene: Scene,
) -> None:
    """Reconstruct a photo, a folder of photos, a video or a COLMAP folder."""
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import reconstruct

    reconstruct(photos_in(input_path, photos, scene.cameras), scene)
