"""Training runs by name: functions that return a :class:`~depth_anything_3.train.config.TrainConfig`.

What the paper states is in the recipes as it states it; what it leaves open is marked ``open:`` with what is taken
instead. The ``*_tiny`` recipes are those of the bundled checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from depth_anything_3.errors import InputError
from depth_anything_3.registry import Registry
from depth_anything_3.train.augment import AugmentOptions
from depth_anything_3.train.config import InitOptions, LabelOptions, OptimiserOptions, Phase, TrainConfig
from depth_anything_3.train.data import ProceduralSource, Source, ViewOptions
from depth_anything_3.train.objectives import ObjectiveOptions
from depth_anything_3.train.sources import DatasetSource

RECIPES: Registry[Callable[..., TrainConfig]] = Registry("recipe")
"""Recipes by name."""

PAPER_SIZES = ((504, 504), (504, 378), (504, 336), (504, 280), (336, 504), (896, 504), (756, 504), (672, 504))
"""The eight base resolutions, rows and columns (section 4)."""

_METRIC_SIZES = ((504, 504), (252, 504), (896, 504), (504, 896), (504, 672), (756, 504), (504, 756), (504, 910))
_TOKENS = 18 * 36 * 36  # 18 views of 504 x 504, the upper end of the stated range; open: the exact budget

_SYNTHETIC = (
    "tartanair",
    "irs",
    "unreal_stereo_4k",
    "gta_sfm",
    "ken_burns",
    "point_odyssey",
    "trellis",
    "omniobject3d",
    "hypersim",
    "virtual_kitti_2",
    "mvs_synth",
    "blended_mvs",
)
"""The teacher's data (section 3.3), as far as there are adapters."""

_POSED = (
    "arkitscenes",
    "blended_mvs",
    "co3d",
    "dl3dv",
    "hypersim",
    "megadepth_dense",
    "mvs_synth",
    "omniobject3d",
    "point_odyssey",
    "scannetpp",
    "tartanair",
    "trellis",
    "virtual_kitti_2",
)
"""The data of the any-view model (the appendix' table), as far as there are adapters."""

_TINY_SIZES = ((84, 112), (112, 84), (98, 98), (70, 126))
_TINY_LARGER = ((126, 168), (168, 126), (140, 140), (98, 168))
_TINY_TOKENS = 48 * 32  # 32 views of 84 x 112
_TINY_OPTIMISER = OptimiserOptions(camera_decoder_rate=0.4, ema=0.998)
_SAME_IN_ALL_VIEWS = AugmentOptions(per_view_colour=0.0, jpeg=0.0, blur=0.0, noise=0.0)
"""What one view shows must look the same in another that is drawn from it."""

_FIXED_POSITIONS = ("pos_embed",)  # a smooth table resamples to any grid; a trained one only to those it was trained on


def _from(data: Path | None, names: tuple[str, ...]) -> tuple[tuple[Source, float], ...]:
    """One source per data set below a folder; open: their weights, here equal."""
    root = data or Path("data")
    return tuple((DatasetSource(dataset=name, root=root / name), 1.0) for name in names)


@RECIPES.register("da3_giant_paper")
def da3_giant_paper(*, data: Path | None = None, teacher: str | None = None) -> TrainConfig:
    """The paper's main model (section 4): 200 000 steps, labels of the teacher from step 120 000 on.

    Args:
        data: folder with one folder per data set, named as its adapter.
        teacher: checkpoint of the teacher.
    """
    return TrainConfig(
        name="da3_giant_paper",
        preset="da3-giant",
        # open: the weights of the confidence (0.2) and within the camera term.
        objective=ObjectiveOptions(kind="anyview", conf_weight=0.2, pose_conditioning=0.2),
        # open: the shape of the schedule after the warm-up (a cosine), and the data's weights and view sampling.
        phases=(
            Phase(
                steps=200_000,
                learning_rate=2e-4,
                warmup=8_000,
                data=ViewOptions(sizes=PAPER_SIZES, views=(2, 18), tokens=_TOKENS, overlap=(0.25, 0.9)),
            ),
        ),
        sources=_from(data, _POSED),
        init=InitOptions(start="dinov2", source="facebook/dinov2-giant"),
        # open: beta, decay, clipping, average, and the rate of the backbone.
        optimiser=OptimiserOptions(backbone_rate=0.2, ema=0.9995),
        labels=LabelOptions(teacher=teacher, from_step=120_000),
        parallel="fsdp",
        activation_checkpointing=True,
        save_every=2_000,
    )


