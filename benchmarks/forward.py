"""Time and memory of the network, as ratios to a calibration kernel measured in the same run.

usage: python benchmarks/forward.py [--preset da3-small] [--views 1 2 8] [--dtypes float32 bfloat16] [--out FILE]

Seconds do not carry over between machines. The unit U is the time that the machine takes for one TFLOP of float32
matrix products of 2048 x 2048 on the same threads, measured before and after every case; run it with nothing else
running. Weights are seeded: speed does not depend on them. Each case runs in a process of its own, whose peak resident
memory is reported beside what it was after loading.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

SIDE = 504
_GEMM = 2048


def median_seconds(run: Callable[[], object], runs: int, warm_up: int) -> float:
    """Median wall time of ``runs`` calls after ``warm_up`` calls."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def unit_seconds() -> float:
    """Seconds for one TFLOP of the calibration kernel."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_GEMM, _GEMM, generator=generator) for _ in range(2))
    with torch.inference_mode():
        return median_seconds(lambda: a @ b, runs=15, warm_up=3) / (2 * _GEMM**3 / 1e12)


def peak_megabytes() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform == "linux" else 1 << 20)


def measure(preset: str, views: int, dtype: str, runs: int) -> dict[str, object]:
    """One case, in this process."""
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY
    from depth_anything_3.zoo.seeded import seeded_tensor

    with torch.device("meta"):
        network = create_object(load_config(MODEL_REGISTRY[preset]))
    network = network.to_empty(device="cpu").eval()
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(seeded_tensor(name, tensor.shape)))
    loaded = peak_megabytes()
    images = torch.randn(1, views, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    precision = getattr(torch, dtype)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
            network(images)

    before = unit_seconds()
    seconds = median_seconds(forward, runs, warm_up=1)
    peak = peak_megabytes()
    after = unit_seconds()
    unit = (before + after) / 2
    return {
        "preset": preset,
        "views": views,
        "size": [SIDE, SIDE],
        "dtype": dtype,
        "seconds": round(seconds, 4),
        "units": round(seconds / unit, 4),
        "unit_seconds": round(unit, 4),
        "unit_drift": round(abs(before - after) / unit, 4),
        "peak_rss_mb": round(peak),
        "loaded_rss_mb": round(loaded),
    }


def main() -> None:
    """Run every case in a process of its own and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="da3-small")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.preset, options.views[0], options.dtypes[0], options.runs)))
        return
    cases = []
    for dtype in options.dtypes:
        for views in options.views:
            case = ["--one", "--preset", options.preset, "--views", str(views), "--dtypes", dtype]
            command = [sys.executable, __file__, *case, "--runs", str(options.runs)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cases.append(json.loads(done.stdout))
            print(json.dumps(cases[-1]), file=sys.stderr)
    result = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": cases,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
