"""The state of a run on disk, through ``torch.distributed.checkpoint``: any number of processes can read what any
other number wrote.

A checkpoint is written under another name and renamed when it is whole, so that a process that is killed while it
writes loses nothing but that checkpoint.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from depth_anything_3.errors import CheckpointError
from depth_anything_3.train.distributed import World

KEPT = 2
"""Checkpoints that stay; older ones are removed when a new one is whole."""

_PARTIAL, _REMOVED = ".partial", ".removed"
_NAME = re.compile(r"step_\d{9}")


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, if it has any."""
    found = sorted(path for path in folder.glob("checkpoints/step_*") if _NAME.fullmatch(path.name))
    return found[-1] if found else None


def write_state(
    folder: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    extra: dict[str, Tensor],
    step: int,
    here: World,
) -> Path:
    """Write a checkpoint of a run; one that is there already is left alone.

    Args:
        folder: of the run.
        module, optimiser: whose state is written.
        extra: further tensors.
        step: that the state belongs to.
        here: this process; all call this together.
    """
    final = folder / "checkpoints" / f"step_{step:09d}"
    partial = final.with_name(final.name + _PARTIAL)
    if final.exists():
        return final
    if here.first:
        _sweep(final.parent)
    here.barrier()
    model_state, optimiser_state = get_state_dict(module, optimiser)
    state = {"model": model_state, "optimiser": optimiser_state, "extra": extra, "step": torch.tensor(step)}
    with _alone_is_fine():
        save(state, checkpoint_id=partial)
    here.barrier()
    if here.first:
        partial.replace(final)
        for old in sorted(path for path in final.parent.iterdir() if _NAME.fullmatch(path.name))[:-KEPT]:
            # Under its own name a checkpoint is whole, also if removing it is cut short.
            old.replace(old.with_name(old.name + _REMOVED))
        _sweep(final.parent)
    here.barrier()
    return final


def _sweep(folder: Path) -> None:
    """Remove what was given up, by this process or by one that was killed."""
    for suffix in (_PARTIAL, _REMOVED):
        for path in folder.glob(f"step_*{suffix}"):
            shutil.rmtree(path)


def read_state(checkpoint: Path, module: nn.Module, optimiser: torch.optim.Optimizer, extra: dict[str, Tensor]) -> int:
    """Load a checkpoint in place, ``extra`` included, and return its step.

    Parameters whose optimiser state it lacks keep what they have.

    Raises:
        CheckpointError: it lacks something else: it belongs to another run.
    """
    model_state, optimiser_state = get_state_dict(module, optimiser)
    step = torch.tensor(0)
    state = {"model": model_state, "optimiser": optimiser_state, "extra": extra, "step": step}
    stored = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    wanted = [f"{part}.{name}" for part, tensors in (("model", model_state), ("extra", extra)) for name in tensors]
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise CheckpointError(f"{checkpoint} lacks {', '.join(missing[:3])}: it belongs to another run")
    with _alone_is_fine():
        load(state, checkpoint_id=checkpoint, planner=DefaultLoadPlanner(allow_partial_load=True))
    set_state_dict(module, optimiser, model_state_dict=model_state, optim_state_dict=optimiser_state)
    return int(step)


@contextmanager
def _alone_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
        yield
