"""Overfitted twins: every recipe at demonstration size, on one batch that it has to learn by heart.

A term whose gradient is wrong, or that contradicts another, does not reach zero even there. A twin keeps the losses
and the switches of its recipe; what it changes is listed at :func:`twin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from inspect import signature
from pathlib import Path

import numpy as np
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, unproject
from depth_anything_3.train.augment import NO_AUGMENTATION, Pictures
from depth_anything_3.train.config import LabelOptions, Phase, TrainConfig
from depth_anything_3.train.data import ViewOptions
from depth_anything_3.train.objectives import Objective
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer
from depth_anything_3.types.options import PATCH_SIZE

SIZE = (42, 56)
"""Rows and columns of the pictures."""

VIEWS = 3
"""Of the scene, and of a sample where a sample has several."""

_OTHER_BOX = 2  # than the one that the checkpoint has learned: there would be nothing to do
_SHARED_SPREAD = 0.15
_MANY = 10**9
_SINGLES = 4  # samples of a batch of single views
_FOUR_BLOCKS = ("net.extra_blocks=-8", "net.out_layers=[0, 1, 2, 3]", "head.out_channels=[16, 16, 32, 32]")
_SINGLE_VIEW = _FOUR_BLOCKS
_ANY_VIEW = (*_FOUR_BLOCKS, "net.alt_start=1", "net.qknorm_start=1", "net.rope_start=1", "cam_enc.trunk_depth=1")
_GAUSSIANS = (*_ANY_VIEW, "gs_head.features=32", "gs_head.out_channels=[16, 16, 32, 32]")
_WEIGHTS = (
    "depth", "gradient", "ray", "point", "camera", "correspondence", "global_local", "normal", "sky", "anchor",
    "picture", "structure",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OpenBox:
    """Always the same few views from inside a box that is open above, or one of them.

    Its depth bends but does not jump: dense heads enlarge their maps by interpolation, which no jump survives.

    Attributes:
        seed: of the box and its views.
        spread: how far apart the views stand and look; less than 1 lets them show much the same.
    """

    seed: int = 0
    spread: float = 1.0
    metric: bool = field(default=True, init=False)

    def check(self) -> None:
        """Nothing can be wrong."""

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """All views, or a random one.

        Raises:
            InputError: neither one view nor all of them.
        """
        if views not in (1, VIEWS):
            raise InputError("views", str(views), "a number of views that there is", (1, VIEWS))
        box = _box(self.seed, self.spread)
        chosen = np.arange(VIEWS) if views > 1 else rng.integers(VIEWS, size=1)
        return f"box/{self.seed}", replace(box, **{n: getattr(box, n)[chosen] for n in _ARRAYS})


_ARRAYS = ("images", "depth", "sky", "intrinsics", "extrinsics")


@lru_cache(maxsize=4)
def _box(seed: int, spread: float) -> Pictures:
    """All views: exact depth, sky above the walls, waves of colour on them."""
    rng = np.random.default_rng([seed, 5])
    half, waves = rng.uniform([2, 0.8, 3], [3, 1.0, 4]), rng.uniform(1, 3, (3, 3))
    focal, (height, width) = rng.uniform(0.7, 1.0) * SIZE[1], SIZE
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    poses = np.stack([_pose(rng, spread) for _ in range(VIEWS)])
    points = unproject(np.ones((VIEWS, *SIZE)), np.stack([k] * VIEWS), poses)
    centre = camera_centres(poses)[:, None, None]
    ray = points - centre
    with np.errstate(divide="ignore"):
        reach = np.where(ray > 0, half - centre, -half - centre) / ray
    wall, depth = reach.argmin(-1), reach.min(-1)
    sky = (wall == 1) & (ray[..., 1] < 0)
    colour = 0.5 + 0.4 * np.sin((centre + ray * depth[..., None]) @ waves.T + wall[..., None])
    colour = np.where(sky[..., None], [0.6, 0.8, 1.0], colour)
    return Pictures(
        images=(colour * 255).astype(np.uint8),
        depth=np.where(sky, 0, depth).astype(np.float32),
        sky=sky,
        intrinsics=np.stack([k] * VIEWS).astype(np.float32),
        extrinsics=poses.astype(np.float32),
    )


def _pose(rng: np.random.Generator, spread: float) -> np.ndarray:
    """World-to-camera, y down, looking about along z and a little up."""
    yaw, pitch = spread * rng.uniform(-0.5, 0.5), spread * rng.uniform(0.0, 0.3)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    rotation = tilt @ turn
    centre = spread * rng.uniform([-1, -0.5, -1], [1, 0.3, 1])
    return np.column_stack([rotation, -rotation @ centre])


def twin(name: str, *, checkpoint: str | None = None, steps: int = 300) -> TrainConfig:
    """The twin of a recipe.

    It keeps the losses of the recipe's last phase, its optimiser, the share of the steps from which on labels are used
    and how, recomputation, what is frozen, and starting from another network. It changes

    * the network: four blocks of the width of the ``*-tiny`` presets, and the blocks that matches act on with it;
    * the data: :class:`OpenBox`, always the same batch, no augmentation, at most two parts; fine-tuning gets another
      box than the checkpoint has learned;
    * the schedule, and the lower rate of a backbone from DINOv2, which here starts from scratch;
    * the precision, to float32: bfloat16 is slow on some processors.

    A Gaussian head behind a frozen network from scratch has to find the depth by its offsets.

    Args:
        name: of the recipe.
        checkpoint: of the twin of a teacher, which makes the labels, and what a recipe that starts from weights starts
            from. Without it there are no labels, and every twin starts from scratch.
        steps: how many.

    Raises:
        UnknownNameError: no such recipe.
    """
    recipe = _with_checkpoint(RECIPES[name], checkpoint)
    last = recipe.phases[-1]
    single = last.data.views[1] == 1
    pretrained = checkpoint is not None and recipe.init.start == "weights"
    start = recipe.init if pretrained else replace(recipe.init, start="scratch", source=None)
    preset, model = _network(recipe, single)
    # What is drawn must have been seen.
    spread = _SHARED_SPREAD if recipe.objective.kind == "gaussians" else 1.0
    box = OpenBox(seed=_OTHER_BOX if name == "finetune" else 0, spread=spread)
    return replace(
        recipe,
        preset=preset,
        model=model,
        objective=replace(recipe.objective_of(last), correspondence_blocks=(1, 3)),
        phases=(Phase(steps=steps, learning_rate=1e-3, warmup=steps // 20, data=_views(single)),),
        sources=((box, 1.0),),
        augment=NO_AUGMENTATION,
        optimiser=recipe.optimiser if pretrained else replace(recipe.optimiser, backbone_rate=1.0),
        precision="float32",
        accumulation=min(2, recipe.accumulation),
        init=start,
        labels=_labels(recipe, steps) if checkpoint else None,
        fixed_batch=True,
        log_every=10,
        save_every=steps,
    )


def _network(recipe: TrainConfig, single: bool) -> tuple[str, tuple[str, ...]]:
    """Preset of a twin, and the changes that leave four blocks of it."""
    if single:
        return "da3metric-tiny", _SINGLE_VIEW
    if recipe.objective.kind == "gaussians":
        return "da3-gs-tiny", _GAUSSIANS
    return "da3-tiny", _ANY_VIEW


def _views(single: bool) -> ViewOptions:
    count, views = (_SINGLES, 1) if single else (1, VIEWS)
    return ViewOptions(sizes=(SIZE,), views=(views, views), tokens=count * views * SIZE[0] * SIZE[1] // PATCH_SIZE**2)


def _with_checkpoint(make: Callable[..., TrainConfig], checkpoint: str | None) -> TrainConfig:
    known = signature(make).parameters
    return make(**{name: checkpoint for name in ("teacher", "checkpoint") if name in known and checkpoint})


def _labels(recipe: TrainConfig, steps: int) -> LabelOptions | None:
    """The recipe's, from the same share of the steps on."""
    return recipe.labels and replace(recipe.labels, from_step=recipe.labels.from_step * steps // recipe.steps)


def overfit(config: TrainConfig, folder: Path) -> Trainer:
    """Run a twin to its end.

    Args:
        config: from :func:`twin`.
        folder: for its checkpoint and its log.
    """
    trainer = Trainer(config, folder)
    norm = trainer.objective.camera_norm
    if norm is not None:
        # Statistics of three tokens that keep following them never rest, and the decoder does not catch up: they stay
        # as they were measured at the beginning.
        norm.momentum = 0.0
        norm.seen.fill_(_MANY)
    trainer.run()
    return trainer


@torch.no_grad()
def terms(trainer: Trainer, *, poses: bool = False) -> dict[str, float]:
    """The losses of a trained twin on its batch, each by itself: without weights, and without the confidence, whose
    logarithm has no lowest value; against the truth, whatever labels were trained on.

    Args:
        trainer: of a run of :func:`twin`.
        poses: whether the network is given the true cameras.
    """
    options = trainer.config.objective
    plain = {name: 1.0 for name in _WEIGHTS if getattr(options, name)}
    # The trained network has its normalisation folded in.
    options = replace(options, **plain, conf_weight=None, camera_norm=False, pose_conditioning=float(poses))  # type: ignore[arg-type]
    losses = Objective(trainer.trained_network(), options)(trainer.batch(0), None, 0, None)
    return {name: float(value.mean()) for name, value in losses.items() if name != "total"}
