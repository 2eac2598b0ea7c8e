"""Which network a checkpoint is for: from its ``config.json`` in all its historical forms, or from its tensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_anything_3.cfg import load_config
from depth_anything_3.errors import CheckpointError, ConfigError, UnknownNameError
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.zoo.weights import fitting_presets, preset_shapes, skeleton

NESTED = "da3nested-giant-large"
METRIC, MONO = "da3metric-large", "da3mono-large"

_OBJECT = "__object__"
_NETWORK = "DepthAnything3Net"
_NESTED_NETWORK = "NestedDepthAnything3Net"
_BY_BACKBONE = {"vitt": "da3-tiny", "vits": "da3-small", "vitb": "da3-base", "vitl": "da3-large", "vitg": "da3-giant"}
_BY_HEAD_WIDTH = {768: "da3-small", 1536: "da3-base", 2048: "da3-large", 3072: "da3-giant", 1024: METRIC}


@dataclass(frozen=True)
class Description:
    """What a ``config.json`` says.

    Attributes:
        model_name: of the preset, or the name that the configuration goes by.
        config: nested plain dictionaries, as :func:`depth_anything_3.cfg.create_object` reads them.
        explicit: whether the file spelled the architecture out, rather than naming a preset.
    """

    model_name: str
    config: dict[str, Any]
    explicit: bool


def config_of(preset: str) -> dict[str, Any]:
    """The configuration of a preset as plain dictionaries. Raises :class:`UnknownNameError` for unknown names."""
    config: dict[str, Any] = plain(load_config(MODEL_REGISTRY[preset]))
    return config


def plain(node: Any) -> Any:
    """A copy made of ordinary dictionaries and lists."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items()}
    return [plain(item) for item in node] if isinstance(node, list | tuple) else node


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: it cannot be read, is not JSON, or not an object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a JSON {type(raw).__name__}; expected an object with model_name or config")
    return raw


def describe(raw: Mapping[str, Any], *, source: str, where: str) -> Description | None:
    """Understand the content of a ``config.json``.

    The forms, in the order in which they are tried: the architecture under ``config``; the architecture at the top
    level; a preset's name as ``model_name`` or ``config.model_name``; parts of an architecture that give it away. An
    architecture that is spelled out is what gets built, whatever name stands beside it. None if nothing tells.

    Args:
        raw: the JSON object.
        source: the checkpoint's name or path, which may tell the mono model from the metric one.
        where: the file, for messages.

    Raises:
        CheckpointError: an unknown preset, or entries of the wrong type.
    """
    inner = raw.get("config")
    if inner is not None and not isinstance(inner, Mapping):
        raise CheckpointError(f"{where}: config is a {type(inner).__name__}; expected an object")
    name = raw.get("model_name") or (inner or {}).get("model_name")
    if name is not None and not isinstance(name, str):
        raise CheckpointError(f"{where}: model_name is {name!r}; expected the name of a preset")
    config = _architecture(inner or {}) or _architecture(_nodes_only(raw))
    if config is not None and (name is None or _can_be_built(config, name, where)):
        return Description(_label(name, config, source, where), config, explicit=True)
    if name is None:
        name = _guess(inner or raw, source)
    try:
        return None if name is None else Description(name, config_of(name), explicit=False)
    except UnknownNameError as error:
        raise CheckpointError(f"{where}: {error}") from error


def describe_tensors(shapes: Mapping[str, tuple[int, ...]], *, source: str) -> Description:
    """The preset that has exactly these tensors (network key -> shape).

    Raises:
        CheckpointError: there is none.
    """
    fitting = fitting_presets(shapes)
    if not fitting:
        raise CheckpointError(
            f"{source} has no configuration, and its {len(shapes)} tensors are those of no preset "
            f"({_nearest(shapes)}). Put a config.json beside it."
        )
    name = _mono_or_metric(source) if METRIC in fitting else fitting[0]
    return Description(name, config_of(name), explicit=False)


