"""The ablations of the paper's tables 6 and 7: any recipe of the any-view model with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from depth_anything_3.cfg import load_config
from depth_anything_3.model.dinov2.dinov2 import SIZES
from depth_anything_3.registry import MODEL_REGISTRY
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


def _extra_blocks(config: TrainConfig) -> TrainConfig:
    """All blocks of the backbone see one view each; half as many behind them see all views at every second block."""
    network = load_config(MODEL_REGISTRY[config.preset], argv=config.model)
    own = SIZES[network.net.name].depth
    between = own // 12 * 2  # an even number, so that the outputs come from blocks across views
    outputs = [own - 1 + between * i for i in range(4)]
    changed = _network(config, f"net.extra_blocks={3 * between}", f"net.alt_start={own}", f"net.out_layers={outputs}")
    return _losses(changed, correspondence_blocks=(own + 1, own + 3))


ABLATIONS: dict[str, Variant] = {
    # Table 6: what is predicted.
    "depth_camera": lambda c: _losses(c, ray=0.0, point=0.0),
    "depth_points": lambda c: _losses(c, ray_target="points", point=0.0),
    "depth_ray": lambda c: _losses(c, camera=0.0),
    "depth_ray_camera": lambda c: _losses(c, camera=1.0),
    # Table 7: how.
    "extra_blocks": _extra_blocks,
    "full_alternation": lambda c: _network(c, "net.alt_start=0"),
    "separate_heads": lambda c: _network(
        c, "head.__object__.path=depth_anything_3.train.separate_heads", "head.__object__.name=SeparateHeads"
    ),
    "no_teacher": lambda c: replace(c, labels=None),
    "no_conditioning": lambda c: _losses(c, pose_conditioning=0.0),
}
"""Name of a variant -> what it makes of a configuration."""
