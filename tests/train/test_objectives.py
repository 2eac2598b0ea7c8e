"""What is learned: perfect predictions cost nothing, and each mistake is charged to the right loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.poses import in_another_world
from support.tiny import any_view_config, metric_config, seeded_network
from torch import Tensor

from depth_anything_3.geometry.pinhole import camera_centres, unproject
from depth_anything_3.infer.cameras import normalise_extrinsics
from depth_anything_3.metrics.matching import true_patch_matches
from depth_anything_3.model.attention_tap import tapped
from depth_anything_3.model.da3 import DepthAnything3Net, Encoded
from depth_anything_3.train.augment import AugmentOptions, Pictures, crop_and_resize
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.camera_norm import fold
from depth_anything_3.train.correspondence import DEPTH_TOLERANCE, correspondence_loss
from depth_anything_3.train.objectives import (
    AnyviewTruth,
    Objective,
    ObjectiveOptions,
    conditioning_poses,
    relative_to_first,
    sky_logits,
)

HEIGHT, WIDTH = 56, 84
RAYS = (32, 48)
CHOSEN = ((0, 2, 5), (7, 1, 3))
EXACT = 2e-4


@pytest.fixture(scope="module")
def batch(pictures: Pictures) -> Batch:
    """Two samples of three views each; nothing of the room is sky."""
    small = crop_and_resize(
        pictures, (HEIGHT, WIDTH), np.random.default_rng(0), AugmentOptions(off_centre=1.0, smallest_crop=0.8)
    )
    index = np.array(CHOSEN)
    depth = torch.from_numpy(small.depth[index])
    depth[0, 1, 20:30, 30:60] = 0  # unknown
    return Batch(
        images=torch.randn(2, 3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)),
        depth=depth,
        sky=depth == 0,
        sky_known=torch.tensor([True, False]),
        objects=torch.tensor([False, False]),
        intrinsics=torch.from_numpy(small.intrinsics[index]),
        extrinsics=torch.from_numpy(small.extrinsics[index]),
        metric=torch.tensor([True, True]),
        scenes=("a", "b"),
    )


def numbers(batch: Batch, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, intrinsics and poses relative to the first view, in double precision."""
    poses = np.concatenate([batch.extrinsics[b].numpy().astype(float), np.tile([[[0, 0, 0, 1.0]]], (3, 1, 1))], 1)
    relative = poses @ np.linalg.inv(poses[0])
    return batch.depth[b].numpy().astype(float), batch.intrinsics[b].numpy().astype(float), relative[:, :3]


def perfect(batch: Batch) -> Encoded:
    """What a network would say that knows everything, worked out from the definitions."""
    depths, rays, cameras = [], [], []
    for b in range(len(batch.scenes)):
        depth, k, poses = numbers(batch, b)
        scale = np.linalg.norm(unproject(depth, k, poses), axis=-1)[depth > 0].mean()
        small = k * np.array([RAYS[1] / WIDTH, RAYS[0] / HEIGHT, 1])[:, None]
        centre = camera_centres(poses) / scale
        direction = unproject(np.ones((3, *RAYS)), small, poses) - camera_centres(poses)[:, None, None]
        depths.append(depth / scale)
        rays.append(np.concatenate([direction, np.broadcast_to(centre[:, None, None], direction.shape)], -1))
        fov = 2 * np.arctan(np.array([HEIGHT, WIDTH]) / 2 / k[:, (1, 0), (1, 0)])
        cameras.append(np.concatenate([centre, [quat_xyzw(p[:, :3].T) for p in poses], fov], -1))
    depth_, ray, pose = (torch.from_numpy(np.stack(v)).float() for v in (depths, rays, cameras))
    return Encoded(depth_, torch.ones_like(depth_), None, ray, torch.ones_like(ray[..., 0]), pose, None, None, {})


def quat_xyzw(rotation: np.ndarray) -> np.ndarray:
    """The eigenvector of Bar-Itzhack's matrix: no case distinctions to get wrong."""
    m = rotation
    symmetric = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    values, vectors = np.linalg.eigh(symmetric / 3)
    return vectors[:, values.argmax()]


