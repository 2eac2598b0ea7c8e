"""A lock that belongs to a process and goes with it, however it ends."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from types import TracebackType

from depth_anything_3.errors import DA3Error


class LockedError(DA3Error, OSError):
    """Another process holds the lock."""


class ProcessLock:
    """Held by one process at a time; the operating system frees it when that process dies.

    An open write transaction of SQLite on an empty file is such a lock on every system.

    Args:
        path: of the lock file; made where needed, never removed.
        timeout: seconds to wait for the holder.

    Raises:
        LockedError: on entering, if the lock is still held after that time.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 0.0) -> None:
        self.path, self.timeout = Path(path), timeout
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> ProcessLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        end = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError:
                if time.monotonic() >= end:
                    connection.close()
                    raise LockedError(f"{self.path} is held by another process") from None
                time.sleep(0.02)
        self._connection = connection
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
