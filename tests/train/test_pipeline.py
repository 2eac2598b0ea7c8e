"""Teacher, labels, student: fifty steps of each on rooms.

A teacher of fifty steps is a poor one: on views it has not seen it is off by about a tenth. A good depth camera would
be better than its labels, so the simulated one is bad: a fifth off where it measures, which is at every fifth pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import RoomSource, any_view, log_of, single_view, views
from torch import Tensor

from depth_anything_3 import DepthAnything3
from depth_anything_3.train.augment import NO_AUGMENTATION
from depth_anything_3.train.config import InitOptions, LabelOptions, TrainConfig
from depth_anything_3.train.labels import Labeller
from depth_anything_3.train.objectives import Objective
from depth_anything_3.train.trainer import Trainer
from depth_anything_3.zoo.checkpoints import build_network, resolve

STEPS = 50
SWITCH = 30
"""First step of the student that labels supervise."""
NOISE = 0.2
UNSEEN = range(1_000, 1_006)
"""Steps that no run comes to: their batches are new views of the rooms."""


def trained(config: TrainConfig, *, rate: float, samples: int) -> TrainConfig:
    """On three rooms, seen from new places at every step, without augmentation."""
    number = config.phases[0].data.views
    phase = replace(config.phases[0], learning_rate=rate, warmup=3, data=views(number, samples))
    return replace(config, phases=(phase,), sources=((RoomSource(count=3), 1.0),), augment=NO_AUGMENTATION)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    folder = tmp_path_factory.mktemp("teacher")
    trainer = Trainer(trained(single_view(STEPS), rate=3e-3, samples=6), folder / "run")
    trainer.run()
    return trainer, trainer.export(folder / "trained")


def labels_of(teacher: Path) -> LabelOptions:
    return LabelOptions(teacher=str(teacher), from_step=SWITCH, simulate_sensor=True, sensor_noise=NOISE)


def student(labels: LabelOptions | None, teacher: Path) -> TrainConfig:
    config = trained(any_view(STEPS, labels=labels), rate=2e-3, samples=1)
    return replace(config, init=InitOptions(start="weights", source=str(teacher)), save_every=SWITCH)


@pytest.fixture(scope="module")
def taught(teacher: tuple[Trainer, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """The student, and the folder of its run."""
    folder = tmp_path_factory.mktemp("student")
    trainer = Trainer(student(labels_of(teacher[1]), teacher[1]), folder)
    trainer.run()
    return trainer, folder


def relative_error(depth: Tensor, truth: Tensor, where: Tensor) -> float:
    return float(((depth - truth).abs() / truth)[where].mean())


# The teacher -----------------------------------------------------------------------------------------------


def test_the_teacher_learns(teacher: tuple[Trainer, Path]) -> None:
    log = log_of(teacher[0].folder)
    assert len(log) == STEPS
    for name, factor in (("global_local", 0.6), ("normal", 0.75), ("sky", 0.6)):
        first, last = (sum(line[name] for line in part) / 5 for part in (log[:5], log[-5:]))
        assert last < factor * first, name


def batches(teacher: Trainer) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Labels, what the sensor measured, and the truth, on views that are new."""
    labeller = Labeller(labels_of(teacher.folder.parent / "trained"), torch.device("cpu"))
    for step in UNSEEN:
        batch = teacher.batch(step)
        yield (*labeller.labels(batch, step, None), batch.depth)


def test_labels_are_closer_to_the_truth_than_what_they_came_from(teacher: tuple[Trainer, Path]) -> None:
    for labels, measured, truth in batches(teacher[0]):
        where = (measured > 0) & (labels > 0)
        assert relative_error(labels, truth, where) < 0.75 * relative_error(measured, truth, where)


def test_labels_are_everywhere_but_in_the_sky(teacher: tuple[Trainer, Path]) -> None:
    for labels, measured, truth in batches(teacher[0]):
        assert not labels[truth == 0].any() and not measured[truth == 0].any()
        assert (labels[truth > 0] > 0).float().mean() > 0.99
        assert 0.15 < (measured[truth > 0] > 0).float().mean() < 0.25


