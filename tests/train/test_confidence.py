"""Confidence: a weight above the usual errors gives one that ranks them; training it alone leaves all else as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import any_view
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.train.confidence import CONFIDENCE_ROWS
from depth_anything_3.train.config import InitOptions, OptimiserOptions, TrainConfig
from depth_anything_3.train.losses import depth_loss, ray_loss
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer, new_network
from depth_anything_3.train.untrained import trained_parameters

USUAL_ERRORS = {"depth": 0.3, "ray": 1.2}
"""Of the bundled network: logarithms of depth, and sums over the six channels of rays."""


def learned(weight: float, which: str) -> tuple[Tensor, Tensor]:
    """Errors, and the confidences that gradient descent ends at where half of the features tell the error."""
    g = torch.Generator().manual_seed(0)
    hint = torch.rand(4000, generator=g)
    error = USUAL_ERRORS[which] * (0.2 + 1.6 * hint) * (0.5 + torch.rand(4000, generator=g))
    w = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([w], lr=0.05)
    for _ in range(400):
        conf = (1 + (w[0] * (hint - 0.5) + w[1]).exp())[None, None, None]
        if which == "depth":
            one = torch.ones_like(conf)
            loss = depth_loss(one + error, one, one > 0, conf, conf_weight=weight)
        else:
            ray = torch.zeros(1, 1, 1, 4000, 6)
            ray[..., 0] = error
            loss = ray_loss(ray, torch.zeros_like(ray), conf, conf_weight=weight)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    return error, conf.detach()[0, 0, 0]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize("which", ["depth", "ray"])
def test_the_weights_of_the_recipe_give_a_confidence_that_ranks_errors(which: str) -> None:
    o = RECIPES["da3_tiny"]().objective
    weight = o.conf_weight if which == "depth" else o.ray_conf_weight
    assert weight is not None and weight > 3 * USUAL_ERRORS[which]
    error, conf = learned(weight, which)
    assert float(conf.median()) == pytest.approx(weight / float(error.median()), rel=0.3)
    assert rank_correlation(conf, -error) > 0.7
    _, collapsed = learned(0.2, which)  # the weight that had been used
    assert float(collapsed.median()) < 1.1


def confidence_alone(steps: int = 30, **changes: Any) -> TrainConfig:
    config = any_view(steps)
    losses = dict.fromkeys(("gradient", "point", "camera", "correspondence", "stream"), 0.0)
    objective = replace(config.objective, **losses, camera_norm=False, conf_weight=1.0, ray_conf_weight=4.0)
    return replace(
        config,
        objective=objective,
        phases=(replace(config.phases[0], learning_rate=0.02),),
        init=InitOptions(confidence=True),
        optimiser=OptimiserOptions(weight_decay=0.1, ema=0.5),
        **changes,
    )


def test_the_confidence_alone(tmp_path: Path) -> None:
    trainer = Trainer(confidence_alone(), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.objective.net.named_parameters()}
    trainer.run()
    after = dict(trainer.trained_network().named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[0] + "." for name in changed} == set(CONFIDENCE_ROWS)
    for name in changed:
        row = next(row for layer, row in CONFIDENCE_ROWS.items() if name.startswith(layer))
        others = [i for i in range(len(before[name])) if i != row]
        assert torch.equal(before[name][others], after[name][others])
        assert not before[name][row].any()  # it begins anew, as a confidence of 2
    with torch.no_grad():
        encoded = trainer.trained_network().encode(trainer.batch(100).images, rays=True)
    assert encoded.depth_conf.min() > 1 and encoded.depth_conf.std() > 1e-3


def test_the_recipe_trains_nothing_else() -> None:
    config = RECIPES["da3_tiny_confidence"]()
    with torch.device("meta"):
        network = new_network(config)
    assert len(trained_parameters(network, config)) == 2 * len(CONFIDENCE_ROWS)
    o = config.objective
    assert [o.gradient, o.point, o.camera, o.correspondence, o.stream] == [0] * 5 and not o.camera_norm


def test_rows_are_kept_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="parallel"):
        Trainer(confidence_alone(parallel="fsdp"), tmp_path)
