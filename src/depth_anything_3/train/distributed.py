"""One process or many: what PyTorch's own launcher and wrappers need. Started by ``torchrun``, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from depth_anything_3.train.objectives import Objective

Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """This process among all of them.

    Attributes:
        rank, size: of all processes.
        device: of this one.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes logs and final files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """Means over all processes, name by name; all have the same names."""
        if self.size == 1:
            return numbers
        values = torch.tensor(list(numbers.values()), device=self.device, dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(numbers, (values / self.size).tolist(), strict=True))


@contextmanager
def world(device: str) -> Iterator[World]:
    """The processes that ``torchrun`` started, or this one alone.

    Args:
        device: ``cpu`` or ``cuda``; every process takes the GPU of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and "RANK" not in os.environ:
        yield World(0, 1, torch.device(device))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device(device, local) if device == "cuda" else torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(minutes=10))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def parallelise(objective: Objective, here: World, how: Parallel) -> nn.Module:
    """The module whose forward pass keeps all processes together; the objective itself with one process.

    Args:
        objective: with equal weights in all processes.
        here: this process.
        how: ``ddp`` keeps a copy of everything in each process; ``fsdp`` (FSDP2) cuts weights, gradients and optimiser
            state into parts, transformer block by transformer block.
    """
    if here.size == 1:
        return objective
    if how == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # of PyTorch 2.6 or newer

        mesh = init_device_mesh(here.device.type, (here.size,))
        for block in objective.net.backbone.pretrained.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(objective, mesh=mesh)
        return objective
    return DistributedDataParallel(objective, find_unused_parameters=True)


def exchanging(module: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Around one part of a step's batch: copies of the weights exchange gradients at the last part only.

    Args:
        module: as :func:`parallelise` returned it.
        last: whether no further part follows.
    """
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def whole(value: Tensor) -> Tensor:
    """A tensor that may be cut into parts, in one piece."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
