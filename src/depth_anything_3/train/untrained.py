"""Parameters that get no gradient, and why. Every other one gets one: the tests hold this list against the truth."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.objectives import MULTI_VIEW, ObjectiveOptions
from depth_anything_3.train.separate_heads import SeparateHeads


@dataclass(frozen=True)
class Untrained:
    """Parameters without a gradient.

    Attributes:
        pattern: regular expression for the beginning of their names.
        reason: why.
        when: for which losses and which network.
    """

    pattern: str
    reason: str
    when: Callable[[ObjectiveOptions, DepthAnything3Net], bool]


def _no_rays(o: ObjectiveOptions, net: DepthAnything3Net) -> bool:
    unread = o.kind == "anyview" and not o.ray and not (o.point and o.ray_target == "rays")
    return unread or o.kind == "gaussians"


def _two_heads(o: ObjectiveOptions, net: DepthAnything3Net) -> bool:
    return isinstance(net.head, SeparateHeads)


UNTRAINED: tuple[Untrained, ...] = (
    # The LayerNorm (index 2) is shared with the last level.
    Untrained(
        r"head\.(ray_head\.)?scratch\.output_conv(1_aux\.[012]|2_aux\.[012]\.(?!2\.))",
        "of the four auxiliary levels only the last is read; the others are there so that checkpoints fit",
        lambda o, net: True,
    ),
    Untrained(r"head\.(ray_head\.)?scratch\.\w+_aux\.", "neither rays nor points have a loss", _no_rays),
    Untrained(r"head\.scratch\.\w+_aux\.", "of two separate heads, this one is read for depth", _two_heads),
    Untrained(
        r"head\.ray_head\.scratch\.(refinenet\d|output_conv\d)\.",
        "of two separate heads, this one is read for rays",
        _two_heads,
    ),
    Untrained(
        r"head\.scratch\.sky_output",
        "sky has no loss",
        lambda o, net: o.kind in MULTI_VIEW or not (o.sky or o.object),
    ),
    Untrained(r"cam_dec\.", "cameras have no loss", lambda o, net: o.kind != "anyview" or not o.camera),
    Untrained(r"cam_enc\.", "no poses are given", lambda o, net: o.kind not in MULTI_VIEW or not o.pose_conditioning),
    Untrained(
        r"backbone\.pretrained\.camera_token",
        "poses are given at every step, and their tokens take its place",
        lambda o, net: o.kind in MULTI_VIEW and o.pose_conditioning >= 1,
    ),
    Untrained(
        r"backbone\.pretrained\.cls_token",
        "the camera token takes its place before any block reads it",
        lambda o, net: net.backbone.pretrained.alt_start == 0,
    ),
    Untrained(
        r"gs_head\.", "Gaussians are trained afterwards, by recipes of their own", lambda o, net: o.kind != "gaussians"
    ),
)
"""All parameters without a gradient."""


def untrained(network: DepthAnything3Net, options: ObjectiveOptions) -> dict[str, str]:
    """Names of the network's parameters that get no gradient from some losses, and why."""
    rules = [rule for rule in UNTRAINED if rule.when(options, network)]
    return {
        name: rule.reason for name, _ in network.named_parameters() for rule in rules if re.match(rule.pattern, name)
    }


def trained_parameters(network: DepthAnything3Net, config: TrainConfig) -> dict[str, nn.Parameter]:
    """The parameters that a run changes, by name; not of a network that low-rank changes were added to."""
    idle = [set(untrained(network, config.objective_of(phase))) for phase in config.phases]
    left_out = set.intersection(*idle)
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if name not in left_out and config.init.trains(name)
    }
