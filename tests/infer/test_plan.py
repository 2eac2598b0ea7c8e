"""What is picked to fit into memory, what is said where nothing does, and what happens where it runs out."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import miniature

import depth_anything_3.infer.runner as runner
from depth_anything_3 import DepthAnything3
from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import InputError
from depth_anything_3.infer.memory import estimate_memory
from depth_anything_3.infer.plan import STEPS, is_out_of_memory, largest_window, plan_memory, planned
from depth_anything_3.registry import MODEL_REGISTRY

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def net() -> Any:
    with torch.device("meta"):
        return create_object(miniature())


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled")


def pictures(views: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (views, 42, 56, 3), np.uint8))


def needed(net: Any, step: str, device: torch.device, views: int = 30) -> int:
    return planned(net, views, (504, 504), step=step, device=device, dtype=torch.float32).predicted


@pytest.mark.parametrize(("device", "steps"), [(CPU, list(STEPS)[:3]), (CUDA, list(STEPS))])
def test_the_first_step_that_fits_is_picked(net: Any, device: torch.device, steps: list[str]) -> None:
    sizes = [needed(net, step, device) for step in steps]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[-2]
    for size in sizes:
        plan = plan_memory(net, 30, (504, 504), device=device, dtype=torch.float32, limit=size)
        assert plan.step == steps[sizes.index(size)] and plan.predicted == size and plan.chunking == STEPS[plan.step]


def test_the_largest_nested_model_takes_windows_of_sixty_frames_in_12_gb() -> None:
    with torch.device("meta"):
        net = create_object(load_config(MODEL_REGISTRY["da3nested-giant-large"]))
    how: dict[str, Any] = {"device": CUDA, "dtype": torch.bfloat16, "kept_features": 1}
    limit = 12 * 10**9
    assert plan_memory(net, 60, (154, 504), limit=limit, **how).predicted <= limit
    window = largest_window(net, (154, 504), limit, most=500, **how)
    assert 60 <= window < 500
    with pytest.raises(InputError):
        plan_memory(net, window + 1, (154, 504), limit=limit, **how)


def test_gaussians_stay_on_the_device(net: Any) -> None:
    with pytest.raises(InputError):
        limit = needed(net, "offloaded", CUDA)
        plan_memory(net, 30, (504, 504), device=CUDA, dtype=torch.float32, limit=limit, gaussians=True)


def test_where_nothing_fits_every_remedy_that_is_named_works(net: Any) -> None:
    limit = needed(net, "attention-blocked", CPU, 100) // 2
    with pytest.raises(InputError, match="max_memory") as caught:
        plan_memory(net, 100, (504, 504), device=CPU, dtype=torch.float32, limit=limit)
    said = re.search(r"at least ([\d.]+) GB.*windows of (\d+) views.*process_res=(\d+)", str(caught.value))
    assert said is not None
    enough, window, side = said.groups()
    plan_memory(net, 100, (504, 504), device=CPU, dtype=torch.float32, limit=int(float(enough) * 1e9))
    plan_memory(net, int(window), (504, 504), device=CPU, dtype=torch.float32, limit=limit)
    plan_memory(net, 100, (int(side), int(side)), device=CPU, dtype=torch.float32, limit=limit)


def test_the_result_says_what_was_picked_and_is_the_same(model: DepthAnything3) -> None:
    views = pictures(3)
    plain = model.inference(views, process_res=56)
    assert plain.memory_plan.startswith("full, ")
    lean = planned(model.model, 3, (42, 56), step="head-chunked", device=CPU, dtype=torch.float32).predicted
    found = model.inference(views, process_res=56, max_memory=(lean + 1) / 1e9)
    assert found.memory_plan.startswith("head-chunked, ")
    np.testing.assert_allclose(found.depth, plain.depth, rtol=1e-4)
    with pytest.raises(InputError, match=r"max_memory: got 0\.01 GB for 3 views"):
        model.inference(views, process_res=56, max_memory=0.01)
    with pytest.raises(InputError, match="max_memory"):
        model.inference(views, max_memory=-1)


def test_without_the_twin_the_plan_is_made_for_the_network_itself(
    model: DepthAnything3, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a machine is measured to be faster with, which may cost memory, is not the question here.
    monkeypatch.setattr("depth_anything_3.model.fast.packing_pays", lambda: False)

    def full(fast: bool) -> int:
        return planned(model.model, 3, (42, 56), step="full", device=CPU, dtype=torch.float32, fast=fast).predicted

    between = (full(True) + full(False)) / 2e9
    assert model.inference(pictures(3), process_res=56, max_memory=between).memory_plan.startswith("full")
    monkeypatch.setattr(model, "fast", False)
    assert model.inference(pictures(3), process_res=56, max_memory=between).memory_plan.startswith("head-chunked")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["cuda", "host"])
def test_running_out_of_memory_is_tried_once_more_one_step_leaner(
    model: DepthAnything3, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole, seen = runner._run, []

    def tight(*args: Any) -> Any:
        seen.append(args[-1].step)
        if seen[-1] == "full":
            raise error
        return whole(*args)

    monkeypatch.setattr(runner, "_run", tight)
    with pytest.warns(UserWarning, match="out of memory running full.*trying once more, head-chunked"):
        found = model.inference(pictures(2), process_res=56)
    assert seen == ["full", "head-chunked"] and found.memory_plan.startswith("head-chunked")


def test_it_is_not_tried_a_third_time_nor_after_another_error(
    model: DepthAnything3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, tries in ((MemoryError(), 2), (RuntimeError("shapes"), 1)):
        seen: list[str] = []

        def failing(*args: Any, error: Exception = error, seen: list[str] = seen) -> Any:
            seen.append(args[-1].step)
            raise error

        monkeypatch.setattr(runner, "_run", failing)
        with pytest.raises(type(error)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.inference(pictures(1), process_res=56)
        assert len(seen) == tries


def test_the_real_message_of_the_cpu_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_bfloat16_takes_no_more_activations_than_float32(net: Any) -> None:
    def moved(dtype: torch.dtype) -> int:
        return estimate_memory(net, 64, (504, 504), dtype=dtype) - estimate_memory(net, 1, (14, 14), dtype=dtype)

    assert moved(torch.bfloat16) <= moved(torch.float32)
