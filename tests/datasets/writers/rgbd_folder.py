"""Plain folders of colour and depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets.world import Shot


def write(folder: Path, shots: Sequence[Shot], *, depth: str = "npy", names: Sequence[str] = (), **fields: Any) -> None:
    """``fields`` are added to ``scene.npz``; those that are None are left out of it."""
    for kind in ("images", "depth", "sky", "mask"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    names = list(names) or [f"{i}.5" for i in range(len(shots))]
    for name, shot in zip(names, shots, strict=True):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), shot.image[..., ::-1])
        z = np.where(shot.hit, shot.z, 0)
        if depth == "npy":
            np.save(folder / "depth" / f"{name}.npy", z.astype(np.float32))
        else:
            cv2.imwrite(str(folder / "depth" / f"{name}.png"), np.rint(z * 1000).astype(np.uint16))
        cv2.imwrite(str(folder / "sky" / f"{name}.png"), np.where(shot.hit, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "mask" / f"{name}.png"), shot.alpha)
    k, c2w = np.stack([shot.k for shot in shots]), np.stack([shot.c2w for shot in shots])
    content = {"names": np.array(names), "K": k, "c2w": c2w, **fields}
    np.savez(folder / "scene.npz", **{key: value for key, value in content.items() if value is not None})
