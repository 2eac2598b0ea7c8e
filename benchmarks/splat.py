"""Seconds per picture of the torch rasteriser on the CPU, beside those of the unit of calibration.

usage: python benchmarks/splat.py [--gaussians 200000] [--height 280] [--width 504] [--threads 1] [--runs 5]

Gaussians of random shape, opacity and colour (harmonics of degree 2) fill the picture, with typical deviations of 0.5
to 10 pixels. U is the time of one TFLOP of 2048 x 2048 products in float32, measured before and after. Times are those
of the processor, which other work on the machine disturbs less than the clock, and hold for one thread; with
``--threads`` above 1 they are those of the clock.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from peak import peak_bytes
from torch import Tensor

from depth_anything_3.splat.base import render
from depth_anything_3.types.gaussians import Gaussians

SIZES = (0.5, 1.0, 2.0, 4.0, 10.0)
"""Typical standard deviations in pixels."""

_PRODUCT = 2048


def random_scene(count: int, height: int, width: int, pixels: float) -> tuple[Gaussians, Tensor, Tensor]:
    """Gaussians in front of a camera at the origin, and its pose and intrinsics."""
    generator = torch.Generator().manual_seed(0)
    focal, z = 0.8 * width, 1 + 4 * torch.rand(count, generator=generator)
    place = (torch.rand(count, 2, generator=generator) - 0.5) * 1.1 * torch.tensor([width, height]) / focal
    spread = torch.exp(0.5 * torch.randn(count, 3, generator=generator))
    gaussians = Gaussians(
        means=torch.cat((place * z[:, None], z[:, None]), 1)[None],
        scales=(spread * (pixels / focal * z)[:, None])[None],
        rotations=torch.randn(1, count, 4, generator=generator),
        harmonics=0.2 * torch.randn(1, count, 3, 9, generator=generator),
        opacities=0.05 + 0.9 * torch.rand(1, count, generator=generator),
    )
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return gaussians, torch.eye(3, 4)[None, None], intrinsics[None, None]


def median_seconds(action: Callable[[], object], runs: int, clock: Callable[[], float]) -> float:
    """Median time of some runs, after one that does not count."""
    action()
    times = []
    for _ in range(runs):
        start = clock()
        action()
        times.append(clock() - start)
    return statistics.median(times)


def unit_seconds(runs: int, clock: Callable[[], float]) -> float:
    """The time that this machine takes for 10^12 floating point operations of a matrix product."""
    a, b = torch.randn(2, _PRODUCT, _PRODUCT).unbind()
    return median_seconds(lambda: a @ b, runs, clock) * 1e12 / (2 * _PRODUCT**3)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("gaussians", 200_000), ("height", 280), ("width", 504), ("threads", 1), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds = {}
    with torch.inference_mode():
        before = unit_seconds(options.runs, clock)
        for pixels in SIZES:
            scene = random_scene(options.gaussians, options.height, options.width, pixels)
            size = (options.height, options.width)
            seconds[pixels] = median_seconds(lambda s=scene, z=size: render(*s, z), options.runs, clock)  # type: ignore[misc]
        unit = (before + unit_seconds(options.runs, clock)) / 2
    report = {
        "gaussians": options.gaussians,
        "size": [options.height, options.width],
        "threads": options.threads,
        "unit_seconds": round(unit, 3),
        "seconds": {str(pixels): round(value, 3) for pixels, value in seconds.items()},
        "in_units": {str(pixels): round(value / unit, 3) for pixels, value in seconds.items()},
        "peak_memory_mib": peak_bytes() >> 20,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
