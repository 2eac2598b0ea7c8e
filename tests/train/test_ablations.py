"""Each ablation of the paper's tables 6 and 7 changes what it says and nothing else, and trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny import TINY
from support.training import ANY_VIEW, RoomSource, views

from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.dinov2 import SIZES
from depth_anything_3.model.dualdpt import DualDPT
from depth_anything_3.train.ablations import ABLATIONS
from depth_anything_3.train.config import InitOptions, LabelOptions, TrainConfig
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.separate_heads import SeparateHeads
from depth_anything_3.train.trainer import Trainer, new_network

TWELVE = f"{TINY}-twelve"
"""The little backbone with as many blocks as the small one has."""

ALL_TERMS = {"correspondence", "depth", "gradient", "ray", "point", "camera"}
BLOCKS = ("net.out_layers=[5, 7, 9, 11]", "net.alt_start=4", "net.qknorm_start=4", "net.rope_start=4")


@pytest.fixture(autouse=True)
def _twelve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, TWELVE, SIZES[TINY]._replace(depth=12))


def base() -> TrainConfig:
    """The tiny student's recipe in the proportions of its presets, but narrow; poses are given at every step."""
    recipe = RECIPES["da3_tiny"](teacher="nowhere")
    last = recipe.phases[-1]
    assert last.objective is not None
    losses = replace(last.objective, pose_conditioning=1.0)
    return replace(
        recipe,
        model=(*ANY_VIEW, *BLOCKS, f"net.name={TWELVE}"),
        phases=(replace(last, steps=2, data=views((2, 2)), objective=losses),),
        sources=((RoomSource(), 1.0),),
        init=InitOptions(),
        precision="float32",
        labels=None,
    )


class Step:
    """One step of a run, and what took part in it."""

    def __init__(self, variant: str, folder: Path) -> None:
        self.config = ABLATIONS[variant](base()) if variant else base()
        trainer = Trainer(self.config, folder)
        self.net: DepthAnything3Net = trainer.objective.net
        self.conditioned = False

        def note(*_: object) -> None:
            self.conditioned = True

        assert self.net.cam_enc is not None
        self.net.cam_enc.register_forward_pre_hook(note)
        before = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self.losses = trainer.train_step()
        self.changed = {n for n, p in self.net.named_parameters() if not bool((p == before[n]).all())}

    @property
    def terms(self) -> set[str]:
        return set(self.losses) & ALL_TERMS


@pytest.mark.parametrize(
    ("variant", "without"),
    [
        ("", set()),
        ("depth_camera", {"ray", "point"}),
        ("depth_points", {"point"}),
        ("depth_ray", {"camera"}),
        ("depth_ray_camera", set()),
        ("extra_blocks", set()),
        ("full_alternation", set()),
        ("separate_heads", set()),
        ("no_conditioning", set()),
    ],
)
def test_every_ablation_trains_with_its_losses(variant: str, without: set[str], tmp_path: Path) -> None:
    step = Step(variant, tmp_path)
    assert step.terms == ALL_TERMS - without
    assert all(step.losses[name] > 0 for name in step.terms - {"depth", "ray"})  # these two may be negative
    assert 0 < step.losses["grad_norm"] < 1e6
    assert step.conditioned == (variant != "no_conditioning")
    parts = {name.partition(".")[0] for name in step.changed}
    assert parts == {"backbone", "head", *([] if "camera" in without else ["cam_dec"]), *(
        [] if variant == "no_conditioning" else ["cam_enc"]
    )}  # fmt: skip


def test_all_are_covered() -> None:
    tested = {"depth_camera", "depth_points", "depth_ray", "depth_ray_camera", "extra_blocks", "full_alternation"}
    assert set(ABLATIONS) == tested | {"separate_heads", "no_teacher", "no_conditioning"}


@pytest.mark.parametrize("variant", sorted(ABLATIONS))
@pytest.mark.parametrize("recipe", ["da3_giant_paper", "da3_small", "da3_tiny", "finetune"])
def test_what_an_ablation_does_not_name_stays(variant: str, recipe: str) -> None:
    config = RECIPES[recipe]()
    changed = ABLATIONS[variant](config)
    same = replace(changed, objective=config.objective, phases=config.phases, model=config.model, labels=config.labels)
    assert same == config
    assert [replace(p, objective=None) for p in changed.phases] == [replace(p, objective=None) for p in config.phases]


# What is predicted -----------------------------------------------------------------------------------------


def objectives(config: TrainConfig) -> list[object]:
    return [config.objective, *(phase.objective for phase in config.phases if phase.objective is not None)]