@RECIPES.register("da3_small")
def da3_small(*, data: Path | None = None, teacher: str | None = None) -> TrainConfig:
    """The paper's schedule with the small backbone, for one machine."""
    giant = da3_giant_paper(data=data, teacher=teacher)
    return replace(
        giant,
        name="da3_small",
        preset="da3-small",
        init=InitOptions(start="dinov2", source="facebook/dinov2-small"),
        parallel="ddp",
        activation_checkpointing=False,
    )


@RECIPES.register("teacher_large")
def teacher_large(*, data: Path | None = None) -> TrainConfig:
    """The teacher (section 3.3): single views of synthetic data only; exponential depth up to scale and shift.

    Args:
        data: folder with one folder per data set.
    """
    return TrainConfig(
        name="teacher_large",
        preset="da3mono-large",
        # open: what holds scale and shift, which no loss of the paper does; without it, they drift out of all range.
        objective=ObjectiveOptions(kind="teacher", gradient=0.5, anchor=0.1),
        # open: size, steps, batch and resolutions; here those of the metric model.
        phases=(
            Phase(
                steps=160_000,
                learning_rate=5e-5,
                warmup=8_000,
                data=ViewOptions(sizes=_METRIC_SIZES, views=(1, 1), tokens=64 * 36 * 36),
            ),
        ),
        sources=tuple((replace(s, single=True), w) for s, w in _from(data, _SYNTHETIC) if isinstance(s, DatasetSource)),
        init=InitOptions(start="dinov2", source="facebook/dinov2-large"),
        optimiser=OptimiserOptions(backbone_rate=0.1, ema=0.9995),
        save_every=2_000,
    )


@RECIPES.register("da3mono_large")
def da3mono_large(*, data: Path | None = None, teacher: str | None = None) -> TrainConfig:
    """The mono student (section 3.4): the teacher's losses on the teacher's labels.

    Args:
        data: folder with pictures, one folder per data set.
        teacher: checkpoint of the teacher.
    """
    return replace(
        teacher_large(data=data),
        name="da3mono_large",
        objective=ObjectiveOptions(kind="mono", gradient=0.5, anchor=0.1),
        labels=LabelOptions(teacher=teacher, from_step=0, align=False),
    )


@RECIPES.register("da3metric_large")
def da3metric_large(*, data: Path | None = None, teacher: str | None = None) -> TrainConfig:
    """The metric model (section 3.4): canonical focal length 300, labels refined by the teacher for 80 % of the steps.

    Args:
        data: folder with one folder per data set, in metres.
        teacher: checkpoint of the teacher.
    """
    return TrainConfig(
        name="da3metric_large",
        preset="da3metric-large",
        # open: the weights of depth, gradient and sky.
        objective=ObjectiveOptions(kind="metric"),
        phases=(
            Phase(
                steps=160_000,
                learning_rate=5e-5,
                warmup=4_000,
                data=ViewOptions(sizes=_METRIC_SIZES, views=(1, 1), tokens=64 * 36 * 36),
            ),
        ),
        # The paper's driving sets have no adapter: bring them in as posed RGB-D folders.
        sources=_from(data, ("scannetpp", "arkitscenes", "rgbd_folder")),
        augment=AugmentOptions(quarter_turn=0.05),
        init=InitOptions(start="dinov2", source="facebook/dinov2-large"),
        optimiser=OptimiserOptions(backbone_rate=0.1, ema=0.9995),
        labels=LabelOptions(teacher=teacher, from_step=0, share=0.8),
        save_every=2_000,
    )


