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
    """Running normalisation of the decoder's input, a forward pre-hook of it.

    Statistics follow the training batches slowly and are used as constants, in training as in evaluation.

    Attributes:
        waits: the statistics stay until :meth:`follow` is called, so that all parts of a step's batch, in whichever
            process, see the same. Otherwise every batch is followed before it is normalised.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, channels: int, *, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum, self.waits = momentum, False
        self._noted: list[Tensor] = []
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, token: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        if self.training and torch.is_grad_enabled():
            tokens = token.detach().float().flatten(0, -2)
            self._noted.append(torch.stack([tokens.mean(0), tokens.var(0, correction=0)]))
            if not self.waits:
                self.follow()
        return (token - self.mean) / self.scale()

    def scale(self) -> Float[Tensor, " D"]:
        """Standard deviation by which tokens are divided."""
        return (self.variance + _EPS).sqrt()

    @torch.no_grad()
    def start_at(self, tokens: Float[Tensor, "n D"], *, seen: int | None = None) -> None:
        """Take the statistics of some tokens.

        Args:
            tokens: of some batch.
            seen: count them as so many batches; None follows slowly from here on.
        """
        self.mean.copy_(tokens.mean(0))
        self.variance.copy_(tokens.var(0, correction=0))
        self.seen.fill_(round(1 / self.momentum) if seen is None else seen)

    @torch.no_grad()
    def move(self, before: Float[Tensor, "n D"], after: Float[Tensor, "n D"]) -> None:
        """Move by the difference between the tokens that two networks make of the same batches."""
        ratio = (after.var(0, correction=0) + _EPS) / (before.var(0, correction=0) + _EPS)
        self.mean.copy_(after.mean(0) + (self.mean - before.mean(0)) * ratio.sqrt())
        self.variance.copy_((self.variance + _EPS) * ratio - _EPS)

    @torch.no_grad()
    def follow(self, *, forget: bool = False) -> None:
        """Move towards the batches normalised since the last call, those of the other processes included.

        Args:
            forget: do not move.
        """
        noted, self._noted = self._noted, []
        if forget or not noted:
            return
        self.seen += 1
        # The first batches count as a plain average.
        rate = max(self.momentum, 1 / int(self.seen))
        mean, variance = self._joint(torch.stack(noted))
        self.mean.lerp_(mean, rate)
        self.variance.lerp_(variance, rate)

    def _joint(self, parts: Float[Tensor, "parts 2 D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
        """Mean and variance of equally large parts together."""
        if torch.distributed.is_initialized():
            everywhere = [torch.empty_like(parts) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(everywhere, parts)
            parts = torch.cat(everywhere)
        means, variances = parts.unbind(1)
        mean = means.mean(0)
        # Not from mean squares: where a channel hardly varies, rounding would be all that is left.
        return mean, variances.mean(0) + (means - mean).square().mean(0)


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