@pytest.mark.parametrize("variant", ["depth_camera", "depth_points", "depth_ray", "no_conditioning"])
def test_all_phases_change(variant: str) -> None:
    config = ABLATIONS[variant](RECIPES["da3_tiny"]())
    expected = {
        "depth_camera": {"ray": 0.0, "point": 0.0},
        "depth_points": {"ray_target": "points", "point": 0.0},
        "depth_ray": {"camera": 0.0},
        "no_conditioning": {"pose_conditioning": 0.0},
    }[variant]
    assert len(objectives(config)) == 3
    for options in objectives(config):
        assert {name: getattr(options, name) for name in expected} == expected


def test_the_camera_weight_of_the_full_model() -> None:
    assert ABLATIONS["depth_ray_camera"](RECIPES["da3_tiny"]()).objective.camera == 1
    paper = RECIPES["da3_giant_paper"]()
    assert ABLATIONS["depth_ray_camera"](paper) == paper


def test_points_instead_of_rays(tmp_path: Path) -> None:
    """The same untrained network, the same batch: only what its ray branch is compared with differs."""
    rays, points = Step("", tmp_path / "rays"), Step("depth_points", tmp_path / "points")
    assert rays.losses["depth"] == points.losses["depth"]
    assert rays.losses["ray"] != points.losses["ray"]


# How -------------------------------------------------------------------------------------------------------


def across_views(config: TrainConfig) -> list[int]:
    backbone = new_network(config).backbone.pretrained
    return [i for i in range(backbone.depth) if backbone.is_global(i)]


def test_extra_blocks_keep_the_backbone_plain() -> None:
    """Table 7: the pretrained blocks see one view each; new blocks behind them see all."""
    assert across_views(base()) == [5, 7, 9, 11]
    config = ABLATIONS["extra_blocks"](base())
    network = new_network(config)
    assert network.depth == 12 + 6
    assert across_views(config) == [13, 15, 17]
    assert network.backbone.pretrained.alt_start == 12
    assert set(config.objective.correspondence_blocks) <= set(across_views(config))


@pytest.mark.parametrize(("recipe", "own"), [("da3_giant_paper", 40), ("da3_small", 12)])
def test_extra_blocks_fit_the_backbone(recipe: str, own: int) -> None:
    config = ABLATIONS["extra_blocks"](RECIPES[recipe]())
    with torch.device("meta"):
        network = new_network(config)
        plain = new_network(RECIPES[recipe]())
    backbone = network.backbone.pretrained
    assert plain.depth == own and own < network.depth <= 1.5 * own
    assert not any(backbone.is_global(i) for i in range(own))
    assert all(backbone.is_global(i) for i in config.objective.correspondence_blocks)
    outputs = network.backbone.pretrained.out_layers
    assert outputs[0] == own - 1 and outputs[-1] == network.depth - 1
    assert all(backbone.is_global(i) for i in outputs[1:])


def test_full_alternation_begins_with_the_first_block() -> None:
    config = ABLATIONS["full_alternation"](base())
    assert across_views(config) == [1, 3, 5, 7, 9, 11]
    assert new_network(config).depth == 12


def test_separate_heads_share_nothing(tmp_path: Path) -> None:
    dual, separate = new_network(base()).head, new_network(ABLATIONS["separate_heads"](base())).head
    assert type(dual) is DualDPT and isinstance(separate, SeparateHeads)
    assert not {id(p) for p in separate.ray_head.parameters()} & {id(p) for p in separate.scratch.parameters()}
    weights = {part: sum(p.numel() for p in part.parameters()) for part in (dual, separate, separate.ray_head)}
    assert weights[separate] == 2 * weights[dual] and weights[separate.ray_head] == weights[dual]
    step = Step("separate_heads", tmp_path)
    assert any(name.startswith("head.ray_head.projects.") for name in step.changed)
    assert any(name.startswith("head.projects.") for name in step.changed)


@pytest.mark.parametrize(("kept", "prefix"), [("depth", "head.ray_head."), ("ray", "head.")])
def test_separate_heads_get_separate_gradients(kept: str, prefix: str, tmp_path: Path) -> None:
    config = ABLATIONS["separate_heads"](base())
    objective = Trainer(config, tmp_path).objective
    objective.options = replace(config.phases[0].objective or config.objective, conf_weight=None)
    objective(Trainer.batch(Trainer(config, tmp_path), 0), None, 0, None)[kept].sum().backward()
    got = {n for n, p in objective.net.named_parameters() if n.startswith("head.") and p.grad is not None}
    other = {n for n in got if n.startswith(prefix) and (kept == "depth" or not n.startswith("head.ray_head."))}
    assert got and not other


def test_without_a_teacher() -> None:
    config = replace(base(), labels=LabelOptions(teacher="there"))
    assert ABLATIONS["no_teacher"](config).labels is None
    assert ABLATIONS["no_conditioning"](config).labels == config.labels
