"""CO3D: PyTorch3D's cameras (row vectors, x left, y up), depth as the bits of half precision."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


def write(
    category: Path, shots: Mapping[str, Shot], *, sequence: str = "110_13051_23361", factor: float = 1.0,
    quality: float = 1.0, intrinsics_format: str = "ndc_isotropic",
) -> None:  # fmt: skip
    """Stored depth times ``factor`` is that of the shots."""
    place = category / sequence
    for kind in ("images", "depths", "depth_masks"):
        (place / kind).mkdir(parents=True)
    entries = []
    for number, (name, shot) in enumerate(shots.items()):
        cv2.imwrite(str(place / "images" / f"{name}.jpg"), shot.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        half = np.where(shot.hit, shot.z / factor, np.inf).astype(np.float16)
        depth = f"{name}.jpg.geometric.png"
        cv2.imwrite(str(place / "depths" / depth), np.frombuffer(half.tobytes(), np.uint16).reshape(shot.size))
        cv2.imwrite(str(place / "depth_masks" / f"{name}.png"), shot.alpha)
        here = f"{category.name}/{sequence}"
        entries.append(
            {
                "sequence_name": sequence,
                "frame_number": 10 * number,
                "image": {"path": f"{here}/images/{name}.jpg", "size": list(shot.size)},
                "depth": {
                    "path": f"{here}/depths/{depth}",
                    "scale_adjustment": factor,
                    "mask_path": f"{here}/depth_masks/{name}.png",
                },
                "viewpoint": viewpoint(shot) | {"intrinsics_format": intrinsics_format},
            }
        )
    scores = [{"sequence_name": sequence, "category": category.name, "viewpoint_quality_score": quality}]
    for file, content in (("frame_annotations", entries[::-1]), ("sequence_annotations", scores)):
        (category / f"{file}.jgz").write_bytes(gzip.compress(json.dumps(content).encode()))


def viewpoint(shot: Shot) -> dict[str, object]:
    height, width = shot.size
    half, k = min(height, width) / 2, shot.k
    left_up_forward = np.diag([-1.0, -1.0, 1.0]) @ shot.w2c[:3]
    return {
        "R": left_up_forward[:, :3].T.tolist(),
        "T": left_up_forward[:, 3].tolist(),
        "focal_length": [k[0, 0] / half, k[1, 1] / half],
        "principal_point": [(width / 2 - k[0, 2]) / half, (height / 2 - k[1, 2]) / half],
    }
