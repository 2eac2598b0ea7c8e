"""What the cleaning finds, and what it costs.

usage: python benchmarks/clean.py flying [--seeds 40] [--presets clean strict] [--out benchmarks/results/flying.json]
       python benchmarks/clean.py speed [--views 8] [--height 378] [--width 504] [--out benchmarks/results/clean.json]

``flying`` prints the table of ``depth_anything_3.bench.flying``: the shares of flying and of good pixels of blurred
exact depth that are treated as they should be. ``speed`` measures processor time and the rise of the peak of resident
memory for every preset and the fusion, on views of a procedural room.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peak import peak_bytes

from depth_anything_3.bench.flying import BLURS, ROWS, tally
from depth_anything_3.refine.points import points
from depth_anything_3.refine.tsdf import mesh
from depth_anything_3.synth.sample import build, cameras_for, film
from depth_anything_3.types.options import CLEAN_PRESETS
from depth_anything_3.types.prediction import Prediction


def flying(seeds: int, presets: list[str]) -> dict[str, object]:
    """Print one table per preset."""
    result: dict[str, object] = {"seeds": seeds}
    for preset in presets:
        found = tally(list(range(seeds)), CLEAN_PRESETS[preset])
        print(f"\n{preset}: share (pixels)\n{'':44}" + "".join(f"{_blur(b):>20}" for b in BLURS))
        for row in ROWS:
            cells = [t for t in found if t.row == row]
            print(f"{row:44}" + "".join(f"{_cell(t.share, t.pixels):>20}" for t in cells))
        result[preset] = [
            {"blur": t.blur, "row": t.row, "pixels": t.pixels, "share": round(t.share, 4) if t.pixels else None}
            for t in found
        ]
    return result


def _blur(size: int) -> str:
    return "exact" if size == 1 else f"{size} x {size}"


def _cell(share: float, pixels: int) -> str:
    return f"{share:.1%} ({pixels})" if pixels else "-"


def speed(views: int, height: int, width: int) -> dict[str, object]:
    """Processor seconds and peak memory of each preset and of the fusion, each in a process of its own."""
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        prediction = room(views, height, width)
        file = prediction.save(Path(folder) / "room.npz")
        for name in (*CLEAN_PRESETS, "mesh"):
            command = [sys.executable, __file__, "one", str(file), name]
            cases[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(name, cases[name])
    return {
        "pixels": int(prediction.depth.size),
        "threads": 1,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cases": cases,
    }


def one(file: Path, name: str) -> None:
    """Print seconds and megabytes of one case."""
    torch.set_num_threads(1)
    prediction = Prediction.load(file)
    before, start = peak_bytes(), time.process_time()
    if name == "mesh":
        mesh(prediction, "raw")
    else:
        points(prediction, name)
    seconds = time.process_time() - start
    print(json.dumps({"seconds": round(seconds, 2), "more_peak_megabytes": round((peak_bytes() - before) / 2**20)}))


def room(views: int, height: int, width: int) -> Prediction:
    """Exact depth of a procedural room."""
    scene, _ = build(0, "room")
    sample = film(
        scene, (), cameras_for(scene, (), [float(i) for i in range(views)], height, width, seed=0), height, width
    )
    return Prediction(
        sample.depth,
        True,
        sky=sample.sky,
        conf=np.ones_like(sample.depth),
        extrinsics=sample.extrinsics,
        intrinsics=sample.intrinsics,
        processed_images=(sample.rgb * 255).astype(np.uint8),
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_flying = commands.add_parser("flying")
    of_flying.add_argument("--seeds", type=int, default=40)
    of_flying.add_argument("--presets", nargs="+", choices=list(CLEAN_PRESETS), default=["clean", "strict"])
    of_speed = commands.add_parser("speed")
    for name, default in (("--views", 8), ("--height", 378), ("--width", 504)):
        of_speed.add_argument(name, type=int, default=default)
    of_one = commands.add_parser("one")
    of_one.add_argument("file", type=Path)
    of_one.add_argument("case")
    for command in (of_flying, of_speed):
        command.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    given = parser.parse_args()
    if given.command == "one":
        one(given.file, given.case)
        return
    if given.command == "flying":
        result = flying(given.seeds, given.presets)
    else:
        result = speed(given.views, given.height, given.width)
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
