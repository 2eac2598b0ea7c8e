"""MegaDepth with dense depth: two packages side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.colmap import Point, Registered, write_text


def write(root: Path, shots: Mapping[str, Shot], *, number: str = "0022") -> None:
    import h5py

    dense = root / "MegaDepth_v1" / number / "dense0"
    for kind in ("imgs", "depths"):
        (dense / kind).mkdir(parents=True)
    for name, shot in shots.items():
        cv2.imwrite(str(dense / "imgs" / f"{name}.jpg"), shot.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        with h5py.File(dense / "depths" / f"{name}.h5", "w") as stream:
            stream["depth"] = np.where(shot.hit, shot.z, 0).astype(np.float32)
    registered = [Registered(f"{name}.jpg", shot, [(1.0, 2.0, -1)]) for name, shot in shots.items()]
    model = root / "MegaDepth_v1_SfM" / number / "sparse" / "manhattan" / "0"
    write_text(model, registered, [Point(1, (0, 0, 1), 0.5, [(1, 0)])], (0.0, 0.0, 0.0, 0.0))
