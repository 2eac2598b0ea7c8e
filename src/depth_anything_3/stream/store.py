"""The state of a long sequence on disk: one file that only grows.

``log.bin`` holds records behind each other: a header (what it is, how long, checksums) and its bytes. Some records
belong together, and only count once a *commit* record follows them; what comes after the last commit of a file is the
trace of a process that died, and is cut off when the file is opened again. So nothing is half there, and nothing there
twice. ``store.json`` says what the file was made with.

In memory are only the places of the records, a few dozen bytes each.
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError

LOG, MANIFEST = "log.bin", "store.json"
FORMAT_VERSION = 2

_MAGIC = b"D3st"
_HEADER = struct.Struct("<4s4sqQI")  # magic, kind, key, length, checksum of the bytes; its own checksum follows
_CHECK = struct.Struct("<I")
_HEAD = _HEADER.size + _CHECK.size
_COMMIT = "done"


def is_store(folder: str | os.PathLike[str]) -> bool:
    """Whether the state of a sequence is in a folder, whole or damaged."""
    log, manifest = Path(folder) / LOG, Path(folder) / MANIFEST
    if not manifest.is_file():
        return False
    if not log.is_file() or not log.stat().st_size:
        return b"format_version" in manifest.read_bytes()
    with log.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class _Place(NamedTuple):
    offset: int
    length: int
    checksum: int


class Store:
    """Records by kind and number, in a folder.

    Args:
        folder: made where needed; a store in it is gone on with.
        manifest: plain data that says what the records were made with; must be that of the store that is there.
        anew: discard the store that is there, whatever it was made with; other files stay.

    Raises:
        InputError: the folder holds other files, a store of something else, or a damaged one.
    """

    def __init__(self, folder: str | os.PathLike[str], manifest: Mapping[str, Any], *, anew: bool = False) -> None:
        self.folder = Path(folder)
        self._places: dict[str, dict[int, _Place]] = {}
        self._lock = threading.Lock()
        self._open_manifest(json.loads(json.dumps({"format_version": FORMAT_VERSION, **manifest})), anew)
        path = self.folder / LOG
        path.touch()
        self._file: BinaryIO = path.open("r+b")
        self._commits = 0
        self._end = self._scan()
        self._file.truncate(self._end)

    @property
    def commits(self) -> int:
        """How many commits there are."""
        return self._commits

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return self._end

    def put(self, kind: str, key: int, content: bytes) -> None:
        """Append a record; it counts from the next :meth:`commit` on.

        Raises:
            InputError: the kind has not four letters, or there is such a record.
        """
        if len(kind) != 4 or kind == _COMMIT:
            raise InputError("kind", repr(kind), "four ASCII letters")
        if key in self._places.get(kind, ()):
            raise InputError("key", f"{kind} {key}, which is there", "a new one")
        with self._lock:
            self._append(kind, key, content)

    def commit(self) -> None:
        """Make all records so far count, and wait until they are on the disk."""
        with self._lock:
            self._append(_COMMIT, self._commits, b"")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._commits += 1

    def get(self, kind: str, key: int) -> bytes:
        """The bytes of a record.

        Raises:
            InputError: there is none, or it is damaged.
        """
        place = self._places.get(kind, {}).get(key)
        if place is None:
            raise InputError("key", f"{kind} {key}", "a record of this store")
        with self._lock:
            self._file.seek(place.offset)
            content = self._file.read(place.length)
        if zlib.crc32(content) != place.checksum:
            raise InputError("store", f"{self.folder / LOG} ({kind} {key} is damaged)", "an undamaged store")
        return content

    def keys(self, kind: str) -> list[int]:
        """The numbers of all records of a kind, in the order in which they came."""
        return list(self._places.get(kind, ()))

    def in_order(self, kinds: Iterable[str]) -> list[tuple[str, int]]:
        """Kind and number of all records of some kinds, in the order in which they came."""
        found = [(place.offset, kind, key) for kind in kinds for key, place in self._places.get(kind, {}).items()]
        return [(kind, key) for _, kind, key in sorted(found)]

    def close(self) -> None:
        """Close the file; records without a commit are lost."""
        self._file.close()

    def _append(self, kind: str, key: int, content: bytes) -> None:
        checksum = zlib.crc32(content)
        head = _HEADER.pack(_MAGIC, kind.encode("ascii"), key, len(content), checksum)
        self._file.seek(self._end)
        self._file.write(head + _CHECK.pack(zlib.crc32(head)))
        self._file.write(content)
        self._note(kind, key, _Place(self._end + _HEAD, len(content), checksum))

    def _note(self, kind: str, key: int, place: _Place) -> None:
        self._end = place.offset + place.length
        if kind != _COMMIT:
            self._places.setdefault(kind, {})[key] = place

    def _open_manifest(self, manifest: dict[str, Any], anew: bool) -> None:
        path, anew = self.folder / MANIFEST, anew and is_store(self.folder)
        if anew:
            (self.folder / LOG).unlink(missing_ok=True)
        elif path.exists():
            found = _read_json(path)
            if found != manifest:
                got = f"{self.folder}, which was made with {', '.join(_differences(found, manifest))}"
                raise InputError("store", got, f"the same, another folder, or {self.folder} removed")
            return
        elif self.folder.is_dir() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise InputError("store", f"{self.folder}, which holds other files", "an empty or new folder, or a store")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _scan(self) -> int:
        """Read all headers; the end of the last commit."""
        end = 0
        pending: list[tuple[str, int, _Place]] = []
        size = self._file.seek(0, os.SEEK_END)
        position = 0
        while (found := self._header(position, size)) is not None:
            kind, key, place = found
            position = place.offset + place.length
            if kind == _COMMIT:
                for entry in pending:
                    self._note(*entry)
                pending, end, self._commits = [], position, self._commits + 1
            else:
                pending.append((kind, key, place))
        self._refuse_damage(position, size)
        return end

    def _header(self, position: int, size: int) -> tuple[str, int, _Place] | None:
        if position + _HEAD > size:
            return None
        self._file.seek(position)
        head, check = self._file.read(_HEADER.size), self._file.read(_CHECK.size)
        if _CHECK.unpack(check)[0] != zlib.crc32(head):
            return None
        magic, kind, key, length, checksum = _HEADER.unpack(head)
        if magic != _MAGIC or position + _HEAD + length > size:
            return None
        return kind.decode("ascii"), key, _Place(position + _HEAD, length, checksum)

    def _refuse_damage(self, position: int, size: int) -> None:
        """A process that dies leaves no commit behind the place where it stopped; a damaged disk does."""
        self._file.seek(position)
        rest, mark = self._file.read(), _MAGIC + _COMMIT.encode()
        found = rest.find(mark)
        while found >= 0:
            if self._header(position + found, size) is not None:
                raise InputError(
                    "store", f"{self.folder / LOG} (damaged at byte {position})", "an undamaged store, or a new folder"
                )
            found = rest.find(mark, found + 1)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("store", f"{path} ({error})", "an undamaged store, or a new folder") from error
    return dict(found)


def pack(**arrays: Any) -> bytes:
    """Arrays by name as compressed bytes; nothing is pickled."""
    buffer = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(buffer, **plain)
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """What :func:`pack` made bytes of.

    Raises:
        InputError: something else made them.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError("store", f"a record that cannot be read ({error})", "an undamaged store") from error


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, by the name of the innermost entry: ``window 10, not 12``."""
    told = []
    for name in {**found, **wanted}:
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            told += _differences(old, new)
        elif old != new:
            told.append(f"{name} {json.dumps(old)}, not {json.dumps(new)}")
    return told
