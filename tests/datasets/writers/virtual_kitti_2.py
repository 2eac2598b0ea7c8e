"""Virtual KITTI 2: three archives unpacked side by side; centimetres, world-to-camera as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


def write(root: Path, shots: Mapping[str, Shot], *, scene: str = "Scene01/clone") -> None:
    """Names of shots are frame and camera (``00000-0``)."""
    text = root / "vkitti_2.0.3_textgt" / scene
    text.mkdir(parents=True)
    inner, outer = ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"], ["frame cameraID r1,1 r1,2 ... 0 0 0 1"]
    for name, shot in shots.items():
        frame, camera = name.split("-")
        files = {
            "rgb": (f"rgb_{frame}.jpg", shot.image[..., ::-1]),
            "depth": (f"depth_{frame}.png", np.where(shot.hit, np.rint(shot.z * 100), 65535).astype(np.uint16)),
        }
        for kind, (file, content) in files.items():
            folder = root / f"vkitti_2.0.3_{kind}" / scene / "frames" / kind / f"Camera_{camera}"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / file), content, [cv2.IMWRITE_JPEG_QUALITY, 98] if kind == "rgb" else [])
        start, k = f"{int(frame)} {camera}", shot.k
        inner.append(f"{start} {k[0, 0]:.9g} {k[1, 1]:.9g} {k[0, 2]:.9g} {k[1, 2]:.9g}")
        outer.append(f"{start} " + " ".join(f"{x:.9g}" for x in shot.w2c.ravel()))
    (text / "intrinsic.txt").write_text("\n".join(inner) + "\n")
    (text / "extrinsic.txt").write_text("\n".join(outer) + "\n")
