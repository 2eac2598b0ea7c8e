"""Which patches show the same surface, what attention looks at, and the loss between the two."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from support.tiny import any_view_config, seeded_network
from torch import Tensor

from depth_anything_3.datasets.procedural import RenderedScene
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.matching import true_patch_matches
from depth_anything_3.model.attention_tap import AttentionTap, tapped
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.train.correspondence import (
    DEPTH_TOLERANCE,
    correspondence_loss,
)

patch_matches = partial(true_patch_matches, tolerance=DEPTH_TOLERANCE)

ROWS, COLUMNS, FOCAL, DISTANCE = 4, 6, 28.0, 2.0
HEIGHT, WIDTH = 14 * ROWS, 14 * COLUMNS


# Matches ---------------------------------------------------------------------------------------------------


def brute_force(depth: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray) -> np.ndarray:
    """Patch by patch, in double precision."""
    views, height, width = depth.shape
    rows, columns = height // 14, width // 14
    found = np.full((views, views, rows * columns), -1)
    points = unproject(depth.astype(np.float64), intrinsics, extrinsics)
    for i, j in np.ndindex(views, views):
        for p in range(rows * columns if i != j else 0):
            y, x = p // columns * 14 + 7, p % columns * 14 + 7
            xy, z = project(points[i, y, x], intrinsics[j], extrinsics[j])
            if depth[i, y, x] <= 0 or z <= 0 or not (0 <= xy[0] < columns * 14 and 0 <= xy[1] < rows * 14):
                continue
            there = depth[j, int(xy[1]), int(xy[0])]
            if there > 0 and abs(there - z) <= DEPTH_TOLERANCE * there:
                found[i, j, p] = int(xy[1]) // 14 * columns + int(xy[0]) // 14
    return found


def test_matches_of_a_rendered_scene_are_those_found_patch_by_patch(rendered: RenderedScene) -> None:
    views = [0, 2, 5, 7]
    depth = rendered.depth[views].copy()
    depth[1, 40:80, 60:90] = 0  # something unknown in the middle
    k, poses = rendered.intrinsics[views], rendered.extrinsics[views]
    expected = brute_force(depth, k, poses)
    tensors = (torch.from_numpy(v)[None] for v in (depth, k, poses))
    found = patch_matches(*tensors)[0].numpy()
    assert (expected >= 0).mean() > 0.1
    assert (expected[:2, :2] == -1).sum() > 20
    assert (found != expected).mean() < 1e-3  # a point may lie on the very edge of a patch


def test_a_batch_of_scenes_is_its_scenes(rendered: RenderedScene) -> None:
    tensors = [
        torch.from_numpy(v).unflatten(0, (2, 4)) for v in (rendered.depth, rendered.intrinsics, rendered.extrinsics)
    ]
    together = patch_matches(*tensors)
    assert together.shape == (2, 4, 4, 9 * 12)
    for b in range(2):
        assert torch.equal(together[b], patch_matches(*(v[b : b + 1] for v in tensors))[0])


def wall(*translations: tuple[float, float, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Cameras side by side before a wall; one unit to the left moves its picture by one patch to the right."""
    count = len(translations)
    k = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]).expand(1, count, 3, 3)
    poses = torch.cat([torch.eye(3).expand(count, 3, 3), torch.tensor(translations)[..., None]], -1)[None]
    depth = DISTANCE + torch.tensor(translations)[:, 2]
    return depth[None, :, None, None].repeat(1, 1, HEIGHT, WIDTH), k, poses


ORIGIN, MOVED = (0.0, 0.0, 0.0), (1.0, -1.0, 0.0)  # by one patch to the right and one up


def test_matches_of_a_shifted_wall() -> None:
    matches = patch_matches(*wall(ORIGIN, MOVED))[0].view(2, 2, ROWS, COLUMNS)
    index = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    there, back = torch.full((ROWS, COLUMNS), -1), torch.full((ROWS, COLUMNS), -1)
    there[1:, :-1] = index[:-1, 1:]
    back[:-1, 1:] = index[1:, :-1]
    assert torch.equal(matches[0, 1], there)
    assert torch.equal(matches[1, 0], back)
    assert (matches[0, 0] == -1).all()
    assert (matches[1, 1] == -1).all()


