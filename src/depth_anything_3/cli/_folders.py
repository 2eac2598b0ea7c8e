"""Where results go, and what may be replaced there."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import MANIFEST

GALLERY = Path("workspace/gallery")


def gallery_folder(origin: Path) -> Path:
    """``workspace/gallery/<name>`` of an input, then ``<name>-2``, ``<name>-3``, ...: the first that is free."""
    name = (origin.resolve().stem if origin.is_file() else origin.resolve().name) or "scene"
    folder, number = GALLERY / name, 2
    while folder.exists():
        folder, number = GALLERY / f"{name}-{number}", number + 1
    return folder


def check_folder(folder: Path, planned: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a folder where something would be lost.

    Args:
        folder: where results shall go.
        planned: the files that will be written, relative to it.
        overwrite: whether files of an earlier result may be replaced. They are ours where ``exports.json`` is.

    Raises:
        InputError: the folder is a file or lies in one; it holds files, and they may not be overwritten; or a file
            that would be replaced is not ours.

    Warns:
        UserWarning: files of the earlier result will stay, because the new one has none of their names.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError("--export-dir", f"{folder}, where {existing} is a file", "a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise InputError("--export-dir", f"{folder}, which holds files", "an empty or new folder, or --overwrite")
    earlier = files_of_result(folder)
    if earlier is None:
        if foreign := next((name for name in planned if (folder / name).exists()), None):
            got = f"{folder}, where {foreign} is not known to be ours: there is no {MANIFEST} beside it"
            raise InputError("--export-dir", got, "another folder; --overwrite replaces files of an earlier result")
    elif left := sorted({name for name in earlier if (folder / name).exists()} - set(planned)):
        warnings.warn(f"{len(left)} file(s) of an earlier result stay in {folder}, such as {left[0]}", stacklevel=2)


def files_of_result(folder: Path) -> list[str] | None:
    """The files that an earlier result in a folder wrote, relative to it; None where there is no result of ours."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found["format"] != "depth-anything-3 exports":
            return None
        return [str(name) for entry in found["formats"].values() for name in entry["files"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
