"""A folder of results of many scenes: what is done, what failed, and what is left to do.

Every scene has a folder of its own, which appears when it is complete: until then it lies in ``.unfinished``.
``batch.json`` says for each scene where it came from, by which options, and why it failed where it did.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError

REPORT = "batch.json"
FORMAT = "depth-anything-3 batch"

_UNFINISHED = ".unfinished"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One scene of a batch.

    Attributes:
        source: the path that it is made from.
        identity: of the options, see :func:`identity_of`.
        error: why it failed, or None.
        attempts: how often it was tried.
        seconds: that it took.
    """

    source: str
    identity: str
    error: str | None = None
    attempts: int = 1
    seconds: float = 0.0


def identity_of(options: Mapping[str, object]) -> str:
    """Short hash of options: JSON values, collections and what can be printed, whatever the order of their names."""

    def plain(value: object) -> object:
        return list(value) if isinstance(value, Iterable) else str(value)

    return hashlib.sha256(json.dumps(options, sort_keys=True, default=plain).encode()).hexdigest()[:24]


def scene_names(paths: Sequence[Path]) -> list[str]:
    """A folder name for each scene: the last part of its path, with a number where several would be the same.

    Raises:
        InputError: there is no path, or one of them comes twice.
    """
    whole = [path.resolve() for path in paths]
    if not whole or len(set(whole)) != len(whole):
        raise InputError("scenes", "none" if not whole else "a path twice", "at least one scene, each once")
    names: list[str] = []
    for path in whole:
        plain = (path.stem if path.is_file() else path.name).lstrip(".") or "scene"
        name, number = plain, 2
        while name.casefold() in {taken.casefold() for taken in (*names, REPORT)}:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def is_done(folder: Path, name: str, entry: Entry | None, identity: str) -> bool:
    """Whether a scene need not be made again.

    Raises:
        InputError: its folder holds something else: another scene, a result of other options, or files of others.
    """
    place = folder / name
    if not place.exists():
        return False
    if entry is not None and entry.error is None and entry.identity == identity:
        return True
    why = "nothing of a batch" if entry is None else "a result of other options"
    raise InputError("--export-dir", f"{place}, which holds {why}", "another folder, or --overwrite")


def read_report(folder: Path) -> dict[str, Entry]:
    """The scenes of a folder by name; none where there is no report.

    Raises:
        InputError: the report is damaged, or not ours.
    """
    file = folder / REPORT
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return {name: Entry(**entry) for name, entry in content["scenes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("--export-dir", f"{file} ({error})", "an undamaged report of a batch") from error


def write_report(folder: Path, entries: Mapping[str, Entry]) -> Path:
    """Write ``batch.json``; it appears whole."""
    content = {"format": FORMAT, "version": 1, "scenes": {name: asdict(entry) for name, entry in entries.items()}}
    with atomic_path(folder / REPORT) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / REPORT


@contextmanager
def unfinished(folder: Path, name: str) -> Iterator[Path]:
    """An empty folder for a scene that becomes ``folder/name`` when all went well; files replace those of the same name
    there, and others stay. What an earlier attempt left unfinished goes at once."""
    place, final = folder / _UNFINISHED / name, folder / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    yield place
    if final.exists():
        _move_into(place, final)
    else:
        place.replace(final)
    with suppress(OSError):  # others are at work in there
        place.parent.rmdir()


def _move_into(place: Path, final: Path) -> None:
    for file in [path for path in place.rglob("*") if not path.is_dir()]:
        target = final / file.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(place)
