"""``da3 colmap``: photos with the cameras of a COLMAP model, to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import Scene, With, command
from depth_anything_3.cli._sparse import SparseOption, model_of
from depth_anything_3.types.options import FolderOptions


@command
def colmap(
    colmap_dir: Annotated[Path, typer.Argument(metavar="COLMAP_DIR", help="A folder with images/ and sparse/.")],
    scene: Scene,
    photos: Annotated[FolderOptions, With("recursive", "stride", "limit")],
    sparse_subdir: SparseOption = "",
) -> None:
    """Reconstruct the photos of a COLMAP folder, with its cameras."""
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.cli._scene import reconstruct

    model = model_of(colmap_dir, sparse_subdir, scene.cameras, argument="COLMAP_DIR")
    reconstruct(photos_in(colmap_dir, photos, scene.cameras, model=model, argument="COLMAP_DIR"), scene)
