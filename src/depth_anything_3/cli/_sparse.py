"""Folders of COLMAP, for ``auto`` and ``colmap``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import KnownCameras
from depth_anything_3.errors import InputError

SparseOption = Annotated[
    str,
    typer.Option(
        help="Folder below sparse/ that holds the model, such as 0. Default: found by itself.",
        rich_help_panel="Cameras",
        show_default=False,
    ),
]


def model_of(folder: Path, sparse_subdir: str, cameras: KnownCameras, *, argument: str) -> Path | None:
    """The model of a COLMAP folder that was asked for; None for the one that is found by itself.

    Raises:
        InputError: no such folders, or ``--poses`` beside ``--sparse-subdir``.
    """
    if not (folder / "images").is_dir() or not (folder / "sparse").is_dir():
        raise InputError(argument, str(folder), "a folder of COLMAP: images/ and sparse/")
    if not sparse_subdir:
        return None
    if cameras.poses is not None:
        raise InputError("--sparse-subdir", f"{sparse_subdir!r} with --poses", "one of the two")
    model = folder / "sparse" / sparse_subdir
    if not model.is_dir():
        below = sorted(path.name for path in (folder / "sparse").iterdir() if path.is_dir())
        raise InputError("--sparse-subdir", repr(sparse_subdir), f"a folder in {folder / 'sparse'}", below)
    return model
