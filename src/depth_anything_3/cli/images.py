"""``da3 images``: a folder of photos of one scene to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import Scene, With, command
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import FolderOptions


@command
def images(
    images_dir: Annotated[Path, typer.Argument(metavar="IMAGES_DIR", help="A folder of photos of one scene.")],
    photos: Annotated[FolderOptions, With(extensions="png,jpg,jpeg")],
    scene: Scene,
) -> None:
    """Reconstruct a scene from a folder of photos."""
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import reconstruct

    if images_dir.is_file():
        raise InputError("IMAGES_DIR", f"{images_dir}, a file", "a folder; 'da3 image' takes one photo")
    reconstruct(photos_in(images_dir, photos, scene.cameras), scene)
