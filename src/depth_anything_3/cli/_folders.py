"""Where results go, and what may be replaced there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import MANIFEST, files_of_result

GALLERY = Path("workspace/gallery")


def gallery_folder(origin: Path) -> Path:
    """``workspace/gallery/<name>`` of an input, then ``<name>-2``, ``<name>-3``, ...: the first that is free."""
    name = (origin.resolve().stem if origin.is_file() else origin.resolve().name) or "scene"
    folder, number = GALLERY / name, 2
    while folder.exists():
        folder, number = GALLERY / f"{name}-{number}", number + 1
    return folder


def check_folder(
    folder: Path, planned: Sequence[str], *, overwrite: bool, own: Sequence[str] = (), begun: bool = False
) -> None:
    """Refuse a folder where something would be lost, or where nothing can be written.

    Args:
        folder: where results shall go.
        planned: the files that will be written, relative to it.
        overwrite: whether files of an earlier result may be replaced: those that ``exports.json`` lists.
        own: those of the planned files that this list leaves out; they are ours where ``exports.json`` is.
        begun: whether the folder holds a result that was begun: all planned files are ours, and may be replaced by
            going on with it, or, with ``overwrite``, by another one.

    Raises:
        InputError: the folder is a file or lies in one, or in a folder where one may not write; it holds files, and
            they may not be overwritten; or a file that would be replaced is not ours.

    Warns:
        UserWarning: files of the earlier result will stay, because the new one has none of their names.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError("--export-dir", f"{folder}, where {existing} is a file", "a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError("--export-dir", f"{folder}, where {existing} may not be written", "a folder that may be")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if begun and not overwrite:
        return
    if not overwrite:
        raise InputError("--export-dir", f"{folder}, which holds files", "an empty or new folder, or --overwrite")
    earlier = files_of_result(folder)
    ours = set() if earlier is None else {*earlier, *own, MANIFEST}
    foreign = next((name for name in planned if name not in ours and (folder / name).exists()), None)
    if foreign and not begun:
        reason = f"there is no {MANIFEST} beside it" if earlier is None else f"{MANIFEST} does not list it"
        got = f"{folder}, where {foreign} is not known to be ours: {reason}"
        raise InputError("--export-dir", got, "another folder; --overwrite replaces files of an earlier result")
    if left := sorted({name for name in earlier or () if (folder / name).exists()} - set(planned)):
        warnings.warn(f"{len(left)} file(s) of an earlier result stay in {folder}, such as {left[0]}", stacklevel=2)
