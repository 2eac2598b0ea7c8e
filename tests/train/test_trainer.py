"""The loop: resuming, starting from weights, what the log says, signals."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import any_view, log_of, single_view, views
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.train.checkpoints import newest
from depth_anything_3.train.config import InitOptions, LabelOptions, OptimiserOptions
from depth_anything_3.train.trainer import Trainer
from depth_anything_3.zoo.checkpoints import build_network, resolve


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a single-view network that was trained for three steps."""
    folder = tmp_path_factory.mktemp("teacher")
    trainer = Trainer(single_view(3), folder / "run")
    trainer.run()
    return trainer.export(folder / "trained", half=False)


def state(trainer: Trainer) -> dict[str, Tensor]:
    """Every tensor of a run's state, by a name of its own."""
    result = {f"model.{name}": value for name, value in trainer.objective.state_dict().items()}
    result |= {f"extra.{name}": value for name, value in trainer._extra().items()}
    for name, parameter in trainer.objective.named_parameters():
        for part, value in trainer.optimiser.state.get(parameter, {}).items():
            result[f"optimiser.{name}.{part}"] = value
    return result


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different


def test_a_run_that_was_stopped_goes_on_bit_by_bit(tmp_path: Path, teacher: Path) -> None:
    labels = LabelOptions(teacher=str(teacher), from_step=3, share=0.7, simulate_sensor=True)
    config = any_view(8, labels=labels)
    straight = Trainer(config, tmp_path / "straight")
    straight.run()
    for until in (3, 5, None):
        halting = Trainer(config, tmp_path / "halting")
        halting.run(until)
        assert halting.step == (until or 8)
    assert_equal(state(halting), state(straight))
    one, other = log_of(tmp_path / "straight"), log_of(tmp_path / "halting")
    assert [{**line, "seconds": 0} for line in one] == [{**line, "seconds": 0} for line in other]


def test_what_the_bit_by_bit_run_contains(tmp_path: Path, teacher: Path) -> None:
    """The labels, the poses and the matches whose resuming is tested above do take part."""
    labels = LabelOptions(teacher=str(teacher), from_step=3, share=0.7, simulate_sensor=True)
    trainer = Trainer(any_view(8, labels=labels), tmp_path)
    given = []
    trainer.objective.net.cam_enc.register_forward_pre_hook(lambda module, inputs: given.append(trainer.step))
    trainer.run()
    log = log_of(tmp_path)
    assert 0 < len(given) < 8
    assert {line["labels"] for line in log[:3]} == {0}
    assert {line["labels"] for line in log[3:]} == {0, 1}
    assert all(line["correspondence"] > 0 for line in log)


def test_the_loss_source_changes_at_exactly_the_configured_step(tmp_path: Path, teacher: Path) -> None:
    with_labels = any_view(6, labels=LabelOptions(teacher=str(teacher), from_step=4))
    Trainer(with_labels, tmp_path / "labels").run()
    Trainer(any_view(6), tmp_path / "truth").run()
    log, truth = log_of(tmp_path / "labels"), log_of(tmp_path / "truth")
    assert [line["labels"] for line in log] == [0, 0, 0, 0, 1, 1]
    same = [a["depth"] == b["depth"] for a, b in zip(log, truth, strict=True)]
    assert same == [True, True, True, True, False, False]


