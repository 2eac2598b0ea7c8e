"""Overfit first: every recipe, at demonstration size, learns one batch by heart, term by term.

Terms are measured without their weights and without the confidence, whose logarithm has no lowest value. What counts
as near zero is in :data:`TWINS`: a few hundredths of what the untrained network begins with, so that a term without a
gradient, or with one of the wrong sign, misses it by far; :func:`test_a_term_that_is_left_out_is_missed` shows that.
Depth, rays and cameras are also measured from their definitions, on what the trained network says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError, UnknownNameError
from depth_anything_3.geometry.pinhole import camera_centres, unproject
from depth_anything_3.metrics.matching import true_patch_matches
from depth_anything_3.model.da3 import Encoded
from depth_anything_3.train import teacher_losses as T
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.correspondence import DEPTH_TOLERANCE
from depth_anything_3.train.objectives import Objective, conditioning_poses
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer, initial_network
from depth_anything_3.train.twins import SIZE, VIEWS, OpenBox, overfit, terms, twin

ANY_VIEW = {"depth": 0.012, "gradient": 0.015, "ray": 0.1, "point": 0.05, "camera": 0.04}
"""In units of the mean distance of the scene; rays and cameras are sums over their six and nine numbers."""

SINGLE = {"global_local": 0.03, "gradient": 0.015, "normal": 0.35, "sky": 0.015}
"""Depth relative to its distance; five angles in radians, together; squared differences of the sky's score."""


@dataclass(frozen=True)
class Twin:
    """How long a twin is trained, and how near to zero its terms come.

    Attributes:
        steps: of training.
        limits: largest values of the terms.
        posed: largest value of the camera's term where the true cameras are given, which is rare in training.
        error: largest mean relative error of depth.
        begins: terms that are nearly there at the beginning, and the part of it that their limits are under instead of
            half.
    """

    steps: int
    limits: dict[str, float]
    posed: float = 0.15
    error: float = 0.012
    begins: dict[str, float] = field(default_factory=dict)


TWINS = {
    "da3_giant_paper": Twin(240, ANY_VIEW),
    "da3_small": Twin(240, ANY_VIEW),
    "finetune": Twin(400, {**ANY_VIEW, "gradient": 0.01}, posed=0.4),
    # Three scales of the gradient, matches, and a tenth of the camera's weight.
    "da3_tiny": Twin(600, {**ANY_VIEW, "gradient": 0.034, "camera": 0.08, "correspondence": 0.03}, posed=0.2),
    "teacher_large": Twin(240, SINGLE),
    "teacher_tiny": Twin(450, {**SINGLE, "gradient": 0.03}),
    "da3mono_large": Twin(240, SINGLE),
    "da3mono_tiny": Twin(300, {**SINGLE, "gradient": 0.05, "normal": 0.6}, error=0.03),
    # Canonical depth is about six times depth here, and nothing divides it by its mean: 0.02 of it.
    "da3metric_large": Twin(1500, {"depth": 0.2, "gradient": 0.14, "sky": 0.015}, error=0.02),
    "da3_gs": Twin(150, {"picture": 0.004, "structure": 0.05, "depth": 0.07}, begins={"depth": np.inf}),
    # Its own views are drawn again, which begin well.
    "gs_tiny": Twin(150, {"picture": 0.002, "structure": 0.04, "depth": 0.07}, begins={"depth": np.inf}),
    # The gradient is that of the logarithm, whose shape it has from its teacher.
    "da3metric_tiny": Twin(450, {"depth": 0.03, "gradient": 0.06, "sky": 0.015}, error=0.03, begins={"gradient": 0.8}),
}

TEACHERS = {"teacher_tiny": 300, "teacher_large": 240}
"""Steps of those that make labels, or that others begin with; from a better one there would be less to learn."""


# What a trained network says, measured from definitions ------------------------------------------------------


def said(trainer: Trainer, *, poses: bool = False) -> tuple[Encoded, Batch]:
    batch, network = trainer.batch(0), trainer.trained_network()
    if trainer.config.objective.kind != "anyview":
        return network.encode(batch.images), batch
    given = {"extrinsics": conditioning_poses(batch.extrinsics), "intrinsics": batch.intrinsics} if poses else {}
    return network.encode(batch.images, rays=True, ref_view_strategy="first", **given), batch


