"""Learning rates: a warm-up and a cosine per phase, each phase decaying to almost zero."""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, final: float = 0.0) -> float:
    """Rate at a step of a phase: linear from 0 to ``peak`` over ``warmup`` steps, then half a cosine to ``final``.

    Args:
        step: from 0; beyond the end the rate stays ``final``.
        steps: of the phase.
        peak: highest rate.
        warmup: steps of the linear part.
        final: rate at the end.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