def test_nothing_matches_what_is_hidden_unknown_or_behind() -> None:
    depth, k, poses = wall(ORIGIN, ORIGIN, (0.0, 0.0, -2.0 * DISTANCE))
    depth[0, 1, 14:28, 28:42] = 0.5 * DISTANCE  # in front of patch (1, 2)
    depth[0, 1, 28:42, 28:42] = 0  # unknown
    depth[0, 1, 42:, 28:42] = (1 + 0.5 * DEPTH_TOLERANCE) * DISTANCE  # within the tolerance
    depth[0, 0, 7, 7] = 0  # the middle of patch (0, 0) is unknown
    depth[0, 2] = DISTANCE
    matches = patch_matches(depth, k, poses)[0].view(3, 3, ROWS, COLUMNS)
    expected = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    expected[1, 2] = expected[2, 2] = expected[0, 0] = -1
    assert torch.equal(matches[0, 1], expected)
    assert (matches[0, 2] == -1).all()


# Attention -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> DepthAnything3Net:
    net = seeded_network(any_view_config())
    assert isinstance(net, DepthAnything3Net)
    return net


@pytest.mark.parametrize("views", [2, 3])
def test_the_tap_gives_the_attention_that_the_block_computes(network: DepthAnything3Net, views: int) -> None:
    backbone = network.backbone.pretrained
    block = 3
    assert backbone.is_global(block)
    attention = backbone.blocks[block].attn
    seen: dict[str, Tensor] = {}
    handles = [
        attention.qkv.register_forward_hook(lambda m, i, o: seen.__setitem__("qkv", o)),
        attention.proj.register_forward_pre_hook(lambda m, i: seen.__setitem__("attended", i[0])),
    ]
    images = torch.rand(2, views, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), tapped(backbone, [block]) as (tap,):
        backbone(images, ref_view_strategy="first")
    for handle in handles:
        handle.remove()
    logits = tap.logits(views, slice(None))
    q, k, v = seen["qkv"].unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close((logits.softmax(-1) @ v).transpose(1, 2).flatten(2), seen["attended"])
    torch.testing.assert_close(tap.logits(views, slice(1, 2)), logits[:, 1:2])
    # Neither the normalisation nor the rotation may be forgotten, or the test says nothing.
    plain = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    unrotated = tap.queries @ tap.keys.transpose(-1, -2) * q.shape[-1] ** -0.5
    assert (plain - logits).abs().max() > 1e-2
    assert (unrotated - logits).abs().max() > 1e-2


def test_taps_listen_only_within_their_context(network: DepthAnything3Net) -> None:
    backbone = network.backbone.pretrained
    with tapped(backbone, [1, 3]) as taps:
        assert len(taps) == 2
    with pytest.raises(RuntimeError), tapped(backbone, [3]):
        raise RuntimeError
    for block in backbone.blocks:
        assert not block.attn.q_norm._forward_hooks
        assert not block.attn.k_norm._forward_hooks


