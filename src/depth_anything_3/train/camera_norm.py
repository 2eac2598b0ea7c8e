"""Keeping the camera decoder alive while it learns.

The decoder reads the camera token as it comes, unnormalised, through ReLU layers: as the residual stream grows, almost
all units die within minutes. During training the token is therefore shifted and scaled per channel by running
statistics; a fixed shift and scale folds exactly into the decoder's first layer, so that names and architecture stay.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.cam_dec import CameraDec

_EPS = 1e-2  # a token that hardly varies yet must not be blown up: its gradient would drown every other


class FoldableNorm(nn.Module):
    """Running normalisation of the decoder's input; attach it with :func:`attach`.

    Statistics follow the training batches slowly and are used as constants, in training as in evaluation.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, channels: int, *, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, token: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        if self.training and torch.is_grad_enabled():
            self._follow(token.detach().float().flatten(0, -2))
        return (token - self.mean) / self.scale()

    def scale(self) -> Float[Tensor, " D"]:
        """Standard deviation by which tokens are divided."""
        return (self.variance + _EPS).sqrt()

    @torch.no_grad()
    def start_at(self, tokens: Float[Tensor, "n D"]) -> None:
        """Take the statistics of some tokens and follow slowly from there."""
        self.mean.copy_(tokens.mean(0))
        self.variance.copy_(tokens.var(0, correction=0))
        self.seen.fill_(round(1 / self.momentum))

    @torch.no_grad()
    def _follow(self, tokens: Float[Tensor, "n D"]) -> None:
        self.seen += 1
        # The first batches count as a plain average.
        rate = max(self.momentum, 1 / int(self.seen))
        mean, variance = tokens.mean(0), tokens.var(0, correction=0)
        if torch.distributed.is_initialized():
            both = torch.stack([mean, variance + mean.square()])
            torch.distributed.all_reduce(both)  # a plain sum: not every backend has averages
            both /= torch.distributed.get_world_size()
            mean, variance = both[0], both[1] - both[0].square()
        self.mean.lerp_(mean, rate)
        self.variance.lerp_(variance, rate)


@torch.no_grad()
def fold(decoder: CameraDec, norm: FoldableNorm) -> None:
    """Change a decoder that reads the normalised token into one that reads the raw token; its outputs stay."""
    first = _first_layer(decoder)
    first.weight.div_(norm.scale())
    first.bias.sub_(first.weight @ norm.mean)


@torch.no_grad()
def unfold(decoder: CameraDec, norm: FoldableNorm) -> None:
    """The inverse of :func:`fold`."""
    first = _first_layer(decoder)
    first.bias.add_(first.weight @ norm.mean)
    first.weight.mul_(norm.scale())


def _first_layer(decoder: CameraDec) -> nn.Linear:
    first = decoder.backbone[0]
    assert isinstance(first, nn.Linear)
    return first
