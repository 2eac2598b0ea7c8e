"""Frames per second and peak memory of long sequences against the size of the window.

usage: python benchmarks/streaming_windows.py [--model bundled] [--sizes 10,20,40,80,120] [--process-res N]

Each size runs in a process of its own: two windows of a made-up sequence, the second one timed. Memory is the largest
that the process ever had, beside the estimate that ``da3 auto --dry-run`` gives for a window.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time

import numpy as np
from peak import peak_bytes

from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.types.options import PreprocessOptions, StreamOptions

OVERLAP_SHARE = 10


def one_size(source: str, size: int, process_res: int | None) -> dict[str, float]:
    """Push so many frames that two windows run."""
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.infer.memory import estimate_memory

    model = DepthAnything3.from_pretrained(source)
    side = model.process_res if process_res is None else process_res
    height = max(14, side * 3 // 4 // 14 * 14)
    overlap = max(1, size // OVERLAP_SHARE)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, height, side, 3)).astype(np.uint8)
    options = StreamOptions(window=size, overlap=overlap, loops="off")
    with StreamingReconstructor(model, options, preprocessing=PreprocessOptions(process_res=side)) as stream:
        for frame in range(size + 1):
            stream.push(pictures[frame % 4])
        started = time.perf_counter()
        for frame in range(size - overlap):
            stream.push(pictures[frame % 4])
        seconds = time.perf_counter() - started
    return {
        "window": size,
        "frames_per_second": round((size - overlap) / seconds, 2),
        "peak_memory_mb": peak_bytes() >> 20,
        "estimate_mb": estimate_memory(model.model, size, (height, side)) // 1_000_000,
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--sizes", default="10,20,40,80,120")
    parser.add_argument("--process-res", type=int)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(one_size(args.model, args.one, args.process_res)))
        return
    found = []
    for size in args.sizes.split(","):
        command = [sys.executable, __file__, "--model", args.model, "--one", size]
        command += [] if args.process_res is None else ["--process-res", str(args.process_res)]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print(json.dumps({"model": args.model, "machine": platform.machine(), "sizes": found}, indent=2))


if __name__ == "__main__":
    main()
