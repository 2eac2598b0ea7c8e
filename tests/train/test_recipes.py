"""What the paper states is in the recipes as it states it, and the networks are those that were published."""

from __future__ import annotations

from dataclasses import replace
from inspect import getdoc, signature
from pathlib import Path

import pytest

from depth_anything_3.datasets.base import DATASETS
from depth_anything_3.errors import InputError
from depth_anything_3.model.readout import CANONICAL_FOCAL
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.synth.held_out import HELD_OUT_SEEDS
from depth_anything_3.train.config import LabelOptions, OptimiserOptions, Phase, TrainConfig
from depth_anything_3.train.data import ProceduralSource
from depth_anything_3.train.plan import plan
from depth_anything_3.train.recipes import PAPER_SIZES, RECIPES
from depth_anything_3.train.sources import DatasetSource
from depth_anything_3.types.options import PATCH_SIZE

PUBLISHED = {
    "da3_giant_paper": 1_355_674_125,
    "da3_small": 34_299_463,
    "finetune": 34_299_463,
    "teacher_large": 334_171_394,
    "da3mono_large": 334_171_394,
    "da3metric_large": 334_171_394,
}
"""Recipe -> weights of the published network."""

HEADS = {"da3_gs", "gs_tiny"}
"""Recipes of the Gaussian head alone."""

TINY = {"teacher_tiny", "da3_tiny", "da3metric_tiny", "da3mono_tiny"}

PARTS = {"da3_tiny_confidence"}
"""Recipes that leave most of a network as it is."""


def only_phase(config: TrainConfig) -> Phase:
    (phase,) = config.phases
    return phase


def datasets_of(config: TrainConfig) -> set[str]:
    return {source.dataset for source, _ in config.sources if isinstance(source, DatasetSource)}


