"""Checkpoints are whole or not there, whenever a process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import any_view, log_of

from depth_anything_3.errors import CheckpointError
from depth_anything_3.train.checkpoints import KEPT, newest
from depth_anything_3.train.config import OptimiserOptions
from depth_anything_3.train.trainer import Trainer

SCRIPT = Path(__file__).with_name("victim.py")
STEPS, INTERVAL, STOP_AFTER = 60, 2, 6
PLACES = {"data": 4, "metadata": 4, "rename": 4, "removal": 6}
"""Where a process is killed while it writes the checkpoint of step 6 -> the step that must not be lost."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Place -> folder of a run that was killed there; ``training``: killed between two checkpoints."""
    folders = {place: tmp_path_factory.mktemp(place) for place in (*PLACES, "training")}
    path = os.pathsep.join([str(SCRIPT.parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    running = {
        place: subprocess.Popen([sys.executable, str(SCRIPT), str(folder), place], env=environment)
        for place, folder in folders.items()
    }
    try:
        for place, process in running.items():
            _wait_and_kill(process, folders[place], place)
        yield folders
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def _wait_and_kill(process: subprocess.Popen[bytes], folder: Path, place: str) -> None:
    for _ in range(3000):
        log = folder / "log.jsonl"
        far = log.exists() and log.read_text().count("\n") >= STOP_AFTER + 1
        if far if place == "training" else (folder / "waiting").exists():
            break
        assert process.poll() is None, f"{place}: ended by itself"
        time.sleep(0.1)
    else:
        pytest.fail(f"{place}: never got there")
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The run without any interruption, a little further than where the others were killed."""
    trainer = Trainer(any_view(STEPS), tmp_path_factory.mktemp("straight"))
    trainer.run(STOP_AFTER + 2)
    return trainer


@pytest.mark.parametrize("place", PLACES)
def test_a_process_killed_while_writing_loses_no_checkpoint(
    killed: dict[str, Path], straight: Trainer, place: str
) -> None:
    folder = killed[place]
    left = {path.name for path in (folder / "checkpoints").iterdir()}
    assert any(name.endswith(".removed" if place == "removal" else ".partial") for name in left), left
    trainer = Trainer(any_view(STEPS), folder)
    assert trainer.restore()
    assert trainer.step == PLACES[place]
    trainer.run(STOP_AFTER + 2)
    same_weights(trainer, straight)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["step_000000006", "step_000000008"]


def test_a_process_killed_while_training_loses_at_most_one_interval(killed: dict[str, Path], straight: Trainer) -> None:
    last = int(log_of(killed["training"])[-1]["step"])
    trainer = Trainer(any_view(STEPS), killed["training"])
    assert trainer.restore()
    assert last - INTERVAL <= trainer.step
    while trainer.step > STOP_AFTER + 2 and straight.step < trainer.step:
        straight.train_step()
    trainer.run(max(trainer.step, straight.step))
    same_weights(trainer, straight)


def same_weights(a: Trainer, b: Trainer) -> None:
    other = b.objective.state_dict()
    different = [name for name, value in a.objective.state_dict().items() if not torch.equal(value, other[name])]
    assert a.step == b.step and not different


def test_two_checkpoints_stay(straight: Trainer) -> None:
    names = sorted(path.name for path in (straight.folder / "checkpoints").iterdir())
    assert names == ["step_000000006", "step_000000008"]
    assert len(names) == KEPT
    assert newest(straight.folder) == straight.folder / "checkpoints" / names[-1]
    assert newest(straight.folder / "elsewhere") is None


def test_a_name_that_is_not_a_whole_checkpoint_is_not_read(tmp_path: Path) -> None:
    for name in ("step_000000001.partial", "step_000000002.removed", "step_3", "other"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest(tmp_path) is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    Trainer(any_view(2, optimiser=OptimiserOptions()), tmp_path).run()
    with pytest.raises(CheckpointError, match=r"lacks extra\..*belongs to another run"):
        Trainer(any_view(2), tmp_path).run()


def test_state_that_older_checkpoints_lack_begins_at_zero(tmp_path: Path) -> None:
    """They hold no optimiser state of parameters that had no gradient yet, such as those of the camera encoder."""
    config = any_view(4)
    never = replace(config, objective=replace(config.objective, pose_conditioning=0.0))
    trainer = Trainer(never, tmp_path)
    for _ in range(2):
        trainer.train_step()
    without = list(trainer.objective.net.cam_enc.parameters())
    for parameter in without:
        assert trainer.optimiser.state.pop(parameter)["step"] == 0
    trainer.save()
    later = Trainer(config, tmp_path)
    assert later.restore()
    states = [later.optimiser.state[p] for p in later.objective.net.cam_enc.parameters()]
    assert all(state["step"] == 0 and not state["exp_avg"].any() for state in states)
    trained = later.optimiser.state[later.objective.net.head.projects[0].weight]
    assert trained["step"] == 2 and trained["exp_avg"].any()
