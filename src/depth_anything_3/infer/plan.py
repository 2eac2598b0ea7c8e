"""How an inference fits into memory: the first of a few ways of running the network whose predicted peak does.

All of them give the same numbers, to rounding. From one to the next the network does less at once, until nothing is
left to split; then windows of fewer views are the last resort. They give other numbers, so they are proposed in the
error and never chosen silently.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from depth_anything_3.errors import InputError
from depth_anything_3.infer.memory import estimate_memory, most_views
from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.da3 import Network
from depth_anything_3.types.options import PATCH_SIZE, check_choice

_ROWS = 2048
_MOST_WINDOW = 4096

STEPS: dict[str, Chunking] = {
    "full": WHOLE,
    "head-chunked": Chunking(head_views=1),
    "attention-blocked": Chunking(head_views=1, token_rows=_ROWS),
    "offloaded": Chunking(head_views=1, token_rows=_ROWS, offload=True),
}
"""Ways of running the network, each leaner than the one before. The last one needs a device with its own memory."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How the network runs, and what that is predicted to take.

    Attributes:
        step: a name of :data:`STEPS`.
        predicted: peak in bytes, of the process on the CPU, of the device's memory elsewhere.
        limit: what it was chosen to fit, in bytes; None where nothing bounds it.
    """

    step: str
    predicted: int
    limit: int | None = None

    @property
    def chunking(self) -> Chunking:
        """How much is done at once."""
        return STEPS[self.step]

    def __str__(self) -> str:
        of = "" if self.limit is None else f" of {self.limit / 1e9:.1f} GB"
        return f"{self.step}, {self.predicted / 1e9:.1f} GB{of}"


def planned(
    net: Network,
    views: int,
    image_hw: tuple[int, int],
    *,
    step: str,
    device: torch.device,
    dtype: torch.dtype,
    kept_features: int = 0,
    poses: bool = False,
    fast: bool = True,
    limit: int | None = None,
) -> MemoryPlan:
    """One way of running the network, with what it takes; arguments as of :func:`plan_memory`.

    Raises:
        InputError: no such step.
    """
    check_choice("step", step, tuple(STEPS))
    how: dict[str, Any] = {"device": device, "dtype": dtype, "kept_features": kept_features}
    how |= {"poses": poses, "fast": fast}
    predicted = estimate_memory(net, views, image_hw, chunking=STEPS[step], **how)
    return MemoryPlan(step=step, predicted=predicted, limit=limit)


def plan_memory(
    net: Network,
    views: int,
    image_hw: tuple[int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    kept_features: int = 0,
    poses: bool = False,
    fast: bool = True,
    gaussians: bool = False,
    limit: int | None = None,
) -> MemoryPlan:
    """The first way of running the network that fits.

    Args:
        net: may be on the meta device.
        views: of all scenes that run together.
        image_hw: height and width of the network images.
        kept_features: of how many blocks the features are returned.
        poses: whether given cameras condition the network.
        fast: whether the CPU runs the network's twin, see :func:`~depth_anything_3.infer.runner.run_network`.
        gaussians: the Gaussian head, whose outputs are placed on the device, rules out offloading.
        limit: in bytes; None takes what the machine has free.

    Raises:
        InputError: nothing fits; the message says what would.
    """
    limit = free_memory(device) if limit is None else limit
    how: dict[str, Any] = {"device": device, "dtype": dtype, "kept_features": kept_features}
    how |= {"poses": poses, "fast": fast}
    plans = []
    for step in _steps(device, gaussians):
        plans.append(planned(net, views, image_hw, step=step, limit=limit, **how))
        if limit is None or plans[-1].predicted <= limit:
            return plans[-1]
    raise _nothing_fits(net, views, image_hw, min(plans, key=lambda plan: plan.predicted), how)


def largest_window(
    net: Network,
    image_hw: tuple[int, int],
    limit: int,
    *,
    most: int,
    device: torch.device,
    dtype: torch.dtype,
    kept_features: int = 0,
    fast: bool = True,
) -> int:
    """The most views, up to ``most`` and at least 1, that the leanest way of running takes into ``limit`` bytes.

    Other arguments as of :func:`plan_memory`, which then finds a way.
    """
    how: dict[str, Any] = {"device": device, "dtype": dtype, "kept_features": kept_features}
    how |= {"poses": True, "fast": fast}  # windows may be conditioned on the ones before
    return most_views(net, image_hw, limit, limit=most, chunking=STEPS[_steps(device, False)[-1]], **how)


def leaner(plan: MemoryPlan, device: torch.device, *, gaussians: bool = False) -> str | None:
    """The step after that of a plan; None where there is none."""
    steps = _steps(device, gaussians)
    place = steps.index(plan.step) + 1 if plan.step in steps else len(steps)
    return steps[place] if place < len(steps) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left. PyTorch has no class for the CPU's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory")
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that an inference may reach here: what this process holds already and what the machine has left.

    None where the platform does not say.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    left = int(lines["MemAvailable"].split()[0]) * 1024
    for used, most in (
        ("memory.current", "memory.max"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        if (folder / most).exists() and (bound := (folder / most).read_text().strip()) != "max":
            left = min(left, max(0, int(bound) - int((folder / used).read_text())))
    return held + left


def _steps(device: torch.device, gaussians: bool) -> list[str]:
    steps = list(STEPS)
    if device.type == "cpu" or gaussians:
        steps.remove("offloaded")
    # The attention of MPS holds a value for every query and key: there queries always come in blocks.
    return steps[2:] if device.type == "mps" else steps


def _nothing_fits(
    net: Network, views: int, image_hw: tuple[int, int], best: MemoryPlan, how: dict[str, Any]
) -> InputError:
    """What to change; ``how`` are the arguments of the estimate that do not depend on the step."""
    limit = best.limit
    assert limit is not None
    how = {**how, "chunking": STEPS[best.step]}

    def fits(views: int, image_hw: tuple[int, int]) -> bool:
        return estimate_memory(net, views, image_hw, **how) <= limit

    remedies = [f"at least {best.predicted / 1e9 + 0.05:.1f} GB"]
    window = most_views(net, image_hw, limit, limit=min(views, _MOST_WINDOW), **how)
    if 2 <= window < views and fits(window, image_hw):
        remedies.append(f"windows of {window} views ('da3 stream --window {window}', stream.StreamingReconstructor)")
    smaller = [side for side in range(PATCH_SIZE, max(image_hw), PATCH_SIZE) if fits(views, (side, side))]
    if smaller:
        remedies.append(f"process_res={smaller[-1]}")
    got = f"{limit / 1e9:.2f} GB for {views} views of {image_hw[1]}x{image_hw[0]} pixels"
    return InputError("max_memory", got, "; or ".join(remedies))
