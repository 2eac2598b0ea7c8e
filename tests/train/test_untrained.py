"""Every parameter earns its gradient, or is listed with a reason: for the losses of every phase of every recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.tiny import TINY
from support.training import ANY_VIEW, SINGLE_VIEW, RoomSource, views

from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.dinov2 import SIZES
from depth_anything_3.train.ablations import ABLATIONS
from depth_anything_3.train.config import InitOptions, TrainConfig
from depth_anything_3.train.objectives import Objective, ObjectiveOptions
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer, initial_network
from depth_anything_3.train.untrained import UNTRAINED, trained_parameters, untrained

GATED = f"{TINY}-gated"
"""The little backbone with the kind of MLP that the giant has."""

GAUSSIANS = ("gs_head.dim_in=64", "gs_head.features=16", "gs_head.out_channels=[8, 8, 8, 8]")
PHASES = [(name, i) for name in RECIPES for i in range(len(RECIPES[name]().phases))]
MOST_BATCHES = 6


@pytest.fixture(autouse=True)
def _gated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, GATED, SIZES[TINY]._replace(swiglu=True))


def little(name: str, phase: int = -1) -> TrainConfig:
    """A recipe's preset and the losses of one of its phases, with a little network."""
    recipe = RECIPES[name]()
    chosen = recipe.phases[phase]
    single = chosen.data.views[1] == 1
    model = (*recipe.model, *(SINGLE_VIEW if single else ANY_VIEW))
    if recipe.preset in ("da3-giant", "da3-gs-tiny"):
        model = (*model, *GAUSSIANS)
    if recipe.preset == "da3-giant":
        model = (*model, f"net.name={GATED}")
    losses = replace(chosen.objective or recipe.objective, correspondence_blocks=(1, 3), fit_samples=200)
    if 0 < losses.pose_conditioning < 1:
        losses = replace(losses, pose_conditioning=0.5)  # both happen within a few batches
    data = views((1, 1)) if single else views((2, 3), samples=1)
    return replace(
        recipe,
        model=model,
        objective=losses,
        phases=(replace(chosen, data=data, objective=None),),
        sources=((RoomSource(), 1.0),),
        init=InitOptions(frozen=recipe.init.frozen),
        precision="float32",
        labels=None,
    )


def gets_gradient(config: TrainConfig) -> tuple[DepthAnything3Net, set[str]]:
    """The network, and the names of its parameters that some batch gives a gradient other than zero."""
    network, _ = initial_network(config)
    network.requires_grad_(True)
    objective = Objective(network, config.objective).train()
    source = Batches(config)
    seen: set[str] = set()
    for step in range(MOST_BATCHES):
        objective.zero_grad()
        objective(source.batch(step), None, step, None)["total"].sum().backward()
        seen |= {n for n, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
        if seen == {n for n, _ in network.named_parameters()} - set(untrained(network, config.objective)):
            break
    return network, seen


class Batches:
    """The batches of a run without the run."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    batch = Trainer.batch
    here = type("Here", (), {"device": torch.device("cpu")})()


def check(config: TrainConfig) -> dict[str, str]:
    network, seen = gets_gradient(config)
    listed = untrained(network, config.objective)
    names = {name for name, _ in network.named_parameters()}
    assert set(listed) <= names
    assert not seen & set(listed), f"listed, though they get a gradient: {sorted(seen & set(listed))}"
    assert names - seen == set(listed), f"no gradient and no reason: {sorted(names - seen - set(listed))}"
    assert all(listed.values())
    return listed


@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_every_parameter_of_every_recipe(name: str, phase: int) -> None:
    listed = check(little(name, phase))
    reasons = {key.partition(".")[0] for key in listed}
    if name == "da3_giant_paper":
        assert reasons == {"head", "gs_head"}  # four levels of which one is read; Gaussians come later
    if name in ("da3_gs", "gs_tiny"):
        assert reasons == {"head", "cam_dec"}  # the true cameras place what is drawn
    if name in ("da3_small", "finetune"):
        assert reasons == {"head"}
    if (name, phase) == ("da3_tiny", 0):
        assert reasons == {"head", "cam_enc"}  # no poses are given yet
    if RECIPES[name]().phases[0].data.views == (1, 1):
        assert not listed


@pytest.mark.parametrize("variant", [v for v in ABLATIONS if v not in ("extra_blocks", "no_teacher")])
def test_every_parameter_of_every_ablation(variant: str) -> None:
    listed = check(ABLATIONS[variant](little("da3_small")))
    told = {
        "depth_camera": "neither rays nor points have a loss",
        "depth_ray": "cameras have no loss",
        "full_alternation": "the camera token takes its place before any block reads it",
        "separate_heads": "of two separate heads, this one is read for depth",
        "no_conditioning": "no poses are given",
    }
    assert variant not in told or told[variant] in listed.values()


OTHERS = {
    "poses always": ("da3_small", {"pose_conditioning": 1.0}),
    "no sky": ("teacher_tiny", {"sky": 0.0, "object": 0.0}),
    "no camera": ("da3_small", {"camera": 0.0, "pose_conditioning": 0.0}),
    "points alone": ("da3_small", {"ray": 0.0}),
    "rays alone": ("da3_small", {"point": 0.0}),
    "no confidence": ("da3_small", {"conf_weight": None}),
}


@pytest.mark.parametrize("case", ["poses always", "no sky", "no camera", "rays alone"])
def test_other_losses(case: str) -> None:
    name, changes = OTHERS[case]
    config = little(name)
    check(replace(config, objective=replace(config.objective, **changes)))


def test_every_rule_is_needed() -> None:
    """Each of them applies to some network and some losses above."""
    used: set[str] = set()
    cases = [little(name, phase) for name, phase in PHASES]
    cases += [ABLATIONS[v](little("da3_small")) for v in ABLATIONS if v != "extra_blocks"]
    cases += [replace(little(n), objective=replace(little(n).objective, **c)) for n, c in OTHERS.values()]
    for config in cases:
        network, _ = initial_network(config)
        used |= set(untrained(network, config.objective).values())
    assert used == {rule.reason for rule in UNTRAINED}


def test_a_run_trains_what_some_phase_trains() -> None:
    config = little("da3_tiny")
    network, _ = initial_network(config)
    without = replace(config.objective, pose_conditioning=0.0)
    first = replace(config.phases[0], objective=without)
    assert not any(n.startswith("cam_enc.") for n in trained_parameters(network, replace(config, phases=(first,))))
    both = trained_parameters(network, replace(config, phases=(first, config.phases[0])))
    assert any(name.startswith("cam_enc.") for name in both)
    assert not any("pos_embed" in name for name in both)  # frozen by this recipe
    assert set(both) <= {name for name, _ in network.named_parameters()}


def test_the_list_follows_the_losses() -> None:
    network, _ = initial_network(little("da3_small"))
    with_poses = untrained(network, ObjectiveOptions(pose_conditioning=0.2))
    without = untrained(network, ObjectiveOptions(pose_conditioning=0.0))
    assert {n.partition(".")[0] for n in set(without) - set(with_poses)} == {"cam_enc"}
    assert not set(with_poses) - set(without)
    single, _ = initial_network(little("teacher_tiny"))
    assert set(untrained(single, ObjectiveOptions(kind="teacher", sky=0.0, object=0.0))) == {
        name for name, _ in single.named_parameters() if "sky_output" in name
    }
