"""Running the network on scenes of equal size."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depth_anything_3.errors import Cancelled
from depth_anything_3.infer.cameras import normalise_extrinsics
from depth_anything_3.infer.plan import MemoryPlan, is_out_of_memory, leaner, plan_memory, planned
from depth_anything_3.model.da3 import NestedDepthAnything3Net, Network
from depth_anything_3.model.fast import Twins, has_twin, head_views, hooked
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import InferOptions
from depth_anything_3.types.output import NetOutput
from depth_anything_3.types.progress import Progress, ProgressCallback, Stage

_TWINS = Twins()


@dataclass(frozen=True)
class Reporter:
    """Tells the caller how far the work is, and stops it where the caller wants that."""

    progress: ProgressCallback | None = None
    cancel: threading.Event | None = None

    def __call__(self, stage: Stage, done: int, total: int, item: str = "") -> None:
        """Report one step. Raises :class:`Cancelled` once the caller's event is set."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"stopped by the caller during {stage} ({done} of {total})")
        if self.progress is not None:
            self.progress(Progress(stage, done, total, item))


def run_network(
    net: Network,
    scenes: Sequence[ModelInputs],
    options: InferOptions,
    *,
    device: torch.device,
    dtype: torch.dtype,
    report: Reporter,
    plan: MemoryPlan | None = None,
    fast: bool = True,
) -> NetOutput:
    """Outputs for B scenes with as many views of the same size, on ``device`` or, where offloaded, in host memory.

    Where memory runs out all the same, it is tried once more, one step leaner, with a warning.

    Args:
        scenes: all with cameras to condition on, or none; of a nested network, all with intrinsics or none.
        dtype: precision of the transformer; float32 runs without autocast.
        report: told after every transformer block.
        plan: how to run it; None chooses what fits ``options.max_memory``, or the machine. ``memory_plan`` of the
            output says what it was.
        fast: on the CPU, run the network's twin (:mod:`depth_anything_3.model.fast`): the same numbers, to rounding.
            A network with forward hooks on its modules runs itself, and calls them.

    Raises:
        InputError: nothing fits into the memory.
    """
    fast = fast and not hooked(net)
    twin = fast and device.type == "cpu" and has_twin(dtype)
    views, image_hw = len(scenes) * len(scenes[0].images), scenes[0].images.shape[2:]
    gaussians = options.infer_gs and options.gs_source == "head"
    kept = len(options.export_feat_layers)
    size: dict[str, Any] = {"device": device, "dtype": dtype, "kept_features": kept, "fast": fast}
    size["poses"] = scenes[0].extrinsics is not None or scenes[0].anchors is not None
    if plan is None:
        limit = None if options.max_memory is None else int(options.max_memory * 1e9)
        plan = plan_memory(net, views, image_hw, gaussians=gaussians, limit=limit, **size)
    try:
        return _run(net, scenes, options, device, dtype, report, twin, plan)
    except (MemoryError, RuntimeError) as error:
        step = leaner(plan, device, gaussians=gaussians)
        if step is None or not is_out_of_memory(error):
            raise
        warnings.warn(f"out of memory running {plan}; trying once more, {step}", stacklevel=2)
    # Outside of the handler: the error holds the frames that hold what the device is full of.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return _run(net, scenes, options, device, dtype, report, twin, planned(net, views, image_hw, step=step, **size))


def _run(
    net: Network,
    scenes: Sequence[ModelInputs],
    options: InferOptions,
    device: torch.device,
    dtype: torch.dtype,
    report: Reporter,
    twin: bool,
    plan: MemoryPlan,
) -> NetOutput:
    images = torch.from_numpy(np.stack([inputs.images for inputs in scenes])).to(device)
    network, chunking = net, plan.chunking
    if twin:
        network = _TWINS.of(net, dtype)
        chunking = replace(chunking, head_views=min(chunking.head_views, head_views(net, images[0, 0, 0].numel())))
    cameras = [network_cameras(inputs, device) for inputs in scenes]
    extrinsics, intrinsics = (_joined([pair[i] for pair in cameras]) for i in (0, 1))
    lens: dict[str, Tensor] = {}
    if isinstance(net, NestedDepthAnything3Net) and options.metric_focal == "given":
        known = [inputs.intrinsics for inputs in scenes if inputs.intrinsics is not None]
        if known:
            lens["metric_intrinsics"] = torch.from_numpy(np.stack(known)).float()
            if not plan.chunking.offload:
                lens["metric_intrinsics"] = lens["metric_intrinsics"].to(device)
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32 and not twin):
        output: NetOutput = network(
            images,
            extrinsics,
            intrinsics,
            options.export_feat_layers,
            options.infer_gs and options.gs_source == "head",
            options.use_ray_pose,
            options.ref_view_strategy,
            rays=options.use_ray_pose,
            on_block=lambda done, total: report("network", done, total),
            gaussian_unit="predicted",
            chunking=chunking,
            key_pooling=options.key_pooling,
            **lens,
        )
    output.memory_plan = str(plan)
    return output


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def network_cameras(
    inputs: ModelInputs, device: torch.device
) -> tuple[Float[Tensor, "1 K 4 4"] | None, Float[Tensor, "1 K 3 3"] | None]:
    """Given cameras as the network reads them.

    Without a pose for every view, or anchors, it is not conditioned, and intrinsics stay outside.
    """
    if inputs.anchors is not None:
        known = (inputs.anchors.extrinsics, inputs.anchors.intrinsics)
        poses, lenses = (torch.from_numpy(matrices).float()[None].to(device) for matrices in known)
        return poses, lenses
    if inputs.extrinsics is None or inputs.intrinsics is None or not np.isfinite(inputs.extrinsics).all():
        return None, None
    extrinsics = torch.from_numpy(normalise_extrinsics(inputs.extrinsics)).float()
    intrinsics = torch.from_numpy(inputs.intrinsics).float()
    return extrinsics[None].to(device), intrinsics[None].to(device)
