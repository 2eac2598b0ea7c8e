"""Attention across views with pooled keys beside exact attention, on frames of a video.

usage: python benchmarks/key_pooling.py VIDEO [--model bundled] [--frames 64] [--cells 2 3 4] [--runs 3] [--out FILE]

Whole inferences, reading included, in turn: exact, then every size of cell, ``--runs`` times; times are medians. Errors
are against the exact answer: depth relative to it, rotations of all pairs of views, focal lengths. Nothing else should
run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction


def errors(found: Prediction, exact: Prediction) -> dict[str, float]:
    """How far an answer is from the exact one."""
    from depth_anything_3.metrics.pose import focal_errors, pair_errors

    assert found.extrinsics is not None and exact.extrinsics is not None
    assert found.intrinsics is not None and exact.intrinsics is not None
    depth = np.abs(found.depth / exact.depth - 1)
    turned = pair_errors(found.extrinsics.astype(np.float64), exact.extrinsics.astype(np.float64)).rotation_deg
    focal = focal_errors(found.intrinsics.astype(np.float64), exact.intrinsics.astype(np.float64))
    return {
        "depth_median": round(float(np.median(depth)), 4),
        "depth_95": round(float(np.percentile(depth, 95)), 4),
        "rotation_deg_most": round(float(turned.max()), 2),
        "focal_most": round(float(focal.max()), 4),
    }


def main() -> None:
    """Run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--cells", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.types.options import VideoOptions

    model = DepthAnything3.from_pretrained(options.model)
    video = VideoOptions(max_frames=options.frames)
    seconds: dict[int, list[float]] = {cell: [] for cell in (1, *options.cells)}
    answers: dict[int, Prediction] = {}
    for _ in range(options.runs):
        for cell, taken in seconds.items():
            start = time.perf_counter()
            answers[cell] = model.inference(options.video, video=video, process_res=504, key_pooling=cell)
            taken.append(time.perf_counter() - start)
    exact = statistics.median(seconds[1])
    size = list(answers[1].depth.shape[1:])
    cells = [
        {
            "cell": cell,
            "times_as_fast": round(exact / statistics.median(seconds[cell]), 2),
            **errors(answers[cell], answers[1]),
        }
        for cell in options.cells
    ]
    result = {"model": options.model, "frames": options.frames, "size": size, "threads": torch.get_num_threads()}
    result |= {"exact_seconds": round(exact, 1), "cells": cells}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
