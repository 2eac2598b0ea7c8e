"""Matches from attention."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from support.tiny import any_view_config, seeded_network
from torch import Tensor

from depth_anything_3.errors import CapabilityError
from depth_anything_3.model.attention_tap import tapped
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.refine.matches import attention_matches, matching_backbone, read_matches

GRID = (4, 6)
PATCHES = 24


def shifted(views: int = 2, *, by: int = 1) -> Tensor:
    """Attention of every patch to the one ``by`` columns further right in the next view, and back."""
    attention = torch.zeros(views, PATCHES, views, PATCHES)
    for i in range(views):
        for j in range(views):
            for patch in range(PATCHES):
                column = patch % GRID[1] + by * (j - i)
                if i != j and 0 <= column < GRID[1]:
                    attention[i, patch, j, patch + by * (j - i)] = 1 / (views - 1)
    return attention


@pytest.mark.parametrize("views", [2, 3])
def test_a_shift_is_found_in_both_directions(views: int) -> None:
    matches = attention_matches(shifted(views), GRID)
    step = (matches.views[:, 1] - matches.views[:, 0]).float()
    torch.testing.assert_close(matches.second - matches.first, torch.stack([14 * step, 0 * step], 1))
    pairs = views * (views - 1)
    expected = sum(4 * (6 - abs(i - j)) for i in range(views) for j in range(views) if i != j)
    assert len(matches.views) == expected
    assert len({tuple(pair) for pair in matches.views.tolist()}) == pairs
    torch.testing.assert_close(matches.weight, torch.ones(expected))
    assert matches.first[0].tolist() == [7.0, 7.0]


def test_attention_between_patches_is_a_place_between_them() -> None:
    attention = shifted()
    patch = 8
    attention[0, patch, 1] = 0
    attention[0, patch, 1, 9], attention[0, patch, 1, 10] = 0.75, 0.25
    matches = attention_matches(attention, GRID)
    (found,) = ((matches.views[:, 0] == 0) & (matches.first == torch.tensor([35.0, 21.0])).all(1)).nonzero()[0]
    torch.testing.assert_close(matches.second[found], torch.tensor([49.0 + 14 * 0.25, 21.0]))


def test_a_match_that_is_not_mutual_counts_little() -> None:
    attention = shifted()
    attention[1, 9, 0] = 0
    attention[1, 9, 0, 23] = 1.0  # patch 8 of view 0 looks at 9, which looks elsewhere
    matches = attention_matches(attention, GRID, min_weight=0.0)
    mine = (matches.views[:, 0] == 0) & (matches.first == torch.tensor([35.0, 21.0])).all(1)
    assert float(matches.weight[mine]) == 0
    kept = attention_matches(attention, GRID, min_weight=0.02)
    assert len(kept.weight) < len(matches.weight)
    assert (kept.weight >= 0.02).all()


def test_attention_that_goes_everywhere_says_nothing() -> None:
    matches = attention_matches(torch.full((2, PATCHES, 2, PATCHES), 1 / (2 * PATCHES)), GRID, min_weight=0.1)
    assert len(matches.weight) == 0


def test_reading_from_a_network_is_reading_its_attention() -> None:
    network = cast(DepthAnything3Net, seeded_network(any_view_config()))
    images = torch.rand(1, 3, 3, 14 * GRID[0], 14 * GRID[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), tapped(network.backbone.pretrained, [3]) as taps:
        network.encode(images, ref_view_strategy="first")
        found = read_matches(taps, 3, GRID, heads=1, min_weight=0.0)
        attention = taps[0].logits(3, slice(0, 1)).softmax(-1)[0, 0].unflatten(0, (3, -1)).unflatten(2, (3, -1))
    expected = attention_matches(attention[:, 1:, :, 1:], GRID, min_weight=0.0)
    assert torch.equal(found.second, expected.second)
    assert torch.equal(found.weight, expected.weight)
    assert len(found.weight) == 6 * PATCHES


def test_a_network_without_the_matching_blocks_is_refused() -> None:
    network = cast(DepthAnything3Net, seeded_network(any_view_config()))
    assert network.depth <= 7
    with pytest.raises(CapabilityError, match="matcher"):
        matching_backbone(network)
