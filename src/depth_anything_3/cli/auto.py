"""``da3 auto``: whatever it is, to files."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._options import KnownCameras, Scene, With, command
from depth_anything_3.cli._sparse import SparseOption, model_of
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import FolderOptions, VideoOptions

if TYPE_CHECKING:
    from depth_anything_3.cli._material import Material

_EXPECTED = "a photo, a folder of photos, a video, or a folder with a COLMAP model"


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
    frames: Annotated[VideoOptions, With("fps", "start", "end")],
    scene: Scene,
    sparse_subdir: SparseOption = "",
) -> None:
    """Reconstruct a photo, a folder of photos, a video or a COLMAP folder."""
    from depth_anything_3.cli._scene import reconstruct

    reconstruct(material_of(input_path, photos, frames, sparse_subdir, scene.cameras), scene)


def material_of(
    path: Path, photos: FolderOptions, frames: VideoOptions, sparse_subdir: str, cameras: KnownCameras
) -> Material:
    """What a path holds, whatever it is; options that do nothing for it are warned of."""
    from depth_anything_3.cli._film import film_of
    from depth_anything_3.cli._material import photos_in
    from depth_anything_3.io.video import is_video

    if not os.path.lexists(path):
        raise InputError("INPUT", f"{path} (no such file or folder)", _EXPECTED)
    if is_video(path) and path.is_file():
        if photos.recursive or sparse_subdir:
            warnings.warn("--recursive, --sparse-subdir: no effect on a video", stacklevel=2)
        stride = None if photos.stride == 1 else photos.stride
        return film_of(path, replace(frames, stride=stride, max_frames=photos.limit), cameras)
    if typed := [f"--{name}" for name in ("fps", "start", "end") if getattr(frames, name) is not None]:
        warnings.warn(f"{', '.join(typed)}: no effect on photos", stacklevel=2)
    model = model_of(path, sparse_subdir, cameras, argument="INPUT") if sparse_subdir else None
    return photos_in(path, photos, cameras, model=model)
