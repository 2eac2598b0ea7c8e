"""Two processes do what one does with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import any_view, log_of
from torch import Tensor

from depth_anything_3.train.distributed import World, exchanging, parallelise, world
from depth_anything_3.train.trainer import Trainer
from depth_anything_3.zoo.checkpoints import build_network, resolve

STEPS = 3
SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of two processes, see ``two_processes.py``."""
    folder = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(SCRIPT.parents[1]), *sys.path])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*launch, str(SCRIPT), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Trainer]:
    """Number of parts of a batch -> a run of one process over three steps."""
    runs = {}
    for parts in (2, 4):
        folder = tmp_path_factory.mktemp("alone")
        runs[parts] = Trainer(replace(any_view(STEPS), accumulation=parts), folder)
        runs[parts].run()
    return runs


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    own = {name: p.detach() for name, p in trainer.objective.named_parameters()}
    return own | dict(trainer.objective.named_buffers())


def relative_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    one, other = (torch.cat([v[name].double().flatten() for name in a]) for v in (a, b))
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("run", "parts"), [("ddp", 2), ("fsdp", 2), ("ddp_in_parts", 4)])
def test_two_processes_agree_with_one(two: Path, alone: dict[int, Trainer], run: str, parts: int) -> None:
    expected = weights_of(alone[parts])
    found = torch.load(two / run / "weights.pt", weights_only=True)
    assert relative_difference(found, expected) < 1e-6
    for name, value in expected.items():
        # Biases begin at zero, and those of attention's keys have no gradient but rounding. Adam divides by the size of
        # a gradient, so that rounding weighs more where gradients are small: 1.4e-6 in one layer, on one machine.
        if value.ndim >= 2:
            assert relative_difference({name: found[name]}, {name: value}) < 5e-6, name
    for a, b in zip(log_of(two / run), log_of(alone[parts].folder), strict=True):
        for name in ("total", "depth", "camera", "correspondence", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-6, abs=1e-6)


def test_copies_of_the_weights_agree_bit_by_bit(two: Path, alone: dict[int, Trainer]) -> None:
    found = torch.load(two / "ddp" / "weights.pt", weights_only=True)
    different = [name for name, value in weights_of(alone[2]).items() if not torch.equal(found[name], value)]
    assert not different


def test_the_comparison_would_notice(alone: dict[int, Trainer]) -> None:
    """Another batch, or the same one only once, is far from the tolerance."""
    assert relative_difference(weights_of(alone[2]), weights_of(alone[4])) > 1e-4


@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_processes_loads_in_one(two: Path, alone: dict[int, Trainer], run: str) -> None:
    one = Trainer(replace(any_view(STEPS), accumulation=2), two / run)
    assert one.restore() and one.step == STEPS
    assert torch.load(two / run / "weights.pt", weights_only=True).keys() == weights_of(one).keys()
    for name, value in torch.load(two / run / "weights.pt", weights_only=True).items():
        assert torch.equal(weights_of(one)[name], value), name
    assert one.average is not None and alone[2].average is not None
    assert relative_difference(one.average.weights, alone[2].average.weights) < 1e-6
    moments = [{n: t.optimiser.state[p]["exp_avg"] for n, p in t.objective.named_parameters()} for t in (one, alone[2])]
    assert relative_difference(*moments) < 1e-6


@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_two_processes_write_the_trained_network(two: Path, alone: dict[int, Trainer], run: str) -> None:
    written = dict(build_network(resolve(two / run / "trained")).named_parameters())
    expected = dict(alone[2].trained_network().named_parameters())
    assert relative_difference(written, expected) < 1e-6


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with world("cpu") as here:
        assert here == World(0, 1, torch.device("cpu"))
        assert here.first and here.any(True) and not here.any(False)
        assert here.mean({"a": 2.0}) == {"a": 2.0}
        here.barrier()
        objective = Trainer(any_view(), tmp_path).objective
        assert parallelise(objective, here, "fsdp") is objective
        with exchanging(objective, last=False):
            pass
