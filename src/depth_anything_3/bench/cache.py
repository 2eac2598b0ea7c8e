"""Predictions on disk, apart from their evaluation, under a hash of model, options and frames."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.batch.folder import identity_of
from depth_anything_3.bench.evaluate import Estimate

_ARRAYS = ("depth", "extrinsics", "intrinsics", "pair_poses", "pictures")
_VERSION = 1


def digest(content: Mapping[str, Any]) -> str:
    """Short hash of what decides a prediction, in this version of the cache."""
    return identity_of({**content, "version": _VERSION})


class PredictionCache:
    """A folder of predictions.

    Args:
        folder: made when the first prediction is kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, key: Mapping[str, Any]) -> tuple[Estimate, float] | None:
        """The prediction and the seconds it took, or None. A damaged file counts as none, and is made again."""
        if self.folder is None or not (file := self._file(key)).is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in _ARRAYS if name in data.files}
                return Estimate(**arrays), float(data["seconds"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def put(self, key: Mapping[str, Any], estimate: Estimate, seconds: float) -> None:
        """Keep a prediction; the file appears whole."""
        if self.folder is None:
            return
        arrays = {name: np.asarray(v) for name in _ARRAYS if (v := getattr(estimate, name)) is not None}
        # Half of the bytes, and far below any error of a network.
        arrays = {name: v.astype(np.float32) if name == "depth" else v for name, v in arrays.items()}
        with atomic_path(self._file(key)) as temporary, temporary.open("wb") as file:
            np.savez(file, seconds=seconds, key=json.dumps(key, sort_keys=True, default=list), **arrays)  # type: ignore[arg-type]

    def _file(self, key: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        name = digest(key)
        return self.folder / name[:2] / f"{name}.npz"