class Truth:
    """Depth, rays and cameras of the only sample, in the frame of its first view, at mean distance 1; by numpy."""

    def __init__(self, batch: Batch) -> None:
        depth, k = (v[0].numpy().astype(float) for v in (batch.depth, batch.intrinsics))
        rigid = np.tile(np.eye(4), (VIEWS, 1, 1))
        rigid[:, :3] = batch.extrinsics[0].numpy()
        poses = (rigid @ np.linalg.inv(rigid[0]))[:, :3]
        self.valid = depth > 0
        unit = np.linalg.norm(unproject(depth, k, poses), axis=-1)[self.valid].mean()
        self.depth, self.centres, self.rotations = depth / unit, camera_centres(poses) / unit, poses[:, :, :3]
        size = (SIZE[0] * 8 // 14, SIZE[1] * 8 // 14)
        smaller = k * np.array([size[1] / SIZE[1], size[0] / SIZE[0], 1])[:, None]
        self.directions = unproject(np.ones((VIEWS, *size)), smaller, poses) - camera_centres(poses)[:, None, None]
        self.fov = 2 * np.arctan(np.array(SIZE) / 2 / k[:, (1, 0), (1, 0)])


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between vectors."""
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    return np.degrees(2 * np.arcsin((np.linalg.norm(a - b, axis=-1) / 2).clip(0, 1)))


def turned(quat_xyzw: np.ndarray) -> np.ndarray:
    """Rotation matrices of quaternions, by their definition as a rotated frame."""
    x, y, z, w = (quat_xyzw / np.linalg.norm(quat_xyzw, axis=-1, keepdims=True)).T
    cross = np.array([[0 * x, -z, y], [z, 0 * x, -x], [-y, x, 0 * x]]).transpose(2, 0, 1)
    return np.eye(3) + 2 * w[:, None, None] * cross + 2 * cross @ cross


def check_any_view(trainer: Trainer, expected: Twin, *, poses: bool) -> None:
    encoded, batch = said(trainer, poses=poses)
    truth = Truth(batch)
    assert encoded.ray is not None and encoded.pose_encoding is not None
    depth, ray, camera = (
        v[0].detach().numpy().astype(float) for v in (encoded.depth, encoded.ray, encoded.pose_encoding)
    )
    error = np.abs(depth / np.where(truth.valid, truth.depth, 1) - 1)[truth.valid]
    assert error.mean() < expected.error
    assert angle(ray[..., :3], truth.directions).mean() < 1.5
    assert np.linalg.norm(ray[..., 3:] - truth.centres[:, None, None], axis=-1).mean() < 0.05
    loose = (expected.posed if poses else expected.limits["camera"]) / 0.04
    assert np.linalg.norm(camera[:, :3] - truth.centres, axis=-1).mean() < 0.02 * loose
    relative = turned(camera[:, 3:7]) @ truth.rotations  # camera to world and back
    assert angle(relative, np.eye(3)).mean() < 1.0 * loose
    assert np.abs(camera[:, 7:] / truth.fov - 1).mean() < 0.01 * loose


def check_confidence(trainer: Trainer) -> None:
    """Where nothing else moves it, the best confidence is the weight of its logarithm divided by the error."""
    weight = trainer.config.objective.conf_weight
    encoded, batch = said(trainer)
    truth = Truth(batch)
    assert weight is not None and encoded.depth_conf is not None and encoded.ray_conf is not None
    depth, conf = (v[0].detach().numpy().astype(float) for v in (encoded.depth, encoded.depth_conf))
    error = np.abs(depth - truth.depth)
    if trainer.config.objective.depth_space == "log":
        error = np.abs(np.log(depth / np.where(truth.valid, truth.depth, depth)))
    product = np.median((conf * error)[truth.valid]) / weight
    assert 0.1 < product < 3
    assert conf[truth.valid].mean() > 8  # it begins at 2


def check_single(trainer: Trainer, expected: Twin) -> None:
    encoded, batch = said(trainer)
    assert encoded.sky is not None
    errors = []
    for depth, truth, k in zip(
        encoded.depth[:, 0].detach().numpy(), batch.depth[:, 0].numpy(), batch.intrinsics[:, 0], strict=True
    ):
        depth, there = depth.astype(float), truth > 0
        if trainer.config.objective.kind == "metric":
            metres = depth * float(k[0, 0] + k[1, 1]) / 2 / 300
        else:  # up to scale and shift
            metres = np.polyval(np.polyfit(depth[there], truth[there], 1, w=1 / truth[there]), depth)
        errors.append(np.abs(metres / np.where(there, truth, 1) - 1)[there].mean())
    assert max(errors) < expected.error
    seen, sky = encoded.sky[:, 0] > 0.5, batch.sky[:, 0]
    assert sky.any() and (seen & sky).sum() > 0.93 * (seen | sky).sum()


# What the twins found -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-20, 1e-9, 1.0, 1e9, 1e20])
def test_a_fit_does_not_depend_on_the_unit(unit: float) -> None:
    """Nothing holds the unit of a teacher's depth, and squares of 1e20 are beyond single precision."""
    g = torch.Generator().manual_seed(0)
    source = 1 + torch.rand(3, 500, generator=g)
    target = 2 * source + 0.3 + 0.01 * torch.randn(3, 500, generator=g)
    one, other = (T.fit_affine(s, target, 1 / target) for s in (source, unit * source))
    torch.testing.assert_close(other[0] * unit, one[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(other[1], one[1], rtol=1e-3, atol=1e-4)


def test_depth_that_falls_to_zero_does_not_end_a_run(tmp_path: Path) -> None:
    """Exponentials underflow; the pull towards 1 must neither be infinite there nor let go before."""
    config = twin("teacher_tiny")
    network, _ = initial_network(config)
    batch = Trainer(config, tmp_path).batch(0)
    objective = Objective(network, config.objective)
    bias = network.head.scratch.output_conv2[2].bias
    for value in (-40.0, -200.0):
        torch.nn.init.constant_(bias, value)
        objective.zero_grad()
        objective(batch, None, 0, None)["anchor"].sum().backward()
        assert bias.grad is not None and torch.isfinite(bias.grad).all()
        assert bool((bias.grad < 0).all()) == (value > -80)


# The twins ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Trains the twin of a teacher when it is first asked for."""
    folder = tmp_path_factory.mktemp("teachers")

    def make(name: str) -> str:
        if not (folder / name).exists():
            overfit(twin(name, steps=TEACHERS[name]), folder / f"{name}_run").export(folder / name, half=False)
        return str(folder / name)

    return make


def reached(trainer: Trainer, *, poses: bool = False) -> dict[str, float]:
    """The terms, that of matches above its lowest value: a patch that k views show shares its attention among them."""
    found = terms(trainer, poses=poses)
    if "correspondence" in found:
        batch = trainer.batch(0)
        matches = true_patch_matches(batch.depth, batch.intrinsics, batch.extrinsics, tolerance=DEPTH_TOLERANCE)
        shown = (matches >= 0).sum(2).double()
        found["correspondence"] -= float(shown[shown > 0].log().mean())
    return found


def check(trainer: Trainer, first: dict[str, float], expected: Twin) -> None:
    last = reached(trainer)
    measured = {name for name in last if name not in ("anchor", "stream", "_top1", "_psnr")}
    assert measured == set(expected.limits)
    for name, limit in expected.limits.items():
        assert last[name] < limit, f"{name}: {last}"
        assert limit < {"sky": np.inf, **expected.begins}.get(name, 0.5) * first[name], f"{name} began at {first[name]}"
    assert last.get("anchor", 0.0) < 4  # scale and shift mean nothing, and stay within a few powers of e of the truth's
    assert last.get("stream", 0.0) < 0.05  # a bound, zero from the start
    if trainer.config.objective.kind == "gaussians":
        return
    if trainer.config.objective.kind != "anyview":
        check_single(trainer, expected)
        return
    assert last.get("_top1", 1.0) == 1
    check_any_view(trainer, expected, poses=False)
    check_confidence(trainer)
    if trainer.config.objective.pose_conditioning:
        given = reached(trainer, poses=True)
        for name, limit in {**expected.limits, "camera": expected.posed}.items():
            assert given[name] < 1.2 * limit, f"{name}, poses given: {given}"
        check_any_view(trainer, expected, poses=True)


@pytest.mark.twins
@pytest.mark.parametrize("name", TWINS)
def test_every_recipe_learns_a_batch_by_heart(name: str, checkpoint: Callable[[str], str], tmp_path: Path) -> None:
    expected = TWINS[name]
    taught = RECIPES[name]().labels is not None or name in ("da3_tiny", "da3metric_tiny", "da3mono_tiny", "finetune")
    # Normals of every pixel are what the large teacher learns; the small one looks at every second.
    teacher = "teacher_large" if name == "da3mono_large" else "teacher_tiny"
    config = twin(name, checkpoint=checkpoint(teacher) if taught else None, steps=expected.steps)
    first = reached(Trainer(config, tmp_path / "untrained"))
    check(overfit(config, tmp_path / "run"), first, expected)


@pytest.mark.twins
def test_a_term_that_is_left_out_is_missed(tmp_path: Path) -> None:
    """A control: what has no gradient does not come near its limit, and the rest does."""
    config = twin("da3_small", steps=160)
    config = replace(config, objective=replace(config.objective, ray=1e-9, point=1e-9, camera=1e-9))
    last = terms(overfit(config, tmp_path))
    assert all(last[name] > 4 * ANY_VIEW[name] for name in ("ray", "point", "camera"))
    assert all(last[name] < ANY_VIEW[name] for name in ("depth", "gradient"))


# What a twin is ------------------------------------------------------------------------------------------------


def test_there_is_one_for_every_recipe() -> None:
    confidence_alone = {"da3_tiny_confidence"}  # nothing in it could reach zero: see test_confidence
    assert set(TWINS) | confidence_alone == set(RECIPES)
    with pytest.raises(UnknownNameError, match="da3_tiny"):
        twin("da3_huge")


SHARED = ("pose_conditioning", "conf_weight", "depth_space", "camera_norm", "autocast_head", "gradient_scales", "kind")


@pytest.mark.parametrize("name", TWINS)
def test_twins_keep_losses_and_switches(name: str) -> None:
    known = {"teacher": "there"} if "teacher" in signature(RECIPES[name]).parameters else {}
    recipe = RECIPES[name](**known)
    made = twin(name, checkpoint="there", steps=100)
    last = recipe.phases[-1].objective or recipe.objective
    assert replace(made.objective, correspondence_blocks=last.correspondence_blocks) == last
    assert all(getattr(made.objective, n) == getattr(last, n) for n in SHARED)
    assert replace(made.optimiser, backbone_rate=recipe.optimiser.backbone_rate) == recipe.optimiser
    assert (made.init.start == "weights") == (recipe.init.start == "weights")
    assert made.init.frozen == recipe.init.frozen
    assert made.activation_checkpointing == recipe.activation_checkpointing
    assert (made.labels is None) == (recipe.labels is None)
    if made.labels is not None and recipe.labels is not None:
        assert replace(made.labels, from_step=recipe.labels.from_step) == recipe.labels
        assert made.labels.from_step / made.steps == pytest.approx(recipe.labels.from_step / recipe.steps, abs=0.02)
    assert made.fixed_batch and made.steps == 100
    assert twin(name).labels is None and twin(name).init.start == "scratch"


def test_the_box_is_what_it_says() -> None:
    """Points of one view are where another sees them, and nothing jumps."""
    box = OpenBox()
    box.check()
    name, views = box.sample(np.random.default_rng(0), VIEWS, (0, 1), 0)
    assert name == "box/0" and views.images.shape == (VIEWS, *SIZE, 3)
    assert ((views.depth == 0) == views.sky).all() and views.sky.any()
    points = unproject(views.depth, views.intrinsics, views.extrinsics)[~views.sky]
    corner = np.abs(points).max(0)
    assert (np.isclose(np.abs(points), corner, atol=1e-3).sum(-1) > 0).mean() > 0.99  # on a wall or the floor
    jumps = np.abs(np.diff(np.log(np.where(views.sky, np.nan, views.depth)), axis=2))
    assert np.nanmax(jumps) < 0.15
    again = box.sample(np.random.default_rng(9), VIEWS, (0, 1), 5)[1]
    assert np.array_equal(again.images, views.images)
    single = box.sample(np.random.default_rng(9), 1, (0, 1), 5)[1]
    assert any(np.array_equal(single.images[0], image) for image in views.images)
    assert not np.array_equal(OpenBox(seed=1).sample(np.random.default_rng(0), 1, (0, 1), 0)[1].images, single.images)
    with pytest.raises(InputError, match="views: got 2"):
        box.sample(np.random.default_rng(0), 2, (0, 1), 0)


def test_one_twin(tmp_path: Path) -> None:
    """The one of the any-view model, for a shorter time, so that a broken term is found at once."""
    expected = Twin(110, {"depth": 0.03, "gradient": 0.03, "ray": 0.25, "point": 0.15, "camera": 0.12})
    config = twin("da3_small", steps=expected.steps)
    first = terms(Trainer(config, tmp_path / "untrained"))
    last = terms(overfit(config, tmp_path / "run"))
    for name, limit in expected.limits.items():
        assert last[name] < limit < 0.3 * first[name], f"{name}: {first[name]} to {last[name]}"
