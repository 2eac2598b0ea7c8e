"""Predicted and measured peak memory, one case in a process of its own.

usage: python benchmarks/memory.py [--out FILE.json] [--cases POINTS | --case PRESET VIEWS HEIGHT WIDTH PLAN DTYPE]

A case is what an inference does behind reading the pictures: the arrays of the inputs, the network, the prediction.
Weights are seeded: memory does not depend on them, and not on what else the machine does. ``PLAN`` is one of the names
of :data:`depth_anything_3.infer.plan.STEPS`. One constant of the prediction, what the heap keeps beside a twin, comes
from the cases here, the others do not. The weights are in no file: those that are take less, see ``forward.py``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from peak import peak_bytes

Case = tuple[str, int, int, int, str, str]

CASES: tuple[Case, ...] = (
    ("da3-tiny", 1, 70, 70, "full", "float32"),
    ("da3-tiny", 7, 476, 504, "full", "float32"),
    ("da3-tiny", 14, 308, 280, "full", "float32"),
    ("da3-tiny", 40, 140, 210, "attention-blocked", "float32"),
    ("da3-tiny", 90, 154, 140, "full", "float32"),
    ("da3-tiny", 200, 70, 70, "full", "float32"),
    ("da3-small", 1, 70, 70, "full", "float32"),
    ("da3-base", 1, 70, 70, "full", "float32"),
    ("da3-small", 1, 518, 518, "full", "float32"),
    ("da3-small", 2, 294, 518, "full", "float32"),
    ("da3-small", 5, 224, 280, "full", "float32"),
    ("da3-base", 1, 294, 504, "full", "float32"),
    ("da3-tiny", 1, 490, 518, "full", "float32"),
    ("da3-tiny", 4, 266, 518, "head-chunked", "float32"),
    ("da3-small", 8, 140, 210, "attention-blocked", "float32"),
    ("da3-small", 18, 140, 154, "full", "float32"),
    ("da3-small", 50, 70, 70, "full", "float32"),
    ("da3-base", 2, 210, 210, "head-chunked", "float32"),
    ("da3-base", 20, 70, 70, "full", "float32"),
    ("da3-tiny", 11, 224, 210, "full", "float32"),
    ("da3-small", 3, 406, 378, "head-chunked", "float32"),
    ("da3-base", 1, 518, 490, "full", "float32"),
    ("da3-small", 2, 280, 280, "full", "bfloat16"),
    ("da3-base", 1, 140, 140, "full", "bfloat16"),
    ("da3-small", 100, 70, 70, "attention-blocked", "float32"),
    ("da3-small", 9, 266, 504, "full", "float32"),
    ("da3-tiny", 200, 70, 70, "attention-blocked", "float32"),
    ("da3-small", 200, 70, 70, "full", "float32"),
)


def measure(case: Case, address_space: float | None = None) -> dict[str, object]:
    """One case, in this process; with a limit on its address space in GB, which then is enforced."""
    preset, views, height, width, step, dtype = case
    import numpy as np
    import torch

    from depth_anything_3.api import DepthAnything3  # noqa: F401 (part of what a process holds)
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.infer.plan import planned
    from depth_anything_3.infer.postprocess import to_prediction
    from depth_anything_3.infer.runner import Reporter, run_network
    from depth_anything_3.registry import MODEL_REGISTRY
    from depth_anything_3.types.inputs import ModelInputs, ResizeRecord
    from depth_anything_3.types.options import InferOptions

    with torch.device("meta"):
        net = create_object(load_config(MODEL_REGISTRY[preset]))
    net = net.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        tensor.normal_(0, 0.02, generator=generator)
    if address_space is not None:
        resource.setrlimit(resource.RLIMIT_AS, (int(address_space * 1e9),) * 2)
    pixels = np.random.default_rng(0).integers(0, 255, (views, height, width, 3), np.uint8)
    images = np.empty((views, 3, height, width), np.float32)
    for i, picture in enumerate(pixels):
        images[i] = picture.transpose(2, 0, 1) / np.float32(255) - np.float32(0.5)
    size = (height, width)
    record = ResizeRecord(source_hw=size, processed_hw=size, scale_xy=(1, 1), offset_xy=(0, 0))
    names = tuple(f"image_{i:04d}" for i in range(views))
    inputs = ModelInputs(images=images, processed_images=pixels, names=names, records=(record,) * views)
    options, cpu, precision = InferOptions(), torch.device("cpu"), getattr(torch, dtype)
    plan = planned(net, views, size, step=step, device=cpu, dtype=precision)
    started = time.perf_counter()
    output = run_network(net, [inputs], options, device=cpu, dtype=precision, report=Reporter(), plan=plan)
    prediction = to_prediction(output, inputs, options, preset)
    assert prediction.depth.shape == (views, height, width)
    measured = peak_bytes()
    return {
        "preset": preset,
        "views": views,
        "size": [height, width],
        "plan": step,
        "dtype": dtype,
        "predicted_mb": round(plan.predicted / 1e6),
        "measured_mb": round(measured / 1e6),
        "ratio": round(plan.predicted / measured, 3),
        "seconds": round(time.perf_counter() - started, 1),
    }


def as_markdown(found: list[dict[str, object]]) -> str:
    """The table for people."""
    lines = ["| model | views | size | plan | dtype | predicted MB | measured MB | ratio |", "|---" * 8 + "|"]
    for row in found:
        size = "x".join(map(str, row["size"]))  # type: ignore[call-overload]
        cells = (row["preset"], row["views"], size, row["plan"], row["dtype"])
        numbers = (row["predicted_mb"], row["measured_mb"], row["ratio"])
        lines.append("| " + " | ".join(str(cell) for cell in (*cells, *numbers)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run every case in a process of its own; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--resume", action="store_true", help="go on behind the figures that --out holds")
    parser.add_argument("--case", nargs=6, metavar=("PRESET", "VIEWS", "HEIGHT", "WIDTH", "PLAN", "DTYPE"))
    parser.add_argument("--address-space", type=float, help="of --case: enforced limit in GB")
    options = parser.parse_args()
    if options.case:
        preset, views, height, width, step, dtype = options.case
        case = (preset, int(views), int(height), int(width), step, dtype)
        print(json.dumps(measure(case, options.address_space)))
        return
    found = json.loads(options.out.read_text())["cases"] if options.resume else []
    for case in CASES[len(found) :]:
        command = [sys.executable, __file__, "--case", *map(str, case)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        if options.out:
            options.out.write_text(json.dumps({"cases": found}, indent=2) + "\n")
    print(as_markdown(found))


if __name__ == "__main__":
    main()