@pytest.mark.parametrize("make", [any_view, single_view])
def test_continuing_from_weights_preserves_the_function(tmp_path: Path, make: Any) -> None:
    first = Trainer(make(4), tmp_path / "first")
    first.run()
    source = first.export(tmp_path / "weights", half=False)
    start = InitOptions(start="weights", source=str(source))
    config = make(4, init=start, seed=5)
    config = replace(config, phases=(replace(config.phases[0], steps=40, warmup=20),))
    second = Trainer(config, tmp_path / "second")
    batch = first.batch(0)
    expected = first.trained_network().encode(batch.images, rays=make is any_view)
    with torch.no_grad():
        learning = second.objective.net.encode(batch.images, rays=make is any_view)
    written = second.trained_network().encode(batch.images, rays=make is any_view)
    for name in ("depth", "sky", "ray", "pose_encoding"):
        for made in (learning, written):
            torch.testing.assert_close(getattr(made, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    peak = config.phases[0].learning_rate
    assert [second.train_step()["rate"] for _ in range(2)] == pytest.approx([peak / 20, peak / 10])
    after = second.objective.net.encode(batch.images).depth
    at_once = Trainer(replace(config, phases=(replace(config.phases[0], warmup=0),)), tmp_path / "at_once")
    for _ in range(2):
        at_once.train_step()
    sudden = at_once.objective.net.encode(batch.images).depth
    warm, cold = ((depth / expected.depth).log().abs().mean() for depth in (after, sudden))
    assert 0 < warm < cold / 3


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, teacher: Path) -> None:
    other = tuple(change for change in any_view().model if "vitt" not in change and "net.name" not in change)
    wide = (*other, "net.name=vitt", "head.dim_in=384", "cam_enc.dim_out=192", "cam_dec.dim_in=384")
    config = any_view(init=InitOptions(start="weights", source=str(teacher)), model=wide)
    with pytest.raises(InputError, match=r"init\.source.*another network than da3-tiny"):
        Trainer(config, tmp_path)
    with pytest.raises(InputError, match=r"init\.source: got nothing"):
        Trainer(any_view(init=InitOptions(start="weights")), tmp_path)


def test_labels_need_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.teacher"):
        Trainer(any_view(labels=LabelOptions()), tmp_path)


def test_a_step_whose_gradient_is_not_finite_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(any_view(), tmp_path)
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.objective.state_dict().items()}
    good = trainer.batch(1)
    monkeypatch.setattr(trainer, "batch", lambda step, part: replace(good, images=good.images * float("nan")))
    assert not trainer.train_step()["grad_norm"] < 1e9
    assert trainer.step == 2
    assert_equal(dict(trainer.objective.state_dict()), before)
    monkeypatch.undo()
    assert trainer.train_step()["grad_norm"] > 0
    changed = [n for n, v in trainer.objective.state_dict().items() if not torch.equal(v, before[n])]
    assert "camera_norm.mean" in changed
    assert "net.backbone.pretrained.blocks.0.attn.qkv.weight" in changed


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    config = any_view(3)
    trainer = Trainer(config, tmp_path)
    name = "net.backbone.pretrained.blocks.0.attn.qkv.weight"
    weight = dict(trainer.objective.named_parameters())[name]
    expected = weight.detach().clone().double()
    for step in range(3):
        trainer.train_step()
        decay = min(config.optimiser.ema, (2 + step) / (11 + step))
        expected = decay * expected + (1 - decay) * weight.detach().double()
    assert trainer.average is not None
    torch.testing.assert_close(trainer.average.weights[name].double(), expected, rtol=1e-5, atol=1e-7)
    exported = dict(trainer.trained_network().named_parameters())[name.removeprefix("net.")]
    torch.testing.assert_close(exported.double(), expected, rtol=1e-5, atol=1e-7)
    assert (exported - weight).abs().max() > 1e-5


def test_exported_weights_are_those_that_training_ends_with(tmp_path: Path) -> None:
    trainer = Trainer(any_view(3, optimiser=OptimiserOptions()), tmp_path)
    trainer.run()
    images = trainer.batch(0).images
    loaded = build_network(resolve(trainer.export(tmp_path / "trained", half=False)))
    half = build_network(resolve(trainer.export(tmp_path / "half")))
    with torch.no_grad():
        training, written, halved = (
            net.encode(images, rays=True) for net in (trainer.objective.net.eval(), loaded, half)
        )
    for name in ("depth", "ray", "pose_encoding"):
        torch.testing.assert_close(getattr(written, name), getattr(training, name), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(getattr(halved, name), getattr(training, name), rtol=3e-2, atol=3e-2)
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "trained")]
    assert size[0] < 0.7 * size[1]


def test_recomputing_blocks_changes_no_gradient(tmp_path: Path) -> None:
    norms = []
    for recompute in (False, True):
        trainer = Trainer(any_view(activation_checkpointing=recompute), tmp_path / str(recompute))
        norms.append([trainer.train_step()["grad_norm"] for _ in range(3)])
    assert norms[0] == norms[1]


