"""``da3 image``: one photo to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import Scene, command
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import FolderOptions


@command
def image(
    image_path: Annotated[Path, typer.Argument(metavar="IMAGE_PATH", help="A photo.")],
    scene: Scene,
) -> None:
    """Reconstruct one photo."""
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import reconstruct

    if image_path.is_dir():
        raise InputError("IMAGE_PATH", f"{image_path}, a folder", "a photo; 'da3 images' takes folders")
    reconstruct(photos_in(image_path, FolderOptions(), scene.cameras), scene)