def test_alignment_brings_the_unit(teacher: tuple[Trainer, Path]) -> None:
    """The teacher knows no scale; its labels have that of the measured depth, whatever it is."""
    trainer, checkpoint = teacher
    batch = trainer.batch(1_000)
    options = replace(labels_of(checkpoint), simulate_sensor=False)
    labeller = Labeller(options, torch.device("cpu"))
    in_metres, _ = labeller.labels(batch, 0, None)
    in_feet, _ = labeller.labels(replace(batch, depth=batch.depth / 0.3048), 0, None)
    torch.testing.assert_close(in_feet * 0.3048, in_metres, rtol=1e-3, atol=1e-3)
    raw, _ = Labeller(replace(options, align=False), torch.device("cpu")).labels(batch, 0, None)
    truth = batch.depth > 0
    assert relative_error(in_metres, batch.depth, truth) < 0.15 < relative_error(raw, batch.depth, truth)


# The student -----------------------------------------------------------------------------------------------


def test_the_loss_source_changes_at_exactly_the_configured_step(
    taught: tuple[Trainer, Path], teacher: tuple[Trainer, Path], tmp_path: Path
) -> None:
    log = log_of(taught[1])
    assert [line["step"] for line in log if line["labels"]] == list(range(SWITCH + 1, STEPS + 1))  # counted from one
    assert [line["labels"] for line in log[:SWITCH]] == [0] * SWITCH
    Trainer(student(None, teacher[1]), tmp_path).run(SWITCH + 2)
    for line, other in zip(log, log_of(tmp_path), strict=False):
        before = line["step"] <= SWITCH
        for name in ("depth", "gradient", "ray", "point", "camera", "total"):
            assert (line[name] == other[name]) == before, f"{name} of step {line['step']}"


def test_the_losses_after_the_switch_are_those_of_the_labels(
    taught: tuple[Trainer, Path], teacher: tuple[Trainer, Path], tmp_path: Path
) -> None:
    trainer = Trainer(student(labels_of(teacher[1]), teacher[1]), tmp_path)
    trainer.run(SWITCH)
    batch, seed = trainer.batch(SWITCH), SWITCH * 1009
    labels, _ = Labeller(labels_of(teacher[1]), torch.device("cpu")).labels(batch, seed, None)
    trainer.objective.train()
    with torch.no_grad():
        of_labels, of_truth = (trainer.objective(batch, depth, seed, None) for depth in (labels, None))
    logged = log_of(taught[1])[SWITCH]
    for name in ("depth", "gradient", "point"):
        assert logged[name] == pytest.approx(float(of_labels[name].mean()), rel=1e-3, abs=1e-5)
        assert logged[name] != pytest.approx(float(of_truth[name].mean()), rel=1e-3, abs=1e-5)


def test_the_student_learns(taught: tuple[Trainer, Path], teacher: tuple[Trainer, Path], tmp_path: Path) -> None:
    """On new views it does better than at its beginning, and its export is a model like any other."""
    trainer, folder = taught
    begin = Trainer(student(None, teacher[1]), tmp_path).trained_network()
    end = build_network(resolve(trainer.export(folder / "trained", half=False)))
    options = replace(trainer.config.objective, conf_weight=None, pose_conditioning=0.0, camera_norm=False)
    losses = []
    for network in (begin, end):
        objective = Objective(network, options)
        with torch.no_grad():
            found = [objective(trainer.batch(step), None, 0, None) for step in UNSEEN]
        losses.append({name: sum(float(f[name].mean()) for f in found) / len(found) for name in found[0]})
    for name, factor in (("depth", 0.97), ("ray", 0.65), ("point", 0.6), ("camera", 0.5), ("correspondence", 0.95)):
        assert losses[1][name] < factor * losses[0][name], name
    assert DepthAnything3.from_pretrained(folder / "trained", device="cpu") is not None
