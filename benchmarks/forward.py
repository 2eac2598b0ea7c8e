"""Time and memory of the network, as ratios to a calibration kernel measured in the same run.

usage: python benchmarks/forward.py [--presets da3-small] [--views 1 2 8] [--dtypes float32 bfloat16]
                                    [--paths stock fast] [--out FILE] [--resume] [--operators]

Seconds do not carry over between machines. The unit U is the time that the machine takes for one TFLOP of float32
matrix products of 2048 x 2048 on the same threads, measured before and after every case; run it with nothing else
running. Weights are seeded: speed does not depend on them. Each case runs in a process of its own, which loads them
from a checkpoint, as users do; its peak resident memory is reported beside what it was after loading. ``--runs 0``
measures memory alone, with one run.

``stock`` is the network's own code, with autocast for bfloat16; ``fast`` is its twin for the CPU; ``onnx`` is what
``da3 export onnx`` makes of it, in onnxruntime on as many threads (its memory is not reported: the process has exported
the graph). ``--operators`` also says where the time of ``stock`` and ``fast`` goes. The floor is the time
that the linear layers, the convolutions and the attention would take at the best rates that their kernels reach on this
machine, each measured by itself beside the case; all that lies between them counts as nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peak import peak_bytes

if TYPE_CHECKING:
    from depth_anything_3.model.da3 import Network

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


def kernel_rates(dtype: torch.dtype) -> dict[str, float]:
    """GFLOP/s of the best kernel of each kind that there is, at shapes of da3-small."""
    from depth_anything_3.model.fast import Conv, FastLinear, blocked_attention

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        x = torch.randn(2594, 384, generator=generator).to(dtype)
        layer = torch.nn.Linear(384, 1536)
        packed = FastLinear(layer, dtype, pack=True)
        layer = layer.to(dtype)
        q = torch.randn(1, 6, 2594, 64, generator=generator).to(dtype)
        maps = torch.randn(1, 64, 144, 144, generator=generator).to(dtype).to(memory_format=torch.channels_last)
        conv = Conv(torch.nn.Conv2d(64, 64, 3, padding=1), dtype)
        attend = torch.nn.functional.scaled_dot_product_attention
        kernels: dict[str, tuple[float, list[Callable[[], object]]]] = {
            "linear": (2 * 2594 * 384 * 1536, [lambda: layer(x), lambda: packed(x)]),
            "attention": (4 * 6 * 2594**2 * 64, [lambda: attend(q, q, q), lambda: blocked_attention(q, q, q)]),
            "conv": (2 * 64 * 64 * 9 * 144**2, [lambda: conv(maps)]),
        }
        return {
            kind: flop / min(median_seconds(run, runs=9, warm_up=2) for run in runs) / 1e9
            for kind, (flop, runs) in kernels.items()
        }


def operations(network: torch.nn.Module, images: torch.Tensor) -> dict[str, float]:
    """GFLOP of one run: of the linear layers, of the attention, of the convolutions."""
    found = dict.fromkeys(("linear", "attention", "conv"), 0.0)

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = module.weight.numel()  # type: ignore[operator]
        if isinstance(module, torch.nn.Linear):
            found["linear"] += 2e-9 * weight * output.numel() / module.out_features
        else:
            where = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
            found["conv"] += 2e-9 * weight * where.numel() / where.shape[1]

    def attended(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found["attention"] += 4e-9 * output.shape[-2] * output.numel()

    from depth_anything_3.model.dinov2.layers import Attention

    for module in network.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(count)
        elif isinstance(module, Attention):
            module.register_forward_hook(attended)
    with torch.inference_mode():
        network(images)
    return found


def built(preset: str) -> Network:
    """A network with seeded weights."""
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY
    from depth_anything_3.zoo.seeded import seeded_tensor

    with torch.device("meta"):
        network: Network = create_object(load_config(MODEL_REGISTRY[preset]))
    network = network.to_empty(device="cpu").eval()
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(seeded_tensor(name, tensor.shape)))
    return network


def written(preset: str, folder: Path) -> Path:
    """A checkpoint of :func:`built`, written once."""
    from depth_anything_3.zoo.checkpoints import save
    from depth_anything_3.zoo.identify import config_of

    return folder if folder.exists() else save(built(preset), folder, model_name=preset, config=config_of(preset))


def in_onnxruntime(preset: str, images: torch.Tensor) -> Callable[[], object]:
    """The exported network, ready to run."""
    from depth_anything_3._optional import require
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.deploy.onnx import export_onnx
    from depth_anything_3.types.options import OnnxOptions

    onnxruntime = require("onnxruntime", extra="onnx")

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        options = OnnxOptions(views=images.shape[1], height=SIDE, width=SIDE)
        graph = export_onnx(DepthAnything3(preset, device="cpu"), Path(folder) / "net.onnx", options).graph
        session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images.numpy()})


_KINDS = {
    "linear": ("linear", "addmm", "aten::mm"),
    "attention": ("attention", "bmm", "softmax"),
    "conv": ("convolution",),
    "normalisation": ("layer_norm",),
    "enlargement": ("upsample", "lerp"),
    "casts and copies": ("copy", "cat", "clone"),
    "element by element": ("add", "mul", "clamp", "gelu", "neg", "exp", "sub", "relu", "div"),
}
"""Kinds of operators by parts of their names; the first that fits."""


def operator_shares(run: Callable[[], object]) -> dict[str, float]:
    """Share of the time of one run that each kind of operator takes, from PyTorch's profiler."""
    with torch.profiler.profile() as profile:
        run()
    times = dict.fromkeys((*_KINDS, "other"), 0.0)
    for event in profile.key_averages():
        kinds = (kind for kind, parts in _KINDS.items() if any(part in event.key for part in parts))
        times[next(kinds, "other")] += event.self_cpu_time_total
    return {kind: round(time / sum(times.values()), 3) for kind, time in times.items()}


