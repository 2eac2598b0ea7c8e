"""How long refinement takes beside the network itself, on rendered views of a textured scene.

usage: python benchmarks/refinement.py [--views 16] [--height 480] [--width 640] [--threads 2] [--models NAME ...]

The views are a walk through a procedural scene. ``bundled`` is the network that comes with the package; other names are
presets with seeded weights, whose time is that of the trained ones. Prints seconds of the clock for the network (images
to prediction), for ``refine="poses"`` and for ``refine="full"`` on top of it, and the ratios; nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import build, film

SEED = 910_008


def walk(views: int, height: int, width: int) -> list[npt.NDArray[np.uint8]]:
    """Pictures of a walk through an open place."""
    scene, _ = build(SEED)
    cameras = make_cameras(scene, views, height, width, seed=SEED, kind="walk", fov_deg=60.0, off_centre=False)
    sample = film(scene, (), cameras, height, width)
    return list(to_bytes(torch.from_numpy(sample.rgb)).numpy())


def measure(name: str, images: list[npt.NDArray[np.uint8]]) -> dict[str, object]:
    """Seconds of one model, the best of two runs of each mode."""
    model = DepthAnything3.from_pretrained(name) if name == "bundled" else DepthAnything3(name)
    seconds = {}
    for mode in ("off", "poses", "full"):
        times = []
        for _ in range(2):
            start = time.perf_counter()
            prediction = model.inference(list(images), refine=mode)
            times.append(time.perf_counter() - start)
        seconds[mode] = min(times)
    assert prediction.refinement is not None
    added = {mode: round(seconds[mode] - seconds["off"], 2) for mode in ("poses", "full")}
    return {
        "model": name,
        "network_s": round(seconds["off"], 2),
        "added_s": added,
        "added_by_network": {mode: round(value / seconds["off"], 2) for mode, value in added.items()},
        "cameras_placed": prediction.refinement.pose_source.count("matches"),
    }


def main() -> None:
    """Render, run, print JSON, and write it beside the other results."""
    parser = argparse.ArgumentParser(description="Seconds that refinement adds.")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["bundled", "da3-small"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    images = walk(arguments.views, arguments.height, arguments.width)
    result = {
        "views": arguments.views,
        "size": [arguments.height, arguments.width],
        "threads": arguments.threads,
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "models": [measure(name, images) for name in arguments.models],
    }
    text = json.dumps(result, indent=2)
    print(text)
    (Path(__file__).parent / "results" / "refinement.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
