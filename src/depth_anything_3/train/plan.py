"""What a run would take, without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.lora import adapted_layers
from depth_anything_3.train.untrained import trained_parameters
from depth_anything_3.types.options import PATCH_SIZE

_KEPT_PER_BLOCK = 34  # floats per token and channel that one block keeps for the backward pass
_KEPT_IN_HEAD = 1.6  # of all that, the share that the dense head adds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Size of a training run.

    Attributes:
        parameters: of the network.
        trained: of them, those that are trained.
        steps: of all phases.
        tokens_per_step: most patches that one process sees at a step.
        state_bytes: weights, gradients, optimiser and average of one process that keeps all of it.
        activation_bytes: estimate of what the backward pass keeps, of one part of a step.
    """

    parameters: int
    trained: int
    steps: int
    tokens_per_step: int
    state_bytes: int
    activation_bytes: int


def plan(config: TrainConfig) -> Plan:
    """The size of a run; the network is built without memory."""
    with torch.device("meta"):
        network = create_object(load_config(MODEL_REGISTRY[config.preset], argv=config.model))
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in trained_parameters(network, config).values())
    if config.init.lora_rank:
        trained = sum(config.init.lora_rank * (m.in_features + m.out_features) for _, m in adapted_layers(network))
    tokens = max(_tokens(phase.data.sizes, phase.data.views, phase.data.tokens) for phase in config.phases)
    backbone = network.backbone.pretrained
    width, depth = backbone.embed_dim, backbone.depth
    per_token = width * (depth * (2 if config.activation_checkpointing else _KEPT_PER_BLOCK))
    bytes_each = 2 if config.precision == "bfloat16" else 4
    copies = 4 + (1 if config.optimiser.ema else 0)
    return Plan(
        parameters=total,
        trained=trained,
        steps=config.steps,
        tokens_per_step=tokens * config.accumulation,
        state_bytes=4 * (total + (copies - 1) * trained),
        activation_bytes=int(tokens * per_token * bytes_each * _KEPT_IN_HEAD),
    )


def _tokens(sizes: tuple[tuple[int, int], ...], views: tuple[int, int], budget: int) -> int:
    """Most tokens of one part: the budget, or one sample where a single one exceeds it."""
    largest = max(h * w for h, w in sizes) // PATCH_SIZE**2
    return max(budget, largest * views[1])
