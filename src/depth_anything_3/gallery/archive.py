"""Files as one zip file, sent while it is made: nothing is kept on disk or in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK = 1 << 20


class _Outbox(io.RawIOBase):
    """What zipfile writes to; it cannot be read or rewound."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.blocks.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self.blocks)
        self.blocks.clear()
        return data


def stream_zip(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of a zip file, not compressed: most results are already.

    Args:
        files: name in the archive, and file.
    """
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield outbox.take()
    yield outbox.take()
