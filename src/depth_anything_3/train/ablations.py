"""The ablations of the paper's tables 6 and 7: any recipe of the any-view model with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.objectives import ObjectiveOptions

Variant = Callable[[TrainConfig], TrainConfig]


def _losses(config: TrainConfig, **changes: object) -> TrainConfig:
    def changed(options: ObjectiveOptions) -> ObjectiveOptions:
        return replace(options, **changes)  # type: ignore[arg-type]

    phases = tuple(replace(p, objective=p.objective and changed(p.objective)) for p in config.phases)
    return replace(config, objective=changed(config.objective), phases=phases)


def _network(config: TrainConfig, *changes: str) -> TrainConfig:
    return replace(config, model=(*config.model, *changes))


ABLATIONS: dict[str, Variant] = {
    # Table 6: what is predicted.
    "depth_camera": lambda c: _losses(c, ray=0.0, point=0.0),
    "depth_points": lambda c: _losses(c, ray_target="points", point=0.0),
    "depth_ray": lambda c: _losses(c, camera=0.0),
    "depth_ray_camera": lambda c: _losses(c, camera=1.0),
    # Table 7: how.
    "extra_blocks": lambda c: _losses(
        _network(c, "net.extra_blocks=6", "net.alt_start=12", "net.out_layers=[11, 13, 15, 17]"),
        correspondence_blocks=(13, 15),
    ),
    "full_alternation": lambda c: _network(c, "net.alt_start=0"),
    "separate_heads": lambda c: _network(
        c, "head.__object__.path=depth_anything_3.train.separate_heads", "head.__object__.name=SeparateHeads"
    ),
    "no_teacher": lambda c: replace(c, labels=None),
    "no_conditioning": lambda c: _losses(c, pose_conditioning=0.0),
}
"""Name of a variant -> what it makes of a configuration."""
