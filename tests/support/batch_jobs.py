"""Jobs that go wrong in known ways; workers of a cluster find them here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from depth_anything_3.errors import InputError


def let_workers_find_tests(patch: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on import ``support``, and nothing be asked of them in return."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))


def counting(folder: Path, job: int) -> int:
    """How often a job was begun, this time included, by whatever process."""
    with (folder / str(job)).open("a") as file:
        file.write("x")
    return (folder / str(job)).stat().st_size


def maker(folder: Path) -> Callable[[int], tuple[int, int]]:
    """Squares; 1 works the second time, 2 never, 3 is the fault of the input."""

    def work(job: int) -> tuple[int, int]:
        begun = counting(folder, job)
        if job == 2 or (job == 1 and begun == 1):
            raise RuntimeError(f"no {job}")
        if job == 3:
            raise InputError("job", "3", "another one")
        return job * job, os.getpid()

    return work


def deadly(folder: Path) -> Callable[[int], tuple[int, int]]:
    """Squares; the worker that begins job 5 for the first time dies of it, and so does every one that begins job 7."""

    def work(job: int) -> tuple[int, int]:
        if (counting(folder, job) == 1 and job == 5) or job == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return job * job, os.getpid()

    return work
