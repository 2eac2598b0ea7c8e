"""Distances all around one place, on the pixels of the picture: ``panorama.npz`` and ``distance.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.export._colormap import colour_depth
from depth_anything_3.types.panorama import Panorama

FILES = ("panorama.npz", "distance.png")


def write_panorama(panorama: Panorama, folder: Path) -> list[Path]:
    """Write the maps of a panorama; its views are a prediction, which every exporter takes.

    ``panorama.npz`` holds ``distance`` (H, W) float32, NaN where there is none, ``rays`` (H, W, 3) float32 unit vectors
    (``distance * rays`` are the points, OpenCV axes), ``is_metric`` bool, and where they are known ``conf`` and ``sky``
    (H, W). ``distance.png`` shows the distances, near to far as in ``depth_vis``.
    """
    from PIL import Image

    arrays: dict[str, Any] = {name: getattr(panorama, name) for name in ("distance", "rays", "conf", "sky")}
    present = {name: value for name, value in arrays.items() if value is not None}
    paths = [folder / name for name in FILES]
    with atomic_path(paths[0]) as temporary:
        np.savez_compressed(temporary, is_metric=np.asarray(panorama.is_metric), **present)
    with atomic_path(paths[1]) as temporary:
        shown = (
            panorama.distance if panorama.sky is None else np.where(panorama.sky, np.float32(np.inf), panorama.distance)
        )
        Image.fromarray(colour_depth(shown)).save(temporary, format="PNG")
    return paths