class Oracle:
    """An objective whose network says what it is told, and keeps what it was asked."""

    def __init__(self, answer: Encoded, **options: object) -> None:
        net = seeded_network(any_view_config())
        assert isinstance(net, DepthAnything3Net)
        self.asked: list[dict[str, object]] = []
        self.answer = answer
        net.encode = self._encode  # type: ignore[method-assign, assignment]
        self.objective = Objective(net, ObjectiveOptions(**{"pose_conditioning": 0.0, **options}))  # type: ignore[arg-type]

    def _encode(self, images: Tensor, **options: object) -> Encoded:
        self.asked.append(options)
        return self.answer

    def losses(self, batch: Batch, labels: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
        return self.objective(batch, labels, seed, None)


# Any-view --------------------------------------------------------------------------------------------------

TERMS = {"depth", "gradient", "ray", "point", "camera"}


@pytest.mark.parametrize("space", ["linear", "log"])
def test_perfect_predictions_cost_nothing(batch: Batch, space: str) -> None:
    losses = Oracle(perfect(batch), depth_space=space, gradient_scales=3).losses(batch)
    assert set(losses) == TERMS | {"total"}
    for name, value in losses.items():
        assert value.shape == (2,)
        assert (value.abs() < (EXACT if name != "total" else 5 * EXACT)).all(), f"{name}: {value}"


MISTAKES: dict[str, tuple[Callable[[Encoded], Encoded], set[str]]] = {
    "depth": (lambda e: e._replace(depth=1.1 * e.depth), {"depth", "gradient", "point"}),
    "depth shifted": (lambda e: e._replace(depth=0.1 + e.depth), {"depth", "point"}),
    "direction": (lambda e: e._replace(ray=e.ray + torch.tensor([0, 0.1, 0, 0, 0, 0])), {"ray", "point"}),
    "origin": (lambda e: e._replace(ray=e.ray + torch.tensor([0, 0, 0, 0, 0.1, 0])), {"ray", "point"}),
    "swapped rays": (lambda e: e._replace(ray=e.ray.roll(3, -1)), {"ray", "point"}),
    "centre": (lambda e: e._replace(pose_encoding=e.pose_encoding + 0.1 * torch.eye(9)[0]), {"camera"}),
    "rotation": (lambda e: e._replace(pose_encoding=e.pose_encoding + 0.1 * torch.eye(9)[4]), {"camera"}),
    "field of view": (lambda e: e._replace(pose_encoding=e.pose_encoding * (1 + 0.1 * torch.eye(9)[8])), {"camera"}),
    "another scale": (
        lambda e: e._replace(depth=2 * e.depth, ray=e.ray * torch.tensor([1, 1, 1, 2, 2, 2])),
        {"depth", "gradient", "ray", "point"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_charged_to_the_right_losses(batch: Batch, mistake: str) -> None:
    change, charged = MISTAKES[mistake]
    losses = Oracle(change(perfect(batch))).losses(batch)
    assert {name for name in TERMS if (losses[name] > 10 * EXACT).all()} == charged
    assert all((losses[name] < EXACT).all() for name in TERMS - charged)
    torch.testing.assert_close(losses["total"], torch.stack([losses[n] for n in TERMS]).sum(0))


def test_weights_weigh_and_zero_leaves_out(batch: Batch) -> None:
    wrong = MISTAKES["another scale"][0](perfect(batch))
    wrong = MISTAKES["centre"][0](wrong)
    plain = Oracle(wrong).losses(batch)
    for name in TERMS:
        tripled = Oracle(wrong, **{name: 3.0}).losses(batch)
        torch.testing.assert_close(tripled[name], 3 * plain[name])
        torch.testing.assert_close(tripled["total"], plain["total"] + 2 * plain[name])
    for name in TERMS - {"depth"}:
        assert set(Oracle(wrong, **{name: 0.0}).losses(batch)) == {"total"} | TERMS - {name}


def test_confidence_is_trained_only_with_a_weight(batch: Batch) -> None:
    answer = MISTAKES["another scale"][0](perfect(batch))
    doubt = answer._replace(depth_conf=3 * answer.depth_conf, ray_conf=3 * answer.ray_conf)
    without = Oracle(doubt, conf_weight=None).losses(batch)
    certain = Oracle(answer, conf_weight=0.5).losses(batch)
    doubted = Oracle(doubt, conf_weight=0.5).losses(batch)
    for name in ("depth", "ray"):
        torch.testing.assert_close(without[name], certain[name])
        torch.testing.assert_close(doubted[name], 3 * certain[name] - 0.5 * np.log(3))
    torch.testing.assert_close(doubted["point"], certain["point"])


def test_point_maps_instead_of_rays(batch: Batch) -> None:
    answer = perfect(batch)
    small = torch.nn.functional.interpolate(answer.depth, RAYS, mode="nearest-exact")
    points = small[..., None] * answer.ray[..., :3] + answer.ray[..., 3:]
    right = answer._replace(ray=torch.cat([points, torch.full_like(points, 7.0)], -1))
    losses = Oracle(right, ray_target="points").losses(batch)
    assert (losses["ray"] < EXACT).all()
    assert (Oracle(answer, ray_target="points").losses(batch)["ray"] > 0.1).all()


def test_labels_take_the_place_of_depth(batch: Batch) -> None:
    """Also for the scale of the sample, and nothing is supervised where there is none."""
    labels = 3 * batch.depth
    labels[:, :, :20] = 0
    relabelled = replace(batch, depth=labels)
    answer = perfect(relabelled)
    answer = answer._replace(depth=torch.where(labels > 0, answer.depth, 1e3))
    losses = Oracle(answer).losses(batch, labels)
    assert all((losses[name] < EXACT).all() for name in TERMS)
    assert all((Oracle(answer).losses(batch)[name] > EXACT).any() for name in TERMS)


def test_truth_does_not_depend_on_the_choice_of_world(batch: Batch) -> None:
    moved = np.stack(
        [in_another_world(e.astype(float), 3, scale=20.0) for e in batch.extrinsics.numpy()]
    )  # every scene turned, shifted and made twenty times as large
    other = replace(batch, extrinsics=torch.from_numpy(moved).float(), depth=20 * batch.depth)
    truth, same = AnyviewTruth.of(batch), AnyviewTruth.of(other)
    for name in ("depth", "valid", "camera_from_world", "world_from_camera", "pose_encoding"):
        torch.testing.assert_close(getattr(truth, name), getattr(same, name), rtol=1e-4, atol=1e-4)
    identity = torch.eye(3, 4).expand(2, 3, 4)
    torch.testing.assert_close(truth.camera_from_world[:, 0], identity, rtol=0, atol=1e-6)
    torch.testing.assert_close(relative_to_first(batch.extrinsics)[:, 0], identity, rtol=0, atol=1e-6)


# Given cameras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 3, 4, 5, 8])
def test_conditioning_poses_are_those_of_inference(pictures: Pictures, views: int) -> None:
    poses = pictures.extrinsics[:views]
    whole = np.concatenate([poses.astype(float), np.tile([[[0, 0, 0, 1.0]]], (views, 1, 1))], 1)
    expected = normalise_extrinsics(whole)[:, :3]
    found = conditioning_poses(torch.from_numpy(np.stack([poses, poses])))
    for sample in found:
        np.testing.assert_allclose(sample.numpy(), expected, atol=1e-4)


def test_cameras_are_given_at_the_wanted_share_of_steps(batch: Batch) -> None:
    oracle = Oracle(perfect(batch), pose_conditioning=0.3)
    for seed in range(60):
        oracle.losses(batch, seed=seed)
    given = ["extrinsics" in asked for asked in oracle.asked]
    assert 0.15 < np.mean(given) < 0.45
    oracle.losses(batch, seed=given.index(True))
    asked = oracle.asked[-1]
    torch.testing.assert_close(asked["extrinsics"], conditioning_poses(batch.extrinsics))
    assert torch.equal(asked["intrinsics"], batch.intrinsics)
    for share in (0.0, 1.0):
        oracle = Oracle(perfect(batch), pose_conditioning=share)
        for seed in range(5):
            oracle.losses(batch, seed=seed)
        assert {"extrinsics" in asked for asked in oracle.asked} == {share == 1.0}


def test_the_first_view_is_the_reference_and_rays_are_asked_for(batch: Batch) -> None:
    oracle = Oracle(perfect(batch))
    oracle.losses(batch)
    assert oracle.asked[0]["ref_view_strategy"] == "first"
    assert oracle.asked[0]["rays"] is True


# With a network --------------------------------------------------------------------------------------------


def any_view() -> DepthAnything3Net:
    net = seeded_network(any_view_config())
    assert isinstance(net, DepthAnything3Net)
    return net


def test_the_correspondence_term_is_that_of_the_chosen_blocks_and_heads(batch: Batch) -> None:
    net = any_view()
    options = ObjectiveOptions(
        correspondence=0.3, correspondence_blocks=(3,), correspondence_heads=1, pose_conditioning=0.0
    )
    losses = Objective(net, options)(batch, None, 0, None)
    with tapped(net.backbone.pretrained, [3]) as (tap,):
        net.encode(batch.images, ref_view_strategy="first")
        expected, top1 = correspondence_loss(
            tap.logits(3, slice(0, 1)),
            true_patch_matches(batch.depth, batch.intrinsics, batch.extrinsics, tolerance=DEPTH_TOLERANCE),
        )
    torch.testing.assert_close(losses["correspondence"], 0.3 * expected)
    torch.testing.assert_close(losses["_top1"], top1)
    shown = [value for name, value in losses.items() if name not in ("total", "_top1")]
    torch.testing.assert_close(losses["total"], torch.stack(shown).sum(0))
    one = replace(
        batch,
        **{n: getattr(batch, n)[:, :1] for n in ("images", "depth", "sky", "intrinsics", "extrinsics")},
    )
    assert "correspondence" not in Objective(net, options)(one, None, 0, None)


def test_the_camera_decoder_reads_the_normalised_token(batch: Batch) -> None:
    net = any_view()
    objective = Objective(net, ObjectiveOptions(camera_norm=True, pose_conditioning=0.0))
    plain = any_view()
    assert objective.camera_norm is not None
    objective.train()
    objective(batch, None, 0, None)
    assert int(objective.camera_norm.seen) == 1
    objective.eval()
    with torch.no_grad():
        pose = net.encode(batch.images, ref_view_strategy="first").pose_encoding
        raw = plain.encode(batch.images, ref_view_strategy="first").pose_encoding
        fold(plain.cam_dec, copy.deepcopy(objective.camera_norm))
        folded = plain.encode(batch.images, ref_view_strategy="first").pose_encoding
    torch.testing.assert_close(folded, pose, rtol=1e-3, atol=1e-4)
    assert (raw - pose).abs().max() > 1e-2
    assert Objective(any_view(), ObjectiveOptions()).camera_norm is None


def test_losses_are_a_function_of_their_seed_and_of_each_sample_alone(batch: Batch) -> None:
    net = any_view()
    objective = Objective(net, ObjectiveOptions(pose_conditioning=0.5))
    state = torch.get_rng_state()
    first, again = objective(batch, None, 7, None), objective(batch, None, 7, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    names = ("images", "depth", "sky", "sky_known", "objects", "intrinsics", "extrinsics", "metric")
    for b in range(2):
        alone = replace(batch, scenes=("x",), **{n: getattr(batch, n)[b : b + 1] for n in names})
        for name, value in objective(alone, None, 7, None).items():
            torch.testing.assert_close(value, first[name][b : b + 1], rtol=1e-4, atol=1e-5)


# Single views ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metric_network() -> DepthAnything3Net:
    net = seeded_network(metric_config())
    assert isinstance(net, DepthAnything3Net)
    return net


def single(batch: Batch, depth: Tensor, /, **options: object) -> dict[str, Tensor]:
    answer = Encoded(depth, None, None, None, None, None, None, None, {})
    return Oracle(answer, **options).losses(batch)


def test_metric_depth_is_that_of_a_focal_length_of_300(batch: Batch) -> None:
    k = batch.intrinsics.clone()
    k[0, 1, 0, 0] *= 1.5  # two focal lengths: their mean counts
    k[1, 2, :2, :2] *= 2
    changed = replace(batch, intrinsics=k)
    focal = (k[..., 0, 0] + k[..., 1, 1]) / 2
    canonical = batch.depth * 300 / focal[..., None, None]
    right = single(changed, canonical, kind="metric")
    assert set(right) == {"depth", "gradient", "total"}
    assert all((value < 1e-3).all() for value in right.values())
    assert (single(changed, batch.depth, kind="metric")["depth"] > 0.1).all()
    wrong = single(changed, 1.1 * canonical, kind="metric", depth_space="log", depth=2.0)
    torch.testing.assert_close(wrong["depth"], torch.full((2,), 2 * np.log(1.1)).float(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["teacher", "mono"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.1, 0.4), (5.0, 1.0)])
def test_a_teacher_may_be_off_by_scale_and_shift(batch: Batch, kind: str, scale: float, shift: float) -> None:
    options = {"kind": kind, "levels": (4,), "anchors": (16,)}
    losses = single(batch, scale * batch.depth + shift, **options)
    assert set(losses) == {"global_local", "gradient", "normal", "total"}
    assert (losses["global_local"] < 2e-3).all()
    assert (losses["gradient"] < 1e-4).all()
    assert (losses["normal"] < 0.01).all()
    bent = single(batch, scale * batch.depth.sqrt() + shift, **options)
    for name in ("global_local", "gradient", "normal"):
        assert (bent[name] > 5 * losses[name] + 2e-3).all(), name


@pytest.mark.parametrize("kind", ["teacher", "mono"])
def test_nothing_but_the_anchor_moves_scale_and_shift(batch: Batch, kind: str) -> None:
    """Terms that want more contrast would else make depth larger at every step."""
    for anchor in (0.0, 0.1):
        scale, shift = (torch.tensor(v, requires_grad=True) for v in (1.0, 0.0))
        depth = scale * 0.5 * batch.depth.sqrt() + shift
        losses = single(batch, depth, kind=kind, levels=(), anchors=(), anchor=anchor)
        assert float(losses["gradient"].detach().min()) > 0.004
        losses["total"].sum().backward()
        assert scale.grad is not None and shift.grad is not None
        assert (abs(float(scale.grad)) > 1e-3, abs(float(shift.grad)) > 1e-3) == (anchor > 0, anchor > 0)


def test_the_teacher_sees_each_view_by_itself(batch: Batch) -> None:
    """Every view may have a scale and a shift of its own."""
    factor = torch.tensor([[1.0, 2.0, 0.3], [0.5, 4.0, 1.0]])[..., None, None]
    losses = single(batch, factor * batch.depth + 0.2 * factor, kind="teacher", levels=(4,), anchors=(16,))
    assert (losses["global_local"] < 5e-3).all()


def test_sky_logits_are_what_the_relu_receives(metric_network: DepthAnything3Net) -> None:
    images = torch.randn(2, 5, 3, 28, 42, generator=torch.Generator().manual_seed(0))  # more views than one chunk
    branch = metric_network.head.scratch.sky_output_conv2
    with torch.no_grad(), sky_logits(metric_network) as logits:
        sky = metric_network.encode(images).sky
    found = torch.cat(logits).squeeze(1).unflatten(0, (2, 5))
    torch.testing.assert_close(found.relu(), sky)
    assert 0.01 < float((found < 0).float().mean()) < 0.99
    assert not branch._forward_hooks
    with sky_logits(any_view()) as none:
        pass
    assert none == []


def test_the_sky_is_learned_where_its_mask_is_known_and_from_silence(
    batch: Batch, metric_network: DepthAnything3Net
) -> None:
    net = copy.deepcopy(metric_network)
    with torch.no_grad():
        net.head.scratch.sky_output_conv2[2].bias.fill_(-5)  # silent everywhere
    for kind in ("metric", "teacher"):
        options = ObjectiveOptions(kind=kind, sky=0.5, levels=(4,), anchors=(8,))  # type: ignore[arg-type]
        losses = Objective(net, options)(batch, None, 0, None)
        with torch.no_grad(), sky_logits(net) as logits:
            net.encode(batch.images)
        logit = torch.cat(logits).squeeze(1)[:3]
        assert float(logit.max()) < 0
        expected = torch.where(batch.sky[0], (logit - 1) ** 2, torch.zeros_like(logit)).mean()
        assert losses["sky"][0].item() == pytest.approx(0.5 * expected.item(), rel=1e-4)
        assert losses["sky"][1].item() == 0  # its mask is not known
        net.zero_grad()
        losses["sky"].sum().backward()
        assert net.head.scratch.sky_output_conv2[2].bias.grad.abs().max() > 0
    assert "sky" not in Objective(net, replace(options, sky=0.0, object=0.0))(batch, None, 0, None)


def test_what_is_around_single_objects_has_a_weight_of_its_own(batch: Batch, metric_network: DepthAnything3Net) -> None:
    options = ObjectiveOptions(kind="teacher", levels=(4,), anchors=(16,), sky=0.5, object=2.0)
    known = replace(batch, sky_known=torch.tensor([True, True]))
    as_sky = Objective(metric_network, options)(known, None, 0, None)
    mixed = Objective(metric_network, options)(replace(known, objects=torch.tensor([False, True])), None, 0, None)
    assert "object" not in as_sky
    torch.testing.assert_close(mixed["sky"], as_sky["sky"] * torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(mixed["object"], 4 * as_sky["sky"] * torch.tensor([0.0, 1.0]))
    unknown = replace(batch, objects=torch.tensor([False, True]))  # the second mask is not to be trusted
    assert Objective(metric_network, options)(unknown, None, 0, None)["object"].tolist() == [0, 0]
