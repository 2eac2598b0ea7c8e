"""Fine-tuning a checkpoint on a folder of one's own: whole, by low-rank changes, or the heads alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.rgbd_rooms import write_room
from support.training import ANY_VIEW, SIZE, any_view, log_of
from torch import Tensor

from depth_anything_3 import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.lora import LowRank, adapt, adapted_layers, merge
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer, new_network
from depth_anything_3.train.untrained import untrained
from depth_anything_3.zoo.checkpoints import build_network, resolve

STEPS = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little any-view network after three steps on other rooms."""
    folder = tmp_path_factory.mktemp("checkpoint")
    trainer = Trainer(any_view(3), folder / "run")
    trainer.run()
    return trainer.export(folder / "trained", half=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two posed scenes."""
    folder = tmp_path_factory.mktemp("data")
    write_room(folder / "kitchen", seed=11)
    write_room(folder / "hall", seed=12, sky=False)
    return folder


def configured(how: str, checkpoint: Path, data: Path) -> TrainConfig:
    """The recipe, with the little network, small pictures and larger steps."""
    recipe = RECIPES["finetune"](checkpoint=str(checkpoint), preset="da3-tiny", data=data, how=how, steps=STEPS)
    (phase,) = recipe.phases
    views = replace(phase.data, sizes=(SIZE,), views=(2, 3), tokens=3 * 12)
    return replace(
        recipe,
        model=ANY_VIEW,
        phases=(replace(phase, data=views, learning_rate=1e-2 if how == "lora" else 2e-3, warmup=1),),
        optimiser=replace(recipe.optimiser, ema=0.5),
        accumulation=2,
        precision="float32",
        log_every=1,
    )


class Run:
    """Fine-tuned by one of the ways."""

    def __init__(self, how: str, checkpoint: Path, data: Path, folder: Path) -> None:
        self.config = configured(how, checkpoint, data)
        self.before: dict[str, Tensor] = build_network(resolve(checkpoint)).state_dict()
        self.trainer = Trainer(self.config, folder / "run")
        self.trainer.run()
        self.exported = self.trainer.export(folder / "trained", half=False)
        self.log = log_of(folder / "run")
        self.after: dict[str, Tensor] = build_network(resolve(self.exported)).state_dict()

    @property
    def changed(self) -> set[str]:
        assert self.before.keys() == self.after.keys()
        names = dict(self.trainer.trained_network().named_parameters())  # every tensor once, by its first name
        return {name for name in names if not torch.equal(self.before[name], self.after[name])}


@pytest.fixture(scope="module")
def runs(checkpoint: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return {how: Run(how, checkpoint, data, tmp_path_factory.mktemp(how)) for how in ("whole", "lora", "heads")}


def test_whole(runs: dict[str, Run]) -> None:
    run = runs["whole"]
    parameters = {name for name, _ in run.trainer.objective.net.named_parameters()}
    assert run.changed == parameters - set(untrained(run.trainer.objective.net, run.config.objective))


def test_heads(runs: dict[str, Run]) -> None:
    run = runs["heads"]
    assert {name.partition(".")[0] for name in run.changed} == {"head", "cam_enc", "cam_dec"}
    assert "cam_dec.backbone.0.weight" in run.changed  # the decoder has a part of the transformer's name
    assert run.changed == {name for name in runs["whole"].changed if not name.startswith("backbone.")}


def test_low_rank_changes(runs: dict[str, Run]) -> None:
    run = runs["lora"]
    adapted = {f"backbone.{name}.weight" for name, _ in adapted_layers(build_network(resolve(run.exported)))}
    assert len(adapted) == 4 * 4  # layers of four blocks
    assert run.changed == adapted
    for name in adapted:
        change = (run.after[name] - run.before[name]).double()
        values = torch.linalg.svdvals(change)
        assert int((values > 1e-5 * values[0]).sum()) <= run.config.init.lora_rank < min(change.shape)


@pytest.mark.parametrize("how", ["whole", "lora", "heads"])
def test_the_folder_is_learned(runs: dict[str, Run], how: str) -> None:
    """On one batch that the steps do not choose: the network explains it better than before."""
    run = runs[how]
    batch = run.trainer.batch(10_000)
    options = replace(run.config.objective, conf_weight=None, pose_conditioning=0.0)
    totals = []
    for weights in (run.before, run.after):
        network = new_network(run.config)
        network.load_state_dict(weights)
        objective = type(run.trainer.objective)(network, options).eval()
        with torch.no_grad():
            totals.append(float(objective(batch, None, 0, None)["total"].mean()))
    assert totals[1] < (0.9 if how == "whole" else 0.98) * totals[0]


@pytest.mark.parametrize("how", ["whole", "lora", "heads"])
def test_the_first_step_begins_at_the_checkpoint(runs: dict[str, Run], how: str) -> None:
    """The first losses are those of the checkpoint: they agree between the ways, whatever these change."""
    first = [
        {k: line[k] for k in ("depth", "ray", "camera", "views")} for line in (runs["whole"].log[0], runs[how].log[0])
    ]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert [line["step"] for line in runs[how].log] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("how", ["whole", "lora", "heads"])
def test_the_export_is_an_ordinary_checkpoint(runs: dict[str, Run], how: str) -> None:
    """Under the usual names, and what it predicts is what the trained network says."""
    run = runs[how]
    model = DepthAnything3.from_pretrained(run.exported, device="cpu")
    images = [np.asarray(image) for image in np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), dtype=np.uint8)]
    prediction = model.inference(images, process_res=max(SIZE))
    assert prediction.depth.shape[0] == 2 and np.isfinite(prediction.depth).all()
    batch = run.trainer.batch(0)
    with torch.no_grad():
        loaded = build_network(resolve(run.exported)).encode(batch.images)
        merged = run.trainer.trained_network().encode(batch.images)
    torch.testing.assert_close(loaded.depth, merged.depth, rtol=1e-4, atol=1e-5)


def test_merging_changes_no_prediction(runs: dict[str, Run]) -> None:
    """The network with its low-rank changes beside the weights, against the one with the changes in them."""
    run = runs["lora"]
    network = new_network(run.config)
    network.load_state_dict(run.before)
    adapt(network, run.config.init.lora_rank, seed=5)
    for i, module in enumerate(m for m in network.modules() if isinstance(m, LowRank)):
        torch.nn.init.normal_(module.up, std=0.05, generator=torch.Generator().manual_seed(i))
    images = run.trainer.batch(0).images
    with torch.no_grad():
        beside = network.eval().encode(images).depth
        merge(network)
        inside = network.encode(images).depth
        plain = build_network(resolve(run.config.init.source or "")).encode(images).depth
    torch.testing.assert_close(inside, beside, rtol=1e-4, atol=1e-5)
    assert (inside / plain).log().abs().mean() > 1e-3
    assert network.state_dict().keys() == run.before.keys()


def test_low_rank_changes_begin_at_zero_and_are_a_function_of_the_seed() -> None:
    def changes(seed: int) -> list[Tensor]:
        network = new_network(any_view())
        adapt(network, 3, seed)
        trained = [p for p in network.parameters() if p.requires_grad]
        assert len(trained) == 2 * len(adapted_layers(network))
        layers = [m for m in network.modules() if isinstance(m, LowRank)]
        assert all(not layer.up.any() and layer.down.shape[0] == 3 for layer in layers)
        return [layer.down.detach() for layer in layers]

    one, same, other = changes(0), changes(0), changes(1)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_resuming_low_rank_changes(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    config = configured("lora", checkpoint, data)
    straight = Trainer(config, tmp_path / "straight")
    straight.run(4)
    for until in (2, 4):
        halting = Trainer(config, tmp_path / "halting")
        halting.run(until)
    one, other = straight.trained_network().state_dict(), halting.trained_network().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_there_must_be_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    config = configured("whole", checkpoint, tmp_path / "nothing")
    with pytest.raises(InputError):
        Trainer(config, tmp_path / "run")
