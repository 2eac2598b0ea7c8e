"""Training the confidence alone: the rows of the last layers that give it, and nothing else of a network.

The loss c e - lambda log c has its optimum at c = lambda / e, but the network says c = 1 + exp(x). Where lambda is
below the errors that are common, the best c is the floor: x falls until exp(x), and with it the gradient, is nothing,
and the confidence ranks no pixel above another. ``conf_weight`` and ``ray_conf_weight`` must lie above the errors of
most pixels and rays; a confidence that has collapsed is begun anew here, with depth and rays left as they are to the
last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from depth_anything_3.model.dualdpt import RAY_CHANNELS

CONFIDENCE_ROWS = {"head.scratch.output_conv2.2.": 1, "head.scratch.output_conv2_aux.3.5.": RAY_CHANNELS}
"""Last layers of depth and rays -> the row (output channel) that gives the confidence."""


def gives_confidence(name: str) -> bool:
    """Whether a parameter of this name has a row for the confidence."""
    return name.startswith(tuple(CONFIDENCE_ROWS))


@torch.no_grad()
def begin_confidence(network: nn.Module) -> None:
    """Let only the rows of the confidence be trained, from zero: a confidence of 2 everywhere.

    The gradient of the other rows of these layers is removed; give the optimiser no weight decay.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(gives_confidence(name))
        for layer, row in CONFIDENCE_ROWS.items():
            if name.startswith(layer):
                parameter[row] = 0.0
                parameter.register_hook(lambda gradient, row=row: _only_row(gradient, row))


def _only_row(gradient: Tensor, row: int) -> Tensor:
    masked = torch.zeros_like(gradient)
    masked[row] = gradient[row]
    return masked
