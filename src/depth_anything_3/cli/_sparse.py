"""Folders of COLMAP, for ``auto`` and ``colmap``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._options import KnownCameras
from depth_anything_3.errors import InputError

_EXPECTED = "a folder with images/ and sparse/ (the model: cameras and images, .bin or .txt, there or in sparse/0)"

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
    missing = [name for name in ("images", "sparse") if not (folder / name).is_dir()]
    if missing:
        raise _not_of_colmap(folder, missing, argument)
    if not sparse_subdir:
        return None
    if cameras.poses is not None:
        raise InputError("--sparse-subdir", f"{sparse_subdir!r} with --poses", "one of the two")
    model = folder / "sparse" / sparse_subdir
    if not model.is_dir():
        below = sorted(path.name for path in (folder / "sparse").iterdir() if path.is_dir())
        raise InputError("--sparse-subdir", repr(sparse_subdir), f"a folder in {folder / 'sparse'}", below)
    return model


def _not_of_colmap(folder: Path, missing: list[str], argument: str) -> InputError:
    """What is missing, and which command takes what is there."""
    if not folder.is_dir():
        return InputError(argument, f"{folder} (no such folder)", _EXPECTED)
    got = f"{folder} (without {' and '.join(f'{name}/' for name in missing)})"
    if missing == ["sparse"]:
        return InputError(argument, got, f"{_EXPECTED}; without cameras: da3 images {folder / 'images'}")
    if missing == ["images"]:
        return InputError(argument, got, f"{_EXPECTED}; photos elsewhere: da3 images PHOTOS --poses {folder}")
    return InputError(argument, got, f"{_EXPECTED}; a model elsewhere: da3 images PHOTOS --poses MODEL")