def test_the_loss_reaches_the_queries_and_keys_of_the_chosen_heads(network: DepthAnything3Net) -> None:
    backbone = network.backbone.pretrained
    attention = backbone.blocks[3].attn
    images = torch.rand(1, 2, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    with tapped(backbone, [3]) as (tap,):
        backbone(images, ref_view_strategy="first")
        loss, _ = correspondence_loss(tap.logits(2, slice(0, 1)), patch_matches(*wall(ORIGIN, MOVED)))
    (gradient,) = torch.autograd.grad(loss.sum(), attention.qkv.bias)
    query, key, value = gradient.unflatten(0, (3, attention.heads, -1))
    assert query[0].abs().max() > 0
    assert key[0].abs().max() > 0
    assert query[1].abs().max() == key[1].abs().max() == value.abs().max() == 0


def test_a_tap_refuses_to_speak_before_the_block_has_run(network: DepthAnything3Net) -> None:
    tap = AttentionTap(network.backbone.pretrained.blocks[3])
    with pytest.raises(AssertionError):
        tap.logits(2, slice(None))
    tap.close()


# The loss --------------------------------------------------------------------------------------------------

PATCHES, TOKENS = ROWS * COLUMNS, 1 + ROWS * COLUMNS


def logits_for(matches: Tensor, height: float) -> Tensor:
    """Two heads whose patches look at their matches, this much more than at the rest."""
    batch, views = matches.shape[:2]
    logits = torch.zeros(batch, 2, views, TOKENS, views, TOKENS)
    for b, i, j, p in (matches >= 0).nonzero().tolist():
        logits[b, :, i, 1 + p, j, 1 + matches[b, i, j, p]] = height
    return logits.flatten(4).flatten(2, 3)


def test_attention_to_the_right_patch_costs_nothing() -> None:
    matches = patch_matches(*wall(ORIGIN, MOVED))
    loss, top1 = correspondence_loss(logits_for(matches, 40.0), matches)
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(top1) == 1
    worse = [float(correspondence_loss(logits_for(matches, h), matches)[0]) for h in (0.0, 1.0, 3.0, 8.0)]
    assert worse == sorted(worse, reverse=True)


def test_indifferent_attention_costs_the_logarithm_of_all_keys() -> None:
    matches = patch_matches(*wall(ORIGIN, MOVED, ORIGIN))
    loss, _ = correspondence_loss(logits_for(matches, 0.0), matches)
    assert float(loss) == pytest.approx(math.log(3 * TOKENS), abs=1e-5)


@pytest.mark.parametrize("keys", [slice(1, TOKENS), slice(0, 1), slice(TOKENS, TOKENS + 1)])
def test_attention_to_the_own_view_or_to_special_tokens_is_paid_for(keys: slice) -> None:
    matches = patch_matches(*wall(ORIGIN, MOVED))
    logits = logits_for(matches, 6.0)
    loss, top1 = correspondence_loss(logits, matches)
    logits[:, :, 1:TOKENS, keys] += 8  # of the first view's queries
    distracted, still = correspondence_loss(logits, matches)
    assert float(distracted) > float(loss) + 0.5
    assert float(still) == float(top1) == 1  # which compares patches of the other view only


def test_a_patch_that_several_views_show_shares_its_attention() -> None:
    matches = patch_matches(*wall(ORIGIN, ORIGIN, ORIGIN))
    loss, _ = correspondence_loss(logits_for(matches, 40.0), matches)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-5)
    one_sided = logits_for(matches, 40.0).unflatten(3, (3, TOKENS))
    one_sided[:, :, :, 2] += 3
    assert float(correspondence_loss(one_sided.flatten(3), matches)[0]) > math.log(2) + 0.1


def test_only_matched_patches_are_taught_and_each_sample_counts_by_itself() -> None:
    matches = patch_matches(*wall(ORIGIN, MOVED)).repeat(3, 1, 1, 1)
    matches[1, 0] = -1
    matches[2] = -1
    logits = torch.randn(3, 2, 2 * TOKENS, 2 * TOKENS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, top1 = correspondence_loss(logits, matches)
    assert loss.shape == top1.shape == (3,)
    assert loss[2].item() == top1[2].item() == 0
    for b in range(2):
        alone, _ = correspondence_loss(logits[b : b + 1], matches[b : b + 1])
        torch.testing.assert_close(loss[b : b + 1], alone)
    loss.sum().backward()
    taught = (logits.grad.abs().amax((1, 3)) > 0).view(3, 2, TOKENS)
    assert torch.equal(taught[..., 1:], (matches >= 0).any(2))
    assert not taught[..., 0].any()


def test_top1_is_the_share_of_right_pairs() -> None:
    matches = patch_matches(*wall(ORIGIN, ORIGIN))
    logits = logits_for(matches, 5.0)
    logits[:, :, 1 : 1 + PATCHES // 2, TOKENS + PATCHES] = 9  # half of the first view looks at the last patch
    _, top1 = correspondence_loss(logits, matches)
    assert float(top1) == pytest.approx(0.75)
