"""What a run would take, against what it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import any_view, single_view, views

from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.train.config import InitOptions, OptimiserOptions, TrainConfig
from depth_anything_3.train.lora import LowRank
from depth_anything_3.train.plan import Plan, plan
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer


def test_parameters_are_those_of_the_network(tmp_path: Path) -> None:
    for make in (any_view, single_view):
        config = make()
        made = plan(config)
        assert made.parameters == sum(p.numel() for p in Trainer(config, tmp_path).objective.net.parameters())
        assert made.steps == config.steps


@pytest.mark.parametrize(
    "init", [InitOptions(), InitOptions(frozen=("backbone.",)), InitOptions(frozen=("pos_embed", "cam_dec."))]
)
def test_trained_parameters_are_those_that_get_a_gradient(tmp_path: Path, init: InitOptions) -> None:
    config = any_view(init=init)
    config = replace(config, objective=replace(config.objective, pose_conditioning=1.0))
    assert plan(config).trained == with_gradient(config, tmp_path, steps=1)


def test_low_rank_changes_are_all_that_is_trained(tmp_path: Path) -> None:
    config = any_view(init=InitOptions(lora_rank=3))
    network = Trainer(config, tmp_path).objective.net
    added = [p for m in network.modules() if isinstance(m, LowRank) for p in m.parameters()]
    assert plan(config).trained == sum(p.numel() for p in added) > 0
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in added}
    assert plan(config).parameters == plan(any_view()).parameters


def with_gradient(config: TrainConfig, folder: Path, steps: int) -> int:
    trainer = Trainer(config, folder)
    for _ in range(steps):
        trainer.train_step()
    return sum(p.numel() for p in trainer.objective.parameters() if p.grad is not None)


def test_state_is_weights_gradients_moments_and_average(tmp_path: Path) -> None:
    for ema in (0.0, 0.9):
        config = any_view(optimiser=OptimiserOptions(ema=ema))
        trainer = Trainer(config, tmp_path / str(ema))
        trainer.train_step()
        net = trainer.objective.net
        kept = [*net.parameters(), *(trainer.average.weights.values() if trainer.average else ())]
        kept += [v for state in trainer.optimiser.state.values() for v in state.values() if v.ndim]
        kept += [p.grad for p in net.parameters() if p.grad is not None]
        taken = sum(t.numel() * t.element_size() for t in kept)
        assert plan(config).state_bytes == pytest.approx(taken, rel=0.2)  # the idle have moments too, and no gradient


class Kept:
    """Bytes that the backward pass of one step holds on to, every tensor once, without the weights."""

    def __init__(self, trainer: Trainer) -> None:
        weights = {p.untyped_storage().data_ptr() for p in trainer.objective.parameters()}
        self.storages: dict[int, Any] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                self.storages[storage.data_ptr()] = storage
            return tensor

        batch = trainer.batch(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.objective(batch, None, 0, None)["total"].sum()
        self.bytes = sum(storage.nbytes() for storage in self.storages.values())


@pytest.mark.parametrize("name", ["da3_tiny", "teacher_tiny"])
def test_activations_are_estimated_within_a_factor_of_two(tmp_path: Path, name: str) -> None:
    """Of the whole network, over as many tokens as its recipe has."""
    config = RECIPES[name]()
    data = replace(views((2, 2) if name == "da3_tiny" else (1, 1)), sizes=((84, 112),), tokens=384)
    phase = replace(config.phases[0], data=data)
    small = any_view() if name == "da3_tiny" else single_view()
    config = replace(config, phases=(phase,), sources=small.sources, precision="float32")
    kept = Kept(Trainer(config, tmp_path)).bytes
    assert kept / 2 < plan(config).activation_bytes < 2 * kept


def test_recomputing_and_precision_shrink_the_estimate() -> None:
    config = RECIPES["da3_small"]()
    whole = plan(config).activation_bytes
    assert plan(replace(config, activation_checkpointing=True)).activation_bytes < whole / 5
    assert plan(replace(config, precision="float32")).activation_bytes == pytest.approx(2 * whole)


@pytest.mark.parametrize(
    ("sizes", "number", "tokens", "accumulation", "expected"),
    [
        (((84, 112),), (1, 4), 1536, 1, 1536),
        (((84, 112),), (1, 4), 1536, 4, 6144),
        (((84, 112), (140, 140)), (1, 4), 100, 1, 400),  # one sample exceeds the budget
    ],
)
def test_tokens_of_a_step(
    sizes: tuple[tuple[int, int], ...], number: tuple[int, int], tokens: int, accumulation: int, expected: int
) -> None:
    config = any_view(accumulation=accumulation)
    data = replace(config.phases[0].data, sizes=sizes, views=number, tokens=tokens)
    small = replace(config.phases[0], data=views((1, 1), samples=1))
    phases = (small, replace(config.phases[0], data=data))
    assert plan(replace(config, phases=phases)).tokens_per_step == expected


def test_nothing_is_allocated() -> None:
    """The largest network there is: its weights alone are 5 GB."""
    config = replace(RECIPES["da3_giant_paper"](), optimiser=OptimiserOptions())
    made = plan(config)
    assert isinstance(made, Plan)
    assert made.state_bytes == 4 * (made.parameters + 3 * made.trained)
    assert config.preset in MODEL_REGISTRY