def measure(
    preset: str, views: int, dtype: str, path: str, runs: int, checkpoint: Path, *, operators: bool
) -> dict[str, object]:
    """One case, in this process."""
    from depth_anything_3.model.chunking import WHOLE, Chunking
    from depth_anything_3.model.fast import fast_twin, head_views
    from depth_anything_3.zoo.checkpoints import build_network, resolve

    precision, chunking = getattr(torch, dtype), WHOLE
    original: Network = build_network(resolve(checkpoint))  # type: ignore[assignment]
    network = original  # which stays, as it does in an inference
    loaded = peak_bytes()
    images = torch.randn(1, views, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    autocast = path == "stock" and precision != torch.float32
    if path == "fast":
        network = fast_twin(network, precision)
        chunking = Chunking(head_views=head_views(original, SIDE * SIDE))

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", precision, enabled=autocast):
            network(images, chunking=chunking)

    case = {"preset": preset, "views": views, "size": [SIDE, SIDE], "dtype": dtype, "path": path}
    if runs == 0:
        forward()
        return {**case, "peak_rss_mb": round(peak_bytes() / 2**20), "loaded_rss_mb": round(loaded / 2**20)}
    run = forward if path != "onnx" else in_onnxruntime(preset, images)
    before = unit_seconds()
    seconds = median_seconds(run, runs, warm_up=1)
    peak = None if path == "onnx" else round(peak_bytes() / 2**20)
    if operators and path != "onnx":
        case["operators"] = operator_shares(run)
    after, rates = unit_seconds(), kernel_rates(precision)
    unit, work = (before + after) / 2, operations(built(preset), images)
    floor = sum(work[kind] / rates[kind] for kind in work)
    return {
        **case,
        "seconds": round(seconds, 4),
        "units": round(seconds / unit, 4),
        "unit_seconds": round(unit, 4),
        "unit_drift": round(abs(before - after) / unit, 4),
        "peak_rss_mb": peak,
        "loaded_rss_mb": round(loaded / 2**20),
        "gflop": {kind: round(value, 1) for kind, value in work.items()},
        "gflops": {kind: round(value) for kind, value in rates.items()},
        "floor_units": round(floor / unit, 4),
        "share_of_floor": round(floor / seconds, 3),
    }


def as_markdown(cases: list[dict[str, Any]]) -> str:
    """The table for people."""
    heads = ("model", "views", "dtype", "path", "time [U]", "floor [U]", "floor / time", "peak RSS, MB")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    names = ("preset", "views", "dtype", "path", "units", "floor_units", "share_of_floor", "peak_rss_mb")
    return "\n".join(
        [*lines, *("| " + " | ".join(str(case.get(name, "-")) for name in names) + " |" for case in cases)]
    )


def main() -> None:
    """Run every case in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["da3-small"])
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--paths", nargs="+", default=["stock", "fast"], choices=["stock", "fast", "onnx"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--resume", action="store_true", help="keep the cases that --out holds")
    parser.add_argument("--operators", action="store_true", help="also the share of the time of each kind of operator")
    parser.add_argument("--one", type=Path, metavar="CHECKPOINT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = list(itertools.product(options.presets, options.dtypes, options.views, options.paths))
    if options.one:
        preset, dtype, views, path = wanted[0]
        print(json.dumps(measure(preset, views, dtype, path, options.runs, options.one, operators=options.operators)))
        return
    cases = json.loads(options.out.read_text())["cases"] if options.resume else []
    done = {(case["preset"], case["dtype"], case["views"], case["path"]) for case in cases}
    folder = tempfile.TemporaryDirectory()
    for preset, dtype, views, path in wanted:
        if (preset, dtype, views, path) in done or (path == "onnx" and dtype != "float32"):
            continue
        checkpoint = written(preset, Path(folder.name) / preset)
        case = ["--presets", preset, "--views", str(views), "--dtypes", dtype, "--paths", path]
        case += ["--operators"] if options.operators else []
        command = [sys.executable, __file__, "--one", str(checkpoint), *case, "--runs", str(options.runs)]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        cases.append(json.loads(found.stdout))
        print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
        result = {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cases": cases,
        }
        if options.out:
            options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(as_markdown(cases))


if __name__ == "__main__":
    main()