def test_all_are_known_here() -> None:
    assert set(RECIPES) == set(PUBLISHED) | TINY | HEADS | PARTS
    for name in RECIPES:
        assert RECIPES[name]().name == name
        assert getdoc(RECIPES[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_size(name: str) -> None:
    config = RECIPES[name]()
    assert config.preset in MODEL_REGISTRY
    made = plan(config)
    assert made.parameters == PUBLISHED[name]
    assert 0.95 * made.parameters < made.trained <= made.parameters


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiny_networks_are_tiny(name: str) -> None:
    made = plan(RECIPES[name]())
    assert 6e6 < made.trained < made.parameters < 8e6


# The any-view model ----------------------------------------------------------------------------------------


def test_the_main_model_is_trained_as_the_paper_says() -> None:
    config = RECIPES["da3_giant_paper"](teacher="a teacher")
    phase = only_phase(config)
    assert config.preset == "da3-giant"
    assert (phase.steps, phase.learning_rate, phase.warmup, phase.final_rate) == (200_000, 2e-4, 8_000, 1e-6)
    assert config.labels == LabelOptions(teacher="a teacher", from_step=120_000)
    assert config.labels.share == 1 and config.labels.align and not config.labels.simulate_sensor
    assert (phase.data.views, phase.data.tokens, phase.data.overlap) == ((2, 18), 23_328, (0.25, 0.9))
    assert config.init.start == "dinov2" and config.init.source == "facebook/dinov2-giant"


def test_the_main_model_has_the_losses_of_the_paper() -> None:
    losses = RECIPES["da3_giant_paper"]().objective
    assert losses.kind == "anyview" and losses.depth_space == "linear"
    assert [losses.depth, losses.ray, losses.point, losses.camera, losses.gradient] == [1] * 5  # alpha = beta = 1
    assert losses.pose_conditioning == 0.2
    assert losses.conf_weight == 0.2
    assert losses.gradient_scales == 1 and losses.ray_target == "rays" and not losses.relative_points
    assert not losses.correspondence and not losses.camera_norm and not losses.anchor  # ours, not the paper's


def test_the_main_model_sees_the_data_of_the_paper() -> None:
    stated = (
        "arkitscenes blended_mvs co3d dl3dv hypersim megadepth_dense mvs_synth omniobject3d point_odyssey scannetpp"
    )
    assert datasets_of(RECIPES["da3_giant_paper"]()) == {*stated.split(), "tartanair", "trellis", "virtual_kitti_2"}


def test_the_resolutions_are_those_of_the_paper() -> None:
    stated = "504x504, 504x378, 504x336, 504x280, 336x504, 896x504, 756x504, 672x504"
    assert tuple(tuple(int(side) for side in size.split("x")) for size in stated.split(", ")) == PAPER_SIZES
    for name in ("da3_giant_paper", "da3_small"):
        assert only_phase(RECIPES[name]()).data.sizes == PAPER_SIZES


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_pictures_are_whole_patches(name: str) -> None:
    for phase in RECIPES[name]().phases:
        assert all(side % PATCH_SIZE == 0 for size in phase.data.sizes for side in size)
        assert 0 <= phase.warmup < phase.steps


def test_what_the_paper_leaves_open() -> None:
    optimiser = RECIPES["da3_giant_paper"]().optimiser
    assert optimiser == OptimiserOptions(betas=(0.9, 0.95), weight_decay=0.05, clip=1.0, backbone_rate=0.2, ema=0.9995)


def test_the_small_model_differs_by_its_backbone_alone() -> None:
    giant, small = RECIPES["da3_giant_paper"](), RECIPES["da3_small"]()
    assert small.preset == "da3-small" and small.init.source == "facebook/dinov2-small"
    assert (small.parallel, small.activation_checkpointing) == ("ddp", False)
    same = {n: getattr(giant, n) for n in ("name", "preset", "init", "parallel", "activation_checkpointing")}
    assert replace(small, **same) == giant


# Teacher, mono, metric -------------------------------------------------------------------------------------


def test_the_teacher_sees_single_synthetic_pictures() -> None:
    config = RECIPES["teacher_large"]()
    losses = config.objective
    assert config.preset == "da3mono-large" and config.labels is None
    assert (losses.kind, losses.gradient, losses.depth_space) == ("teacher", 0.5, "linear")
    assert [losses.global_local, losses.normal, losses.sky, losses.object] == [1] * 4
    assert (losses.levels, losses.anchors) == ((4, 16, 64), (16, 256, 4096))
    assert losses.anchor == 0.1  # ours
    assert only_phase(config).data.views == (1, 1)
    assert all(isinstance(source, DatasetSource) and source.single for source, _ in config.sources)
    stated = "tartanair irs unreal_stereo_4k gta_sfm ken_burns point_odyssey trellis omniobject3d"
    assert datasets_of(config) == {*stated.split(), "hypersim", "virtual_kitti_2", "mvs_synth", "blended_mvs"}


def test_the_mono_student_sees_labels_alone() -> None:
    teacher, mono = RECIPES["teacher_large"](), RECIPES["da3mono_large"](teacher="a teacher")
    assert mono.labels == LabelOptions(teacher="a teacher", from_step=0, share=1.0, align=False)
    assert replace(mono.objective, kind="teacher") == teacher.objective
    assert mono.objective.kind == "mono"
    assert mono.phases == teacher.phases and mono.preset == teacher.preset


def test_the_metric_model_is_trained_as_the_paper_says() -> None:
    config = RECIPES["da3metric_large"](teacher="a teacher")
    phase = only_phase(config)
    assert CANONICAL_FOCAL == 300
    assert config.objective.kind == "metric"
    assert (phase.steps, phase.learning_rate) == (160_000, 5e-5)
    assert phase.learning_rate * config.optimiser.backbone_rate == pytest.approx(5e-6)
    assert phase.data.tokens == 64 * (504 // PATCH_SIZE) ** 2  # a batch of 64
    assert config.labels == LabelOptions(teacher="a teacher", from_step=0, share=0.8)  # a fifth keeps its own depth
    ratios = sorted(round(max(size) / min(size), 2) for size in phase.data.sizes)
    assert ratios == [1, 1.33, 1.5, 1.5, 1.78, 1.78, 1.81, 2]


# The Gaussian head -----------------------------------------------------------------------------------------


def test_the_gaussian_head_is_trained_in_both_published_ways() -> None:
    frozen, posed = (RECIPES["da3_gs"](how=how) for how in ("frozen", "posed"))
    assert frozen.preset == "da3-giant" and datasets_of(frozen) == {"dl3dv"}
    assert plan(frozen).parameters == PUBLISHED["da3_giant_paper"] == plan(posed).parameters
    assert plan(frozen).trained < 0.05 * plan(frozen).parameters < 0.9 * plan(posed).parameters < plan(posed).trained
    assert posed.objective.pose_conditioning == 1 and frozen.objective.pose_conditioning < 1
    losses = frozen.objective
    assert losses.kind == "gaussians" and min(losses.picture, losses.structure, losses.depth) > 0
    data = only_phase(frozen).data
    assert len(data.sizes) > 1 and data.views[0] < data.views[1] and losses.targets > 1
    with pytest.raises(InputError, match="how"):
        RECIPES["da3_gs"](how="half")


def test_the_tiny_head_fits_into_ten_megabytes() -> None:
    config = RECIPES["gs_tiny"]()
    assert config.init.source == "bundled" and config.init.only == ("gs_head.",)
    assert 2 * plan(config).trained < 10e6


# Sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_sources_exist_and_are_not_the_held_out_set(name: str) -> None:
    config = RECIPES[name]()
    assert config.sources
    assert datasets_of(config) <= set(DATASETS)
    for source, weight in config.sources:
        assert weight > 0
        if isinstance(source, ProceduralSource):
            source.check()
            assert source.first + max(source.most, source.count) <= HELD_OUT_SEEDS.start


def test_arguments_arrive(tmp_path: Path) -> None:
    for name in RECIPES:
        make = RECIPES[name]
        known = signature(make).parameters
        given = {"data": tmp_path, "cache": tmp_path, "teacher": "there"}
        config = make(**{key: value for key, value in given.items() if key in known})
        if "data" in known:
            assert all(tmp_path in (s.root, s.root.parent) for s, _ in config.sources)
        if "cache" in known:
            assert all(source.cache == tmp_path for source, _ in config.sources)
        if "teacher" in known:
            assert config.labels is not None and config.labels.teacher == "there"


def test_tiny_students_without_a_teacher_have_no_labels() -> None:
    for name in TINY - {"teacher_tiny"}:
        assert RECIPES[name]().labels is None
        assert RECIPES[name]().init.start == "scratch"
    student = RECIPES["da3_tiny"](teacher="there", steps=(100, 200, 300))
    assert [phase.steps for phase in student.phases] == [100, 200, 300]
    assert student.labels is not None and student.labels.from_step == 540
    assert (student.init.start, student.init.source) == ("weights", "there")
    # Poses are given from the second phase on.
    conditioned = [(phase.objective or student.objective).pose_conditioning for phase in student.phases]
    assert conditioned == [0, 0.2, 0.2]


# Fine-tuning -----------------------------------------------------------------------------------------------


def test_three_ways_to_fine_tune() -> None:
    whole, lora, heads = (RECIPES["finetune"](how=how, checkpoint="there") for how in ("whole", "lora", "heads"))
    assert {c.init.start for c in (whole, lora, heads)} == {"weights"}
    assert {c.init.source for c in (whole, lora, heads)} == {"there"}
    assert (whole.init.lora_rank, lora.init.lora_rank, heads.init.lora_rank) == (0, 16, 0)
    assert (whole.init.frozen, lora.init.frozen, heads.init.frozen) == ((), (), ("backbone.pretrained.",))
    made = {config.init.lora_rank or config.init.frozen: plan(config) for config in (whole, lora, heads)}
    assert made[()].trained > made[("backbone.pretrained.",)].trained > made[16].trained > 0
    # Weights, gradients, moments and activations of one part fit a GPU of 24 GB many times over.
    assert all(p.state_bytes + p.activation_bytes < 4e9 for p in made.values())


def test_an_unknown_way_to_fine_tune() -> None:
    with pytest.raises(InputError, match=r"how: got 'all'; .*whole, lora, heads"):
        RECIPES["finetune"](how="all")
