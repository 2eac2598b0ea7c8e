"""Low-rank adaptation (Hu et al. 2021): every linear layer of the transformer learns W + (alpha / r) B A and nothing
else does. The change folds into W at export, so that files look as always.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ALPHA = 16.0
_ADAPTED = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.w12", "mlp.w3")


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight; zero at first.

    Args:
        outputs, inputs: shape of the weight.
        rank: of the change.
        generator: fills the first matrix.
    """

    def __init__(self, outputs: int, inputs: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = _ALPHA / rank

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        return weight + self.scale * (self.up @ self.down)


def adapt(network: nn.Module, rank: int, seed: int) -> None:
    """Freeze a network and let the linear layers of its transformer blocks change by a low rank.

    Args:
        network: with a ``backbone``.
        rank: of the change of every layer.
        seed: of the first matrices.
    """
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for _, module in adapted_layers(network):
        change = LowRank(module.out_features, module.in_features, rank, generator)
        parametrize.register_parametrization(module, "weight", change.to(module.weight.device))


def adapted_layers(network: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The layers that :func:`adapt` changes, with their names in the ``backbone``."""
    layers = network.get_submodule("backbone").named_modules()
    return [(name, m) for name, m in layers if isinstance(m, nn.Linear) and name.endswith(_ADAPTED)]


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Make the changes part of the weights, under their usual names."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
