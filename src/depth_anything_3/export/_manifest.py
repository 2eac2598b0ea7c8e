"""What an export is made of: the contents of ``exports.json``.

Everything that decides what the files hold, and nothing that differs between two runs that write the same: no clock.
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from depth_anything_3 import __version__
from depth_anything_3.export.base import MANIFEST_FORMAT
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

MANIFEST_VERSION = 1
_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch")


def manifest(
    prediction: Prediction,
    options: Mapping[str, object],
    files: Mapping[str, list[str]],
    model: Mapping[str, object],
    facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The contents, as plain data.

    Args:
        prediction: what was exported.
        options: format -> dataclass of its options.
        files: format -> what it wrote, relative to the folder.
        model: what is known of the checkpoint beyond the name of its architecture.
        facts: format -> what it has to say of what it wrote.

    Returns:
        ``inputs`` (name, size, orientation and resizing of every view), ``model``, ``formats`` (options and files),
        ``scale``, ``unit`` (``"metre"`` or None), ``metric_focal`` (whose focal length made metres), ``scale_factor``,
        ``convention`` of poses and pixels, ``refinement`` and ``gaussian_refinement`` (None where there was none),
        ``versions``, and the ``format`` and ``version`` of the manifest itself.
    """
    _, height, width = prediction.depth.shape
    return {
        "format": MANIFEST_FORMAT,
        "version": MANIFEST_VERSION,
        "inputs": inputs_of(prediction.names or [None] * len(prediction.depth), prediction.records),
        "processed_size": {"height": height, "width": width},
        "model": _plain({"model_name": prediction.model_name, **model}),
        "formats": {
            name: {"options": _plain(dataclasses.asdict(chosen)), "files": files[name], **_plain(facts.get(name, {}))}  # type: ignore[call-overload]
            for name, chosen in options.items()
        },
        "scale": prediction.scale,
        "unit": "metre" if prediction.is_metric else None,
        "metric_focal": prediction.metric_focal,
        "scale_factor": _plain(prediction.scale_factor),
        "convention": {"extrinsics": "world-to-camera", "axes": "opencv", "first_pixel_centre": 0.5},
        "refinement": None if prediction.refinement is None else _plain(prediction.refinement.as_dict()),
        "gaussian_refinement": (
            None if prediction.gaussian_refinement is None else dataclasses.asdict(prediction.gaussian_refinement)
        ),
        "versions": _versions(),
    }


def inputs_of(names: Sequence[str | None], records: Sequence[ResizeRecord]) -> list[dict[str, Any]]:
    """The entry ``inputs``: N names, with their records where there are any."""
    if not records:
        return [{"name": name} for name in names]
    return [{"name": n} | _plain(dataclasses.asdict(record)) for n, record in zip(names, records, strict=True)]


def _versions() -> dict[str, str]:
    found = {"depth-anything-3": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # OpenCV has several packages, and any of them will do
            continue
    return found


def _plain(value: Any) -> Any:
    """The same as JSON has it: tuples as lists, numbers that are not finite as words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
