"""How long refinement takes beside the network itself, on rendered views of a textured scene.

usage: python benchmarks/refinement.py [--views 16] [--height 480] [--width 640] [--threads 2] [--presets NAME ...]

The views are a walk through a procedural scene. Prints seconds of the clock for the bundled network (images to
prediction), and for ``refine="poses"`` and ``refine="full"`` on top of it. Presets are larger networks with random
weights, whose time is that of the trained ones; what refinement adds is set against their time too. Nothing else should
run.
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
from depth_anything_3.types.options import RefineMode
from depth_anything_3.types.prediction import Prediction

SEED = 910_008


def walk(views: int, height: int, width: int) -> list[npt.NDArray[np.uint8]]:
    """Pictures of a walk through an open place."""
    scene, _ = build(SEED)
    cameras = make_cameras(scene, views, height, width, seed=SEED, kind="walk", fov_deg=60.0, off_centre=False)
    sample = film(scene, (), cameras, height, width)
    return list(to_bytes(torch.from_numpy(sample.rgb)).numpy())


def seconds(model: DepthAnything3, images: list[npt.NDArray[np.uint8]], mode: RefineMode) -> tuple[float, Prediction]:
    """The better of two runs, and the prediction."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        prediction = model.inference(list(images), refine=mode)
        times.append(time.perf_counter() - start)
    return min(times), prediction


def measure(images: list[npt.NDArray[np.uint8]], presets: list[str]) -> dict[str, object]:
    """Seconds of the networks, what each mode adds to the bundled one, and its ratio to the time of each network."""
    model = DepthAnything3.from_pretrained("bundled")
    alone, _ = seconds(model, images, "off")
    network = {"bundled": alone} | {name: seconds(DepthAnything3(name), images, "off")[0] for name in presets}
    poses, full = (seconds(model, images, mode) for mode in ("poses", "full"))
    added = {"poses": poses[0] - alone, "full": full[0] - alone}
    assert full[1].refinement is not None
    return {
        "network_s": {name: round(value, 2) for name, value in network.items()},
        "added_s": {mode: round(value, 2) for mode, value in added.items()},
        "added_by_network": {
            name: {mode: round(value / took, 2) for mode, value in added.items()} for name, took in network.items()
        },
        "cameras_placed": full[1].refinement.pose_source.count("matches"),
    }


def main() -> None:
    """Render, run, print JSON, and write it beside the other results."""
    parser = argparse.ArgumentParser(description="Seconds that refinement adds.")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--presets", nargs="*", default=["da3-small"])
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
        **measure(images, arguments.presets),
    }
    text = json.dumps(result, indent=2)
    print(text)
    (Path(__file__).parent / "results" / "refinement.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
