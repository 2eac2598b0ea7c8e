"""Started by the tests: trains until it is killed, at a place of its own choosing.

Arguments: a folder, and where to stop and wait: ``never``; ``data``, ``metadata``, ``rename``, in the middle of writing
a checkpoint; or ``removal``, in the middle of removing an old one.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from support.training import any_view

from depth_anything_3.train.trainer import Trainer

STEPS, STOP_AFTER = 60, 6


def wait(folder: Path) -> None:
    """Say so, and wait to be killed."""
    (folder / "waiting").touch()
    time.sleep(600)


def stop_at(place: str, folder: Path) -> None:
    """Replace what writes by something so slow that it never ends, from the fourth checkpoint on."""
    written = {"files": 0}
    fsync, replace, rmtree = os.fsync, Path.replace, shutil.rmtree

    def slow_fsync(file: int) -> None:
        partial = list(folder.glob(f"checkpoints/step_{STOP_AFTER:09d}.partial"))
        written["files"] += bool(partial)
        if partial and written["files"] == {"data": 1, "metadata": 2}.get(place):
            os.ftruncate(file, os.fstat(file).st_size // 2)  # the rest never reached the disk
            wait(folder)
        fsync(file)

    def slow_replace(self: Path, target: Path) -> Path:
        if place == "rename" and Path(target).name == f"step_{STOP_AFTER:09d}":
            wait(folder)
        return replace(self, target)

    def slow_rmtree(path: Path, **options: Any) -> None:
        if place == "removal" and (folder / "checkpoints" / f"step_{STOP_AFTER:09d}").exists():
            next(iter(Path(path).glob("*.distcp"))).unlink()
            wait(folder)
        rmtree(path, **options)

    os.fsync, Path.replace, shutil.rmtree = slow_fsync, slow_replace, slow_rmtree  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    stop_at(sys.argv[2], folder)
    Trainer(any_view(STEPS), folder).run()