def test_parts_of_a_batch_add_up(tmp_path: Path) -> None:
    """Two parts seen one after the other give the mean of their gradients."""
    whole = Trainer(any_view(accumulation=2), tmp_path / "whole")
    gradients = []
    for part in (0, 1):
        single = Trainer(any_view(), tmp_path / str(part))
        single.objective.camera_norm.load_state_dict(whole.objective.camera_norm.state_dict())
        single.objective(single.batch(0, part), None, 0, None)["total"].mean().backward()
        gradients.append({n: p.grad for n, p in single.objective.named_parameters()})
    monitored = "net.backbone.pretrained.blocks.2.mlp.fc1.weight"
    for part in (0, 1):
        whole._backward(part)
    found = dict(whole.objective.named_parameters())[monitored].grad
    torch.testing.assert_close(found, (gradients[0][monitored] + gradients[1][monitored]) / 2)
    assert not torch.equal(gradients[0][monitored], gradients[1][monitored])


def test_learning_rates_and_decay_by_part_of_the_network(tmp_path: Path) -> None:
    options = OptimiserOptions(weight_decay=0.1, backbone_rate=0.5, camera_decoder_rate=0.25)
    trainer = Trainer(any_view(optimiser=options), tmp_path)
    of = {id(p): g for g in trainer.optimiser.param_groups for p in g["params"]}
    found = {n: (of[id(p)]["rate"], of[id(p)]["weight_decay"]) for n, p in trainer.objective.named_parameters()}
    backbone = "net.backbone.pretrained."
    assert found[f"{backbone}blocks.0.mlp.fc1.weight"] == (0.5, 0.1)
    assert found[f"{backbone}blocks.0.mlp.fc1.bias"] == (0.5, 0)
    assert found[f"{backbone}camera_token"] == found[f"{backbone}pos_embed"] == (0.5, 0)
    assert found["net.cam_dec.fc_t.weight"] == (0.25, 0.1)
    assert found["net.head.projects.0.weight"] == (1, 0.1)
    assert trainer.train_step()["rate"] == trainer.config.phases[0].learning_rate / 2
    assert sorted({g["lr"] / g["rate"] for g in trainer.optimiser.param_groups}) == pytest.approx([5e-4])


def test_phases_follow_each_other(tmp_path: Path) -> None:
    config = any_view()
    first = replace(config.phases[0], steps=2, data=views((2, 2)))
    losses = replace(config.objective, camera=0.0, correspondence=0.0)
    second = replace(config.phases[0], steps=3, learning_rate=2e-3, data=views((1, 1)), objective=losses)
    Trainer(replace(config, phases=(first, second)), tmp_path).run()
    log = log_of(tmp_path)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    assert [line["views"] for line in log] == [2, 2, 1, 1, 1]
    assert ["camera" in line for line in log] == [True, True, False, False, False]
    assert log[2]["rate"] == 1e-3 and log[3]["rate"] == 2e-3  # half way up, and at the top


def test_one_batch_for_all_steps(tmp_path: Path) -> None:
    trainer = Trainer(any_view(fixed_batch=True), tmp_path)
    assert torch.equal(trainer.batch(0).images, trainer.batch(5).images)
    varied = Trainer(any_view(), tmp_path)
    assert varied.batch(0).images.shape != varied.batch(5).images.shape or not torch.equal(
        varied.batch(0).images, varied.batch(5).images
    )


def test_a_signal_saves_and_ends_the_run(tmp_path: Path) -> None:
    def interrupt(numbers: dict[str, float]) -> None:
        if numbers["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(any_view(8, save_every=100), tmp_path, logger=interrupt)
    trainer.run()
    assert trainer.step == 3
    assert newest(tmp_path) == tmp_path / "checkpoints" / "step_000000003"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_log_forgets_what_is_done_again(tmp_path: Path) -> None:
    config = any_view(6, save_every=4)
    Trainer(config, tmp_path).run(4)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "total": 1.0}\n{"step": 6, "tot')  # as a process that is killed leaves it
    Trainer(config, tmp_path).run()
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert all("depth" in line for line in log_of(tmp_path))
