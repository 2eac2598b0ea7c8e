"""Seconds, peak memory and bytes of every exporter for a prediction with a million points.

usage: python benchmarks/exporters.py [--views 8] [--height 280] [--width 504] [--formats ply-glb]

Every exporter runs in a process of its own: peak memory is that of the process less what it held before. Times are
those of the processor. Formats that need an extra which is not installed, or Gaussians, are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peak import peak_bytes

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.export.base import EXPORTERS, export_all, resolve_options
from depth_anything_3.types.prediction import Prediction


def wall(views: int, height: int, width: int) -> Prediction:
    """Cameras that move past a wavy wall."""
    y, x = np.mgrid[:height, :width]
    focal = 0.8 * width
    depth = np.stack([4 + 0.2 * np.sin(x / 40 + i) + 0.1 * np.cos(y / 30) for i in range(views)])
    poses = np.tile(np.eye(3, 4, dtype=np.float32), (views, 1, 1))
    poses[:, 0, 3] = -0.1 * np.arange(views)
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    rng = np.random.default_rng(0)
    return Prediction(
        depth=depth.astype(np.float32),
        is_metric=True,
        extrinsics=poses,
        intrinsics=np.tile(matrix, (views, 1, 1)),
        processed_images=np.broadcast_to(rng.integers(0, 256, (height, width, 3), np.uint8), (views, height, width, 3)),
        aux={"feat_layer_11": rng.normal(size=(views, height // 14, width // 14, 384)).astype(np.float32)},
    )


def measure(name: str, prediction: Prediction) -> dict[str, float]:
    """What one exporter takes, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = peak_bytes(), time.process_time()
        paths = export_all(prediction, folder, resolve_options([name]))
        seconds = time.process_time() - start
        peak = peak_bytes() - before
        size = sum(path.stat().st_size for path in paths)
    return {"seconds": round(seconds, 2), "peak_mb": round(peak / 2**20, 1), "file_mb": round(size / 1e6, 2)}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("views", 8), ("height", 280), ("width", 504)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--formats", default="-".join(name for name in EXPORTERS if not name.startswith("gs_")))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = [f"--{name}={getattr(options, name)}" for name in ("views", "height", "width")]
    if options.one:
        try:
            print(json.dumps(measure(options.formats, wall(options.views, options.height, options.width))))
        except MissingExtraError:
            print("null")
        return
    results = {}
    for name in options.formats.split("-"):
        command = [sys.executable, __file__, *size, "--formats", name, "--one"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        if (result := json.loads(run.stdout)) is not None:
            results[name] = result
    points = options.views * options.height * options.width
    print(json.dumps({"script": Path(__file__).name, "points": points, "formats": results}, indent=1))


if __name__ == "__main__":
    main()
