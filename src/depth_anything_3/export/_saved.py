"""Results that were saved, as predictions again."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3.errors import InputError
from depth_anything_3.export import mini_npz, npz
from depth_anything_3.export.base import MANIFEST
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.options import FOCAL_ORIGINS
from depth_anything_3.types.prediction import Prediction

_EXPECTED = "a file of Prediction.save, a results.npz, or a folder that da3 wrote with the format npz or mini_npz"


def saved_result(path: str | os.PathLike[str]) -> Path | None:
    """The file with the arrays that a path stands for: an ``.npz`` file, or a folder of results with one in it."""
    given = Path(path)
    if given.is_file():
        return given if given.suffix == ".npz" else None
    return next((given / file for file in (npz.FILE, mini_npz.FILE) if (given / file).is_file()), None)


def load_result(path: str | os.PathLike[str], *, argument: str = "path") -> Prediction:
    """A saved prediction: without loss from ``Prediction.save``, else what the formats ``npz`` and ``mini_npz`` keep.

    Sizes and orientation of the inputs, the name of the model and whose focal length made metres, which these do not
    hold, are taken from the ``exports.json`` of the folder.

    Args:
        path: see :func:`saved_result`.
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        InputError: no such file, a damaged one, or one that is no result.
    """
    file = saved_result(path)
    if file is None:
        raise InputError(argument, str(path), _EXPECTED)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(argument, f"{file} ({error})", _EXPECTED) from error
    try:
        if "metadata" in arrays:
            return Prediction.load(file)
        return _from_arrays(arrays, _manifest_of(file))
    except (InputError, KeyError) as error:
        reason = f"no array {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(argument, f"{file} ({reason})", _EXPECTED) from error


def _from_arrays(arrays: Mapping[str, Any], manifest: Mapping[str, Any]) -> Prediction:
    fields = {name: arrays[name] for name in ("conf", "extrinsics", "intrinsics", "sky", "valid") if name in arrays}
    return Prediction(
        arrays["depth"],
        bool(arrays.get("is_metric", False)),
        **fields,
        processed_images=arrays.get("image"),
        scale_factor=float(arrays["scale_factor"]) if "scale_factor" in arrays else None,
        names=tuple(str(name) for name in arrays.get("names", ())),
        timestamps=tuple(float(time) for time in arrays.get("timestamps", ())),
        observations=Observations.from_arrays(arrays),
        records=_records(manifest, len(arrays["depth"])),
        model_name=str(manifest.get("model", {}).get("model_name", "")),
        metric_focal=focal if (focal := manifest.get("metric_focal")) in FOCAL_ORIGINS else None,
    )


def _manifest_of(file: Path) -> dict[str, Any]:
    try:
        content = json.loads((file.parents[2] / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError):
        return {}
    return content if isinstance(content, dict) else {}


def _records(manifest: Mapping[str, Any], count: int) -> tuple[ResizeRecord, ...]:
    try:
        records = tuple(
            ResizeRecord(
                source_hw=tuple(entry["source_hw"]),
                processed_hw=tuple(entry["processed_hw"]),
                scale_xy=tuple(entry["scale_xy"]),
                offset_xy=tuple(entry["offset_xy"]),
                exif_orientation=int(entry["exif_orientation"]),
            )
            for entry in manifest["inputs"]
        )
    except (KeyError, TypeError, ValueError):
        return ()
    return records if len(records) == count else ()