@RECIPES.register("finetune")
def finetune(
    *, checkpoint: str = "depth-anything/DA3-SMALL", preset: str = "da3-small", data: Path | None = None,
    how: str = "whole", steps: int = 2_000,
) -> TrainConfig:  # fmt: skip
    """A published checkpoint on your own posed RGB-D folder, on one GPU with 24 GB.

    Args:
        checkpoint: hub id, folder or file.
        preset: its architecture.
        data: the folder, see :mod:`depth_anything_3.datasets.rgbd_folder`.
        how: ``whole``; ``lora``, low-rank changes of the transformer and nothing else; or ``heads``, everything but the
            transformer.
        steps: how many.

    Raises:
        InputError: there is no such way.
    """
    views = ViewOptions(sizes=((504, 378), (378, 504), (336, 504), (504, 504)), views=(2, 6), tokens=6 * 36 * 36)
    frozen = {"whole": (), "lora": (), "heads": ("backbone.pretrained.",)}
    rate = {"whole": 1e-5, "lora": 1e-4, "heads": 5e-5}
    if how not in rate:
        raise InputError("how", repr(how), "a way to fine-tune", rate)
    return TrainConfig(
        name="finetune",
        preset=preset,
        objective=ObjectiveOptions(kind="anyview"),
        phases=(Phase(steps=steps, learning_rate=rate[how], warmup=steps // 20, data=views),),
        sources=((DatasetSource(dataset="rgbd_folder", root=data or Path("data")), 1.0),),
        init=InitOptions(start="weights", source=checkpoint, frozen=frozen[how], lora_rank=16 if how == "lora" else 0),
        optimiser=OptimiserOptions(backbone_rate=0.5 if how == "whole" else 1.0, ema=0.999),
        accumulation=4,
        activation_checkpointing=True,
        save_every=200,
    )


def _gaussian_variant(config: TrainConfig, how: str, *, rate: float) -> TrainConfig:
    """One of the two published ways: everything but the Gaussian head frozen, cameras given now and then; or all of
    the network trained on, cameras always given."""
    variants = ("frozen", "posed")
    if how not in variants:
        raise InputError("how", repr(how), "a published variant", variants)
    if how == "frozen":
        return config
    (phase,) = config.phases
    return replace(
        config,
        objective=replace(config.objective, pose_conditioning=1.0),
        phases=(replace(phase, learning_rate=rate),),
        init=replace(config.init, only=()),
    )


@RECIPES.register("da3_gs")
def da3_gs(
    *, checkpoint: str = "depth-anything/DA3-GIANT", data: Path | None = None, how: str = "frozen"
) -> TrainConfig:
    """The Gaussian head (section 5.3): novel views of DL3DV scenes; MSE, a perceptual term, and depth up to scale and
    shift.

    Args:
        checkpoint: the any-view model to start from.
        data: folder with a folder ``dl3dv``, without the scenes of the benchmark.
        how: ``frozen``, nothing but the head is trained, for any cameras; or ``posed``, the whole network goes on
            learning with given cameras.

    Raises:
        InputError: there is no such variant.
    """
    config = TrainConfig(
        name="da3_gs",
        preset="da3-giant",
        # open: the weights. LPIPS (0.05 is usual in this line of work) is a network of its own; what stands for it here
        # needs no weights, see train/gaussian_losses.py.
        objective=ObjectiveOptions(kind="gaussians", structure=0.05, depth=0.1, targets=4, pose_conditioning=0.2),
        # open: steps (200 000 are those of the compared models), rate, and the ranges of views and sizes.
        phases=(
            Phase(
                steps=200_000,
                learning_rate=2e-4,
                warmup=2_000,
                data=ViewOptions(sizes=PAPER_SIZES, views=(3, 16), tokens=_TOKENS, overlap=(0.25, 0.9)),
            ),
        ),
        sources=_from(data, ("dl3dv",)),
        augment=_SAME_IN_ALL_VIEWS,
        init=InitOptions(start="weights", source=checkpoint, only=("gs_head.",)),
        optimiser=OptimiserOptions(backbone_rate=0.2, ema=0.9995),
        save_every=2_000,
    )
    return _gaussian_variant(config, how, rate=2e-5)


_TINY_TEACHER = ObjectiveOptions(
    kind="teacher",
    depth_space="log",
    gradient=0.5,
    gradient_scales=3,
    normal=0.05,
    normal_stride=2,
    levels=(4,),
    anchors=(16,),
    fit_samples=400,
    anchor=0.1,
    autocast_head=True,
)

_TINY_ANYVIEW = ObjectiveOptions(
    kind="anyview",
    depth_space="log",
    gradient=0.5,
    gradient_scales=3,
    # Logarithms of depth are off by 0.3, rays by 1.2: a confidence of about 3 each, and gradients as without one.
    depth=0.3,
    conf_weight=1.0,
    ray=0.3,
    ray_conf_weight=4.0,
    point=0.5,
    relative_points=True,
    pose_conditioning=0.0,
    camera=0.1,  # at 1 its gradient in the backbone is ten times that of everything else together
    correspondence=1.0,
    stream=1.0,
    camera_norm=True,
    autocast_head=True,
)


@RECIPES.register("teacher_tiny")
def teacher_tiny(*, cache: Path | None = None, steps: int = 3_000) -> TrainConfig:
    """The teacher at demonstration size: depth up to scale and shift, and sky, from single views of exact truth.

    Args:
        cache: folder that keeps rendered scenes.
        steps: how many.
    """
    views = ViewOptions(sizes=_TINY_SIZES, views=(1, 1), tokens=_TINY_TOKENS)
    return TrainConfig(
        name="teacher_tiny",
        preset="da3metric-tiny",
        objective=_TINY_TEACHER,
        phases=(Phase(steps=steps, learning_rate=1e-3, warmup=steps // 30, data=views),),
        sources=((ProceduralSource(count=1_800, growth=0.7, most=16_000, cache=cache), 1.0),),
        init=InitOptions(frozen=_FIXED_POSITIONS),
        optimiser=_TINY_OPTIMISER,
        save_every=250,
    )


@RECIPES.register("da3_tiny")
def da3_tiny(
    *, cache: Path | None = None, teacher: str | None = None, steps: tuple[int, int, int] = (1_500, 1_500, 1_000)
) -> TrainConfig:
    """The any-view student at demonstration size, from the teacher's backbone.

    Two views that share much; then up to four that share less, with poses given at every fifth step; then larger
    pictures, and for every second of the last steps the teacher's labels, aligned to depth as sparse and noisy as a
    sensor's.

    Args:
        cache: folder that keeps rendered scenes.
        teacher: checkpoint of the teacher; None starts from scratch and uses no labels.
        steps: of the three phases.
    """
    pairs = ViewOptions(sizes=_TINY_SIZES, views=(2, 2), tokens=_TINY_TOKENS, overlap=(0.45, 0.95))
    few = ViewOptions(sizes=_TINY_SIZES, views=(1, 4), tokens=_TINY_TOKENS, overlap=(0.25, 0.9))
    larger = ViewOptions(sizes=_TINY_LARGER, views=(1, 4), tokens=108 * 16, overlap=(0.2, 0.9))
    posed = replace(_TINY_ANYVIEW, pose_conditioning=0.2)
    labels = LabelOptions(teacher=teacher, from_step=sum(steps) * 9 // 10, share=0.5, simulate_sensor=True)
    return TrainConfig(
        name="da3_tiny",
        preset="da3-tiny",
        objective=_TINY_ANYVIEW,
        phases=(
            Phase(steps=steps[0], learning_rate=8e-4, warmup=steps[0] // 20, data=pairs),
            Phase(steps=steps[1], learning_rate=8e-4, warmup=steps[1] // 20, data=few, objective=posed),
            Phase(steps=steps[2], learning_rate=5e-4, warmup=steps[2] // 20, data=larger, objective=posed),
        ),
        sources=((ProceduralSource(count=2_500, growth=0.3, most=16_000, cache=cache), 1.0),),
        init=InitOptions(
            start="weights" if teacher else "scratch", source=teacher, frozen=_FIXED_POSITIONS, matching=True
        ),
        optimiser=_TINY_OPTIMISER,
        labels=labels if teacher else None,
        save_every=250,
        seed=1,
    )


@RECIPES.register("da3_tiny_confidence")
def da3_tiny_confidence(*, cache: Path | None = None, checkpoint: str = "bundled", steps: int = 600) -> TrainConfig:
    """A confidence for a network at demonstration size that has none; everything else stays as it is, bit by bit.

    Args:
        cache: folder that keeps rendered scenes.
        checkpoint: the any-view network.
        steps: how many.
    """
    views = ViewOptions(sizes=(*_TINY_SIZES, *_TINY_LARGER), views=(1, 4), tokens=108 * 8, overlap=(0.2, 0.9))
    nothing_else = replace(
        _TINY_ANYVIEW,
        gradient=0.0,
        point=0.0,
        camera=0.0,
        correspondence=0.0,
        stream=0.0,
        camera_norm=False,
        pose_conditioning=0.2,
        autocast_head=False,
    )
    return TrainConfig(
        name="da3_tiny_confidence",
        preset="da3-tiny",
        objective=nothing_else,
        phases=(Phase(steps=steps, learning_rate=1e-2, warmup=steps // 20, data=views),),
        sources=((ProceduralSource(count=3_900, most=3_900, cache=cache), 1.0),),
        init=InitOptions(start="weights", source=checkpoint, confidence=True),
        optimiser=OptimiserOptions(betas=(0.9, 0.99), ema=0.99),
        save_every=100,
        seed=5,
    )


@RECIPES.register("da3metric_tiny")
def da3metric_tiny(*, cache: Path | None = None, teacher: str | None = None, steps: int = 1_500) -> TrainConfig:
    """The metric model at demonstration size, from the teacher's weights: depth for a focal length of 300 pixels.

    Args:
        cache: folder that keeps rendered scenes.
        teacher: checkpoint of the teacher; None starts from scratch and uses no labels.
        steps: how many.
    """
    views = ViewOptions(sizes=(*_TINY_SIZES, *_TINY_LARGER), views=(1, 1), tokens=_TINY_TOKENS)
    labels = LabelOptions(teacher=teacher, from_step=steps * 9 // 10, share=0.8, simulate_sensor=True)
    return TrainConfig(
        name="da3metric_tiny",
        preset="da3metric-tiny",
        objective=ObjectiveOptions(
            kind="metric", depth_space="log", gradient=0.5, gradient_scales=3, sky=1.0, autocast_head=True
        ),
        phases=(Phase(steps=steps, learning_rate=6e-4, warmup=steps // 20, data=views),),
        sources=((ProceduralSource(count=2_500, growth=0.3, most=16_000, cache=cache), 1.0),),
        init=InitOptions(start="weights" if teacher else "scratch", source=teacher, frozen=_FIXED_POSITIONS),
        optimiser=_TINY_OPTIMISER,
        labels=labels if teacher else None,
        save_every=250,
        seed=2,
    )


@RECIPES.register("da3mono_tiny")
def da3mono_tiny(*, cache: Path | None = None, teacher: str | None = None, steps: int = 1_500) -> TrainConfig:
    """The mono student at demonstration size: the teacher's labels alone.

    Args:
        cache: folder that keeps rendered scenes.
        teacher: checkpoint of the teacher.
        steps: how many.
    """
    return replace(
        teacher_tiny(cache=cache, steps=steps),
        name="da3mono_tiny",
        objective=replace(_TINY_TEACHER, kind="mono"),
        labels=LabelOptions(teacher=teacher, align=False) if teacher else None,
        seed=3,
    )


# What carries the colours through the head (train/initialise.py) is so strong that a step of Adam would shift them all.
_COLOUR_PATH = ("gs_head.images_merger.", "gs_head.scratch.output_conv2.0.")


@RECIPES.register("gs_tiny")
def gs_tiny(
    *, cache: Path | None = None, checkpoint: str = "bundled", how: str = "frozen", steps: int = 1_600
) -> TrainConfig:
    """The Gaussian head at demonstration size, on the bundled any-view network: novel views of procedural scenes.

    Args:
        cache: folder that keeps rendered scenes.
        checkpoint: the any-view network to start from.
        how: as in :func:`da3_gs`.
        steps: how many.

    Raises:
        InputError: there is no such variant.
    """
    views = ViewOptions(sizes=(*_TINY_SIZES, (112, 168)), views=(4, 5), tokens=48 * 10, overlap=(0.3, 0.95))
    config = TrainConfig(
        name="gs_tiny",
        preset="da3-gs-tiny",
        objective=ObjectiveOptions(
            kind="gaussians", structure=0.1, depth=0.05, targets=2, redraw=True, pose_conditioning=0.5
        ),
        phases=(Phase(steps=steps, learning_rate=2e-4, warmup=steps // 40, data=views),),
        sources=((ProceduralSource(count=2_500, growth=0.3, most=16_000, cache=cache), 1.0),),
        augment=_SAME_IN_ALL_VIEWS,
        init=InitOptions(
            start="weights", source=checkpoint, frozen=(*_FIXED_POSITIONS, *_COLOUR_PATH), only=("gs_head.",)
        ),
        optimiser=OptimiserOptions(ema=0.99),
        save_every=50,
        seed=4,
    )
    return _gaussian_variant(config, how, rate=1e-4)
