"""Started by torchrun from the tests: trains in two processes, once per way of sharing the work. Argument: a folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from support.training import any_view

from depth_anything_3.train.distributed import World, whole, world
from depth_anything_3.train.trainer import Trainer

STEPS = 3


def train(here: World, folder: Path, parallel: str, accumulation: int) -> None:
    """Three steps; the first process leaves the weights and buffers as ``weights.pt`` and the trained network."""
    config = replace(any_view(STEPS), parallel=parallel, accumulation=accumulation)
    trainer = Trainer(config, folder, here=here)
    trainer.run()
    weights = {name: whole(p.detach()) for name, p in trainer.objective.named_parameters()}
    trainer.export(folder / "trained", half=False)
    if here.first:
        torch.save(weights | dict(trainer.objective.named_buffers()), folder / "weights.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    with world("cpu") as here:
        train(here, root / "ddp", "ddp", 1)
        train(here, root / "fsdp", "fsdp", 1)
        train(here, root / "ddp_in_parts", "ddp", 2)
