"""Matchers by name: what finds the same places in several views.

A matcher gives keypoints of every view. Those with descriptors are matched by them, guided by cameras and depth where
these are known; matches that are not a matter of descriptors it gives itself, per pair of views.

Letters: N views, k keypoints of a view, m matches of a pair, P patches of a view, C channels of a descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from depth_anything_3.errors import CapabilityError
from depth_anything_3.refine.features import Features, PairMatches, detect_all
from depth_anything_3.registry import Registry

PatchSource = Callable[[], Int[np.ndarray, "N N P"]]
"""Runs the network for its best patches, see :func:`~depth_anything_3.refine.matches.best_patches`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkPatches:
    """What the network's own attention says of N views.

    Attributes:
        best: gives, per view, other view and patch, the patch there that gets the most attention; takes a pass of the
            network.
        grid: rows and columns of patches.
        pictures: 3x3 matrices, from pixels of the network's images to pixels of the pictures.
    """

    best: PatchSource
    grid: tuple[int, int]
    pictures: Float[np.ndarray, "n 3 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewsToMatch:
    """What matchers look at.

    Attributes:
        images: RGB.
        masks: where keypoints may lie; None for everywhere.
        most: keypoints of a view that are worth their time.
        patches: of the network; None where none ran that has any.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    masks: Bool[np.ndarray, "n h w"] | None = None
    most: int = 4096
    patches: NetworkPatches | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """What a matcher gives.

    Attributes:
        features: of every view; descriptors have no channels where there are none to compare.
        pairs: matches that do not come from descriptors.
    """

    features: Sequence[Features]
    pairs: PairMatches = field(default_factory=dict)


class Matcher(Protocol):
    """Finds keypoints, and matches where descriptors are not to tell them."""

    def __call__(self, views: ViewsToMatch) -> Matched:
        """Keypoints of all views, in their order."""


def _known_matchers() -> Registry[Matcher]:
    registry: Registry[Matcher] = Registry("matcher")
    registry.register_lazy("sift", f"{__name__}:match_sift")
    registry.register_lazy("attention", f"{__package__}.attention_matcher:match_attention")
    return registry


MATCHERS: Registry[Matcher] = _known_matchers()
"""Matchers by name. Other packages add to it through the entry-point group ``depth_anything_3.matcher``."""


def matcher_names(matcher: str) -> list[str]:
    """The names in ``first+second+...``; raises :class:`UnknownNameError`, which lists the known ones."""
    names = matcher.split("+")
    for name in names:
        MATCHERS[name]
    return names


def match_sift(views: ViewsToMatch) -> Matched:
    """SIFT keypoints with descriptors, see :func:`~depth_anything_3.refine.features.detect_sift`."""
    masks = None if views.masks is None else list(views.masks)
    return Matched(features=detect_all(list(views.images), most=views.most, masks=masks))


def needed_patches(views: ViewsToMatch) -> NetworkPatches:
    """Patches of the network; raises :class:`CapabilityError` where there are none."""
    if views.patches is None:
        raise CapabilityError("matcher", "'attention'", "'sift': no network with attention across views has seen these")
    return views.patches


def joined(one: Matched, other: Matched) -> Matched:
    """Keypoints of both, first those of ``one``; descriptors of one are never alike those of the other."""
    features = [_side_by_side(a, b) for a, b in zip(one.features, other.features, strict=True)]
    pairs: dict[tuple[int, int], Int[np.ndarray, "m 2"]] = dict(one.pairs)
    for (i, j), indices in other.pairs.items():
        moved = indices + np.array([len(one.features[i].xy), len(one.features[j].xy)])
        pairs[i, j] = np.concatenate([pairs[i, j], moved]) if (i, j) in pairs else moved
    return Matched(features=features, pairs=pairs)


def of_views(pairs: PairMatches, views: Sequence[int]) -> Mapping[tuple[int, int], Int[np.ndarray, "m 2"]]:
    """The pairs that one of some views belongs to."""
    return {pair: indices for pair, indices in pairs.items() if pair[0] in views or pair[1] in views}


def _side_by_side(one: Features, other: Features) -> Features:
    channels = one.descriptors.shape[1], other.descriptors.shape[1]
    descriptors = np.zeros((len(one.xy) + len(other.xy), sum(channels)), np.float32)
    descriptors[: len(one.xy), : channels[0]] = one.descriptors
    descriptors[len(one.xy) :, channels[0] :] = other.descriptors
    weight = np.concatenate([f.weights(np.arange(len(f.xy))) for f in (one, other)])
    return Features(xy=np.concatenate([one.xy, other.xy]), descriptors=descriptors, weight=weight)