def _nearest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    def differing(preset: str) -> int:
        ours = preset_shapes(preset)
        return sum(ours.get(key) != shapes.get(key) for key in {*ours, *shapes})

    best = min(MODEL_REGISTRY, key=differing)
    return f"the nearest, {best}, differs in {differing(best)}"


def _nodes_only(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was flattened to the top level, without what else stands there (names, tags, versions)."""
    return {k: v for k, v in raw.items() if isinstance(v, Mapping) and k not in ("config", "parts")}


def _architecture(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """``node`` as a complete configuration, or None if it is not one."""
    config = {key: value for key, value in plain(node).items() if key not in ("model_name", "parts")}
    if _OBJECT in config:
        return config
    if _is_node(config.get("net")) and _is_node(config.get("head")):
        return {_OBJECT: _network_object(_NETWORK), **config}
    parts = [_architecture(config[key]) for key in ("anyview", "metric") if isinstance(config.get(key), dict)]
    if len(parts) == 2 and all(part is not None for part in parts):
        return {**config, _OBJECT: _network_object(_NESTED_NETWORK), "anyview": parts[0], "metric": parts[1]}
    return None


def nested_config(anyview: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a nested network made of two others."""
    return {_OBJECT: _network_object(_NESTED_NETWORK), "anyview": plain(anyview), "metric": plain(metric)}


def _network_object(name: str) -> dict[str, str]:
    return {"path": "depth_anything_3.model.da3", "name": name, "args": "as_params"}


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and _OBJECT in value


def _can_be_built(config: dict[str, Any], name: str, where: str) -> bool:
    """Whether the architecture can stand in for the preset that is named beside it.

    The published package never read the architecture in its files. Where one has arguments of another time, the
    preset is what its weights are for; loading is strict, so that a wrong guess cannot pass.
    """
    if name not in MODEL_REGISTRY or config == config_of(name):
        return True
    try:
        skeleton(config)
    except ConfigError as error:
        if error.argument == _OBJECT:  # a class that does not exist or is not ours: never guess around that
            raise
        warnings.warn(f"{where}: its config cannot be built ({error}); building the preset {name}", stacklevel=5)
        return False
    return True


def _label(name: str | None, config: dict[str, Any], source: str, where: str) -> str:
    """What to call an architecture that is spelled out: the name beside it, unless it is exactly another preset."""
    if name is None:
        return _guess(config, source) or "custom"
    same = [preset for preset in MODEL_REGISTRY if config_of(preset) == config]
    if not same or name in same:
        return name
    warnings.warn(f"{where} says {name}, but its config is that of {same[0]}, which is used", UserWarning, stacklevel=4)
    return same[0]


def _guess(config: Mapping[str, Any], source: str) -> str | None:
    """The preset that a configuration is, or derives from, judging by a few entries."""
    same = [preset for preset in MODEL_REGISTRY if config_of(preset) == config]
    if same and METRIC not in same:
        return same[0]
    if "anyview" in config:
        return NESTED
    head, backbone = _entry(config, "head"), _entry(config, "net").get("name")
    head_class, width = _entry(head, _OBJECT).get("name"), head.get("dim_in")
    if head_class == "DPT" or (backbone in (None, "vitl") and width == 1024):
        return _mono_or_metric(source)
    if backbone in _BY_BACKBONE:
        return _BY_BACKBONE[backbone]
    return _BY_HEAD_WIDTH.get(width) if isinstance(width, int) else None


def _entry(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}


def _mono_or_metric(source: str) -> str:
    """The two have the same tensors and the same configuration; only the name of the file or folder may tell."""
    words = " ".join(Path(source).parts[-2:]).lower()
    if "mono" in words and "metric" not in words:
        return MONO
    if "metric" not in words:
        warnings.warn(
            f"{source}: nothing says whether this is {METRIC} or {MONO}, which look the same; taking {METRIC}. "
            "Write model_name into its config.json.",
            UserWarning,
            stacklevel=5,
        )
    return METRIC
