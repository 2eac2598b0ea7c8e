"""Files that appear whole or not at all, and files that strangers may name."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNSAFE = frozenset("\\:") | frozenset(map(chr, range(32)))


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it is renamed to ``target``, on failure removed.

    The temporary name keeps the suffix, because some writers choose their format by it. Parent folders are made.
    """
    final = Path(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.stem}.{secrets.token_hex(4)}.tmp{final.suffix}")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def path_inside(root: str | os.PathLike[str], relative: str) -> Path | None:
    """The file or folder called ``relative`` below ``root``, or None where that is not one that lies in it.

    For names from strangers. None for names that are absolute, have parts ``.``, ``..`` or empty ones, backslashes,
    colons or control characters, lead through a symbolic link, or are neither a regular file nor a folder.
    """
    parts = relative.split("/")
    if any(part in ("", ".", "..") or set(part) & _UNSAFE for part in parts):
        return None
    path = Path(root).resolve()
    try:
        for part in parts:
            path = path / part
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return None
    except (OSError, ValueError):  # ValueError: characters that no file name can have
        return None
    return path
