"""Paths that come from clients: opened one folder at a time below a root, never through a link.

A check of a path and a later opening of it are two moments, between which the path can change. Here every step is made
relative to the folder that is already open, and a symbolic link anywhere below the root is refused.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from depth_anything_3.errors import DA3Error, InputError

_LONGEST_NAME = 100


class ForbiddenPathError(DA3Error, PermissionError):
    """A client named a path that lies outside all roots, or that leads through a link."""


class Roots:
    """The folders under which paths of clients may lie.

    Args:
        folders: of the operator, who may give links; they are resolved once, now.

    Raises:
        InputError: one of them is no folder, or this system cannot open files relative to a folder.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        if folders and os.open not in os.supports_dir_fd:
            raise InputError("roots", "folders", "none on this system; clients can upload")
        self.folders = tuple(Path(folder).resolve() for folder in folders)
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError("roots", str(folder), "an existing folder")

    def locate(self, path: str) -> tuple[Path, tuple[str, ...]]:
        """The root that a path lies under by its spelling, and the names from there.

        Args:
            path: absolute, or relative to the first root.

        Raises:
            ForbiddenPathError: it lies under none of them, or holds ``..``.
        """
        if "\0" in path or not path:
            raise _forbidden(path)
        parts = Path(path).parts
        if ".." in parts:
            raise _forbidden(path)
        if not Path(path).is_absolute():
            if not self.folders:
                raise _forbidden(path)
            return self.folders[0], tuple(parts)
        for folder in self.folders:
            if parts[: len(folder.parts)] == folder.parts:
                return folder, tuple(parts[len(folder.parts) :])
        raise _forbidden(path)

    def open(self, path: str) -> BinaryIO:
        """Open a regular file below a root for reading.

        Raises:
            ForbiddenPathError: outside all roots, or a link on the way, or not a regular file.
            InputError: there is no such file.
        """
        root, names = self.locate(path)
        if not names:
            raise InputError("image_paths", repr(path), "an image file")
        try:
            with _folder(root, names[:-1], path) as folder:
                descriptor = _opened(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, folder, path)
        except FileNotFoundError:
            raise InputError("image_paths", f"{path[:200]} (no such file)", "an image file") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _forbidden(path)
        return os.fdopen(descriptor, "rb")

    def check_target(self, path: str) -> None:
        """Refuse a folder for results that lies outside all roots, leads through a link, or holds files."""
        root, names = self.locate(path)
        for count in range(len(names) + 1):
            try:
                with _folder(root, names[:count], path) as folder:
                    if count == len(names) and _has_entries(folder):
                        raise InputError("export_dir", f"{path}, which holds files", "an empty or new folder")
            except FileNotFoundError:
                return

    def deliver(self, source: Path, files: Sequence[str], path: str) -> None:
        """Copy files into a folder below a root, which is made; each appears whole.

        Args:
            source: our own folder.
            files: names relative to it.
            path: of the client.
        """
        root, names = self.locate(path)
        for name in files:
            parts = Path(name).parts
            with _folder(root, (*names, *parts[:-1]), path, make=True) as folder:
                temporary = f".{secrets.token_hex(8)}.tmp"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
                with os.fdopen(descriptor, "wb") as target, (source / name).open("rb") as content:
                    shutil.copyfileobj(content, target, 1 << 20)
                os.replace(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _folder(root: Path, names: Sequence[str], path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder ``names`` below ``root``; raises FileNotFoundError where it is absent."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=current)
            below = _opened(name, flags, current, path)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _has_entries(folder: int) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is not None


def _opened(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:  # a link (ELOOP), a file in the place of a folder, no permission, a name that is too long
        raise _forbidden(path) from None


def _forbidden(path: str) -> ForbiddenPathError:
    return ForbiddenPathError(
        f"{path[:200]!r} is not a plain path below a folder that this server was started for with --root; "
        "links are not followed"
    )


def safe_name(name: str) -> str:
    """A file name from one that a client chose: its last part, without anything that means something elsewhere.

    Letters and digits of all languages, ``.``, ``-``, ``_`` and single blanks stay; it never begins with a dot.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    kept = re.sub(r"[^\w.\- ]+", "_", last, flags=re.UNICODE)
    kept = re.sub(r"\s+", " ", kept).strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    short = f"{stem[: _LONGEST_NAME - 10]}{dot}{suffix[:8]}" if stem else kept[:_LONGEST_NAME]
    while len(short.encode()) > 200:  # file systems count bytes
        stem = stem[:-1]
        short = f"{stem}{dot}{suffix[:8]}" if stem else short[:-1]
    return short.strip(" .") or "image"
