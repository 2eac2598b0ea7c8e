"""The memory estimate against the peaks that the benchmark measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.networks import small_nested

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.infer.memory import _libraries, _process, estimate_memory
from depth_anything_3.registry import MODEL_REGISTRY

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "forward.json"
CASES = [
    case
    for case in json.loads(MEASURED.read_text())["cases"]
    if case["path"] == "fast" or (case["path"] == "stock" and case["dtype"] == "float32")
]
NAMES = ("preset", "views", "path", "dtype")


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(case[n]) for n in NAMES))
def test_estimate_is_near_the_measured_peak(case: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depth_anything_3.model.fast.packing_pays", lambda: False)  # so it was where they were measured
    monkeypatch.setattr("depth_anything_3.infer.memory._process", lambda: 338_000_000)
    with torch.device("meta"):
        net = create_object(load_config(MODEL_REGISTRY[str(case["preset"])]))
    height, width = case["size"]  # type: ignore[misc]
    views, fast = int(case["views"]), case["path"] == "fast"  # type: ignore[call-overload]
    dtype = getattr(torch, str(case["dtype"]))
    # The network itself was measured with all of its weights in memory, also those that only given poses need.
    estimate = estimate_memory(net, views, (height, width), dtype=dtype, poses=not fast, fast=fast) / 2**20
    assert 0.95 < estimate / case["peak_rss_mb"] < 1.2  # type: ignore[operator]


def test_libraries_are_told_from_other_memory() -> None:
    listed = """\
7f00-7f10 r-xp 00000000 fd:00 12 /usr/lib/libtorch_cpu.so
Size:               64 kB
Rss:                40 kB
7f10-7f20 rw-p 00010000 fd:00 12 /usr/lib/libc.so.6
Rss:                 8 kB
7f20-7f30 rw-p 00000000 00:00 0 [heap]
Rss:               500 kB
7f30-7f40 rw-p 00000000 00:00 0
Rss:               700 kB
"""
    assert _libraries(listed) == 48 << 10


def test_a_process_takes_more_than_its_libraries() -> None:
    held = 1 << 20
    assert 250 * held < _process() < 800 * held


def test_a_nested_model_takes_both_weights_but_one_forward_at_a_time() -> None:
    with torch.device("meta"):
        nested = create_object(small_nested())
    whole = estimate_memory(nested, 2, (504, 504))
    anyview = estimate_memory(nested.da3, 2, (504, 504))
    metric_weights = 4 * sum(p.numel() for p in nested.da3_metric.parameters())
    assert whole == pytest.approx(anyview + metric_weights, rel=0.05)
