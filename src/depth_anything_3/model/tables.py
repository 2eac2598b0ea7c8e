"""Constant tables (rotary angles, position grids): computed once per size, device and dtype."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_KEPT = 64


def cached_table(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Remember the results of a function of hashable arguments (sizes, device, dtype).

    Built outside inference mode, because a table made inside could not take part in training later. While a graph is
    being traced nothing is cached: the tensors of a trace are not real.
    """
    cached = functools.lru_cache(maxsize=_KEPT)(build)

    @functools.wraps(build)
    def table(*args: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return build(*args)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            return cached(*args)

    return table
