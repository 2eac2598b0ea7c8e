"""Checkpoints: finding them, building their networks, saving networks as checkpoints.

A checkpoint is a ``config.json`` and a ``model.safetensors`` (or several shards), in a folder or on the hub. Nothing
here ever opens a pickle file, and a network is loaded completely or not at all.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import CheckpointError, InputError
from depth_anything_3.types.confidence import ConfidenceMaps
from depth_anything_3.types.options import CAMERA_SIGMA, PATCH_SIZE, PROCESS_RES
from depth_anything_3.zoo.bundled import bundled_folder
from depth_anything_3.zoo.cards import CARDS, ModelCard, describe_licence, find_card, warn_on_load
from depth_anything_3.zoo.hub import CONFIG, HUB_ID, INDEX, PICKLES, WEIGHTS, HubFile, fetch, shard_names
from depth_anything_3.zoo.identify import (
    NESTED,
    Description,
    config_of,
    describe,
    describe_tensors,
    nested_config,
    plain,
    read_json,
)
from depth_anything_3.zoo.weights import (
    WeightFile,
    fingerprint,
    load_strictly,
    metadata_of,
    save_weights,
    shapes_in,
    skeleton,
    stored_shapes,
    weight_file,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Checkpoint", "build_network", "config_of", "describe_licence", "resolve", "save", "warn_on_load"]

PARTS = {"da3": "anyview", "da3_metric": "metric"}
"""Part of a nested network, as its keys begin -> its entry in the configuration."""

BASE = "base"
"""The part that a checkpoint with nothing but a further head of its own takes everything else from; a preset's name
says what the whole is."""

_PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FILE_ENDINGS = (".safetensors", *_PICKLE_ENDINGS)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that is needed to build a network and fill it.

    Attributes:
        source: the hub id or path it was found under.
        model_name: preset, or the name that the checkpoint's configuration goes by.
        config: as :func:`depth_anything_3.cfg.create_object` reads it.
        weights: safetensors files that together hold every tensor.
        card: what is known about it, if it is a published one.
        revision: full commit hash, if it came from the hub.
        process_res: longest side of the processed image, in pixels, that the network was made for; from the entry
            ``process_res`` of its ``config.json``, else that of all published ones.
        camera_sigma: how far off its cameras are, see :data:`~depth_anything_3.types.options.CAMERA_SIGMA`; from the
            entry of that name.
        metric_res: longest side in pixels at which its metres are right, where they change with the size of the
            picture; from the entry of that name.
        confidence_maps: what its confidence is worth; from the entry of that name; None where it was not measured.
    """

    source: str
    model_name: str
    config: dict[str, Any]
    weights: tuple[WeightFile, ...]
    card: ModelCard | None = None
    revision: str | None = None
    process_res: int = PROCESS_RES
    camera_sigma: tuple[float, float] = CAMERA_SIGMA
    metric_res: int | None = None
    confidence_maps: ConfidenceMaps | None = None

    @property
    def origin(self) -> dict[str, str | None]:
        """Where the weights come from, for files that others may read: ``source``, ``revision`` and, where known,
        ``licence``. Of what is on this disk the name alone, and in ``weights`` its
        :func:`~depth_anything_3.zoo.weights.fingerprint`: the rest of the path is nobody's business, and differs
        between machines."""
        found: dict[str, str | None] = {"source": self.source, "revision": self.revision}
        path = Path(self.source)
        if path.exists():
            found |= {"source": path.resolve().name, "weights": fingerprint(self.weights)}
        return found if self.card is None else {**found, "licence": self.card.licence}


@dataclass(frozen=True)
class _Hub:
    """The hub arguments of :func:`resolve`, and whether a part of another checkpoint is looked for."""

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = None
    on_file: Callable[[HubFile], None] | None = None
    for_part: bool = False


def resolve(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
    on_file: Callable[[HubFile], None] | None = None,
) -> Checkpoint:
    """Find a checkpoint, downloading it if need be, and find out which network it is for. No tensor is read yet.

    Args:
        source: a folder with ``config.json`` and safetensors files; one ``.safetensors`` file, whose configuration
            is taken from a ``config.json`` beside it, from its own metadata, or inferred from its tensors; or a hub
            id; ``bundled`` for the network that comes with the package. What exists on disk wins over a hub id of the
            same spelling.
        revision, cache_dir, force_download, local_files_only, token, on_file: for hub ids, see
            :func:`depth_anything_3.zoo.hub.fetch`; without effect on local files.

    Raises:
        InputError: a path that does not exist, or neither a path nor a hub id.
        HubError: the hub does not have it, or cannot be reached.
        CheckpointError: no safetensors weights, a damaged file, or a configuration that cannot be understood.
    """
    hub = _Hub(revision, cache_dir, force_download, local_files_only, token, on_file)
    path = Path(source).expanduser()
    if isinstance(source, str) and not path.exists():
        path = bundled_folder(source) or path
    if path.exists():
        if revision is not None:
            warnings.warn(f"revision {revision!r} has no effect: {path} is on this disk", UserWarning, stacklevel=2)
        return _from_folder(path, hub) if path.is_dir() else _from_file(path, hub)
    if isinstance(source, str) and HUB_ID.fullmatch(source) and path.suffix.lower() not in _FILE_ENDINGS:
        return _from_hub(source, hub)
    raise _not_found(source)


def build_network(checkpoint: Checkpoint, *, dtype: torch.dtype | None = None) -> nn.Module:
    """Build a checkpoint's network on the CPU, in evaluation mode, and load it completely.

    Args:
        checkpoint: as :func:`resolve` returns it.
        dtype: floating-point type of the weights; float32 if None, whatever the files hold.

    Raises:
        ConfigError: the configuration cannot be built.
        CheckpointError: the weights do not fit it, or a file is damaged. Nothing is ever loaded in part.
    """
    network = skeleton(checkpoint.config)
    load_strictly(network, checkpoint.weights, dtype=dtype)
    return network.eval()


def save(
    network: nn.Module,
    folder: str | os.PathLike[str],
    *,
    model_name: str,
    config: Mapping[str, Any],
    process_res: int = PROCESS_RES,
    camera_sigma: tuple[float, float] = CAMERA_SIGMA,
    metric_res: int | None = None,
    confidence_maps: ConfidenceMaps | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network as a checkpoint that :func:`resolve` and the published package can read, and return the folder.

    Weights are written bit for bit as they are, in their own floating-point type.

    Args:
        network: whose weights are written.
        folder: is made if it does not exist; other files in it are left alone.
        model_name: what to call it: the preset it has the architecture of, or any name.
        config: that builds this architecture.
        process_res, camera_sigma, metric_res, confidence_maps: as in :class:`Checkpoint`.
        overwrite: replace a checkpoint that is in the folder already.

    Raises:
        InputError: the folder holds a checkpoint, or ``config`` is not plain data.
        CheckpointError: ``config`` builds another network.
    """
    target = Path(folder).expanduser()
    there = [name for name in (CONFIG, WEIGHTS, INDEX) if (target / name).exists()]
    if there and not overwrite:
        raise InputError("folder", f"{target}, which holds {', '.join(there)}", "another folder, or overwrite=True")
    description: dict[str, Any] = {"model_name": model_name, "config": plain(config)}
    if process_res != PROCESS_RES:
        description["process_res"] = process_res
    if camera_sigma != CAMERA_SIGMA:
        description["camera_sigma"] = list(camera_sigma)
    if metric_res is not None:
        description["metric_res"] = metric_res
    if confidence_maps is not None:
        description["confidence_maps"] = confidence_maps.as_dict()
    text = _to_json(description)
    if stored_shapes(skeleton(config)) != stored_shapes(network):
        raise CheckpointError("config builds a network with other tensors than the one to save; nothing was written")
    save_weights(network, target / WEIGHTS)
    with atomic_path(target / CONFIG) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError("config", str(error), "plain data: numbers, text, lists, dictionaries") from error


def _from_hub(hub_id: str, hub: _Hub) -> Checkpoint:
    files = fetch(
        hub_id,
        revision=hub.revision,
        cache_dir=hub.cache_dir,
        force_download=hub.force_download,
        local_files_only=hub.local_files_only,
        token=hub.token,
        on_file=hub.on_file,
    )
    raw = read_json(files.config) if files.config else {}
    found = _Found(hub_id, raw, files.weights, f"{hub_id}/{CONFIG}", card=find_card(hub_id))
    return replace(_assemble(found, hub), revision=files.commit)


def _from_folder(folder: Path, hub: _Hub) -> Checkpoint:
    config = folder / CONFIG
    raw = read_json(config) if config.is_file() else {}
    weights = _weights_in(folder, optional=bool(_parts_of(raw)))
    return _assemble(_Found(str(folder), raw, weights, str(config), folder=folder), hub)


def _from_file(path: Path, hub: _Hub) -> Checkpoint:
    if path.suffix.lower() in _PICKLE_ENDINGS:
        raise CheckpointError(f"{path} looks like a pickle, which can run any code; only safetensors files are loaded")
    if path.suffix.lower() != ".safetensors":
        raise InputError("source", str(path), "a folder, a .safetensors file or a hub id")
    beside = path.with_name(CONFIG)
    raw = read_json(beside) if beside.is_file() else _config_in_metadata(path)
    where = beside if beside.is_file() else path
    return _assemble(_Found(str(path), raw, (path,), str(where), folder=path.parent), hub)


def _config_in_metadata(path: Path) -> dict[str, Any]:
    metadata = metadata_of(path)
    raw: dict[str, Any] = {key: metadata[key] for key in ("model_name",) if key in metadata}
    if "config" in metadata:
        try:
            raw["config"] = json.loads(metadata["config"])
        except ValueError as error:
            raise CheckpointError(f"{path}: its metadata entry config is not JSON: {error}") from error
    return raw


def _weights_in(folder: Path, *, optional: bool) -> tuple[Path, ...]:
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        shards = tuple(folder / name for name in shard_names(folder / INDEX))
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which its {INDEX} lists")
        return shards
    if optional:
        return ()
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        raise CheckpointError(
            f"{folder} holds only {pickles[0]}, a pickle, which is never opened; convert it to {WEIGHTS}"
        )
    others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors")))
    hint = f"; to load one of {others}, give its own path" if others else ""
    raise CheckpointError(f"{folder} is not a checkpoint: it has neither {WEIGHTS} nor {INDEX}{hint}")


@dataclass(frozen=True)
class _Found:
    """A checkpoint before it is understood. ``folder`` is what parts are relative to; None for a hub repository."""

    source: str
    raw: dict[str, Any]
    weights: tuple[Path, ...]
    where: str
    folder: Path | None = None
    card: ModelCard | None = None


def _assemble(found: _Found, hub: _Hub) -> Checkpoint:
    files = tuple(weight_file(path) for path in found.weights)
    sources = _parts_of(found.raw, found.where)
    if sources and hub.for_part:
        raise CheckpointError(f"{found.where}: a part of a network cannot be made of parts itself")
    parts = {name: _part(found, name, source, replace(hub, for_part=True)) for name, source in sources.items()}
    description = _describe(found, files, parts)
    for name, part in parts.items():
        prefix = "" if name == BASE else f"{name}."
        files += tuple(replace(file, add=prefix + file.add) for file in part.weights)
    return Checkpoint(
        found.source,
        description.model_name,
        description.config,
        files,
        found.card,
        process_res=_process_res_of(found.raw, parts, found.where),
        camera_sigma=_camera_sigma_of(found.raw, parts, found.where),
        metric_res=_metric_res_of(found.raw, parts, found.where),
        confidence_maps=_confidence_maps_of(found.raw, parts, found.where),
    )


def _process_res_of(raw: Mapping[str, Any], parts: Mapping[str, Checkpoint], where: str) -> int:
    """The checkpoint's own, or else the largest of its parts'."""
    value = raw.get("process_res", max((part.process_res for part in parts.values()), default=PROCESS_RES))
    if isinstance(value, bool) or not isinstance(value, int) or value < PATCH_SIZE:
        raise CheckpointError(f"{where}: process_res is {value!r}; expected a number of pixels, {PATCH_SIZE} or more")
    return value


def _metric_res_of(raw: Mapping[str, Any], parts: Mapping[str, Checkpoint], where: str) -> int | None:
    """The checkpoint's own, or else that of the part that has one."""
    value = raw.get("metric_res", next((p.metric_res for p in parts.values() if p.metric_res is not None), None))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < PATCH_SIZE):
        raise CheckpointError(f"{where}: metric_res is {value!r}; expected a number of pixels, {PATCH_SIZE} or more")
    return value


def _camera_sigma_of(raw: Mapping[str, Any], parts: Mapping[str, Checkpoint], where: str) -> tuple[float, float]:
    """The checkpoint's own, or else that of its first part, which is the one with cameras."""
    value = raw.get("camera_sigma", next((part.camera_sigma for part in parts.values()), CAMERA_SIGMA))
    try:
        rotation, focal = (float(v) for v in value)
    except (TypeError, ValueError):
        rotation = focal = 0.0
    if not (rotation > 0 and focal > 0):
        raise CheckpointError(f"{where}: camera_sigma is {value!r}; expected two positive numbers")
    return rotation, focal


def _confidence_maps_of(raw: Mapping[str, Any], parts: Mapping[str, Checkpoint], where: str) -> ConfidenceMaps | None:
    """The checkpoint's own, or else those of its first part."""
    value = raw.get("confidence_maps")
    if value is None:
        return next((part.confidence_maps for part in parts.values()), None)
    try:
        return ConfidenceMaps.from_dict(value)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: confidence_maps cannot be used: {error}") from error


def _describe(found: _Found, files: tuple[WeightFile, ...], parts: Mapping[str, Checkpoint]) -> Description:
    described = describe(found.raw, source=found.source, where=found.where)
    if described is None and found.card is not None:
        described = Description(found.card.preset, config_of(found.card.preset), explicit=False)
    if BASE in parts:
        if described is None or len(parts) > 1:
            raise CheckpointError(f"{found.where}: with a base comes the name of a preset, and no other part")
        return described
    if parts:
        return _describe_nested(described, parts, found.where)
    return described or describe_tensors(shapes_in(files), source=found.source)


def _describe_nested(own: Description | None, parts: Mapping[str, Checkpoint], where: str) -> Description:
    """The architecture that the file spells out, or else the one that the parts add up to."""
    if own is not None and own.explicit:
        return own
    default = own.config if own is not None else config_of(NESTED)
    if not set(PARTS.values()) <= set(default):
        raise CheckpointError(f"{where} has parts, but names a network that has none: {own and own.model_name}")
    anyview, metric = (parts[name].config if name in parts else default[entry] for name, entry in PARTS.items())
    return Description(own.model_name if own else NESTED, nested_config(anyview, metric), explicit=False)


def _parts_of(raw: Mapping[str, Any], where: str = CONFIG) -> dict[str, str]:
    inner = raw.get("config")
    parts = raw.get("parts") or (inner.get("parts") if isinstance(inner, Mapping) else None) or {}
    valid = (
        isinstance(parts, Mapping) and set(parts) <= {*PARTS, BASE} and all(isinstance(v, str) for v in parts.values())
    )
    if not valid:
        raise CheckpointError(
            f"{where}: parts is {parts!r}; expected hub ids or folders under {' and '.join(PARTS)}, or {BASE}"
        )
    return dict(parts)


def _part(found: _Found, name: str, source: str, hub: _Hub) -> Checkpoint:
    """The checkpoint that holds one part of another."""
    folder = None if found.folder is None else found.folder / Path(source).expanduser()
    if folder is not None and folder.exists():
        part = _from_folder(folder, hub) if folder.is_dir() else _from_file(folder, hub)
    elif HUB_ID.fullmatch(source):
        part = _from_hub(source, replace(hub, revision=None))
    else:
        raise CheckpointError(f"{found.where}: part {name} is {source!r}; expected a hub id or an existing folder")
    if any(entry in part.config for entry in PARTS.values()):
        raise CheckpointError(f"{found.where}: part {name} ({source}) is a nested network itself")
    warn_on_load(part.card)
    return part


def _not_found(source: str | os.PathLike[str]) -> InputError:
    text = os.fspath(source)
    hub_ids = [card.hub_id for card in CARDS if not card.deprecated]
    similar = [card.hub_id for card in CARDS if text.lower() in (card.name.lower(), card.preset)]
    if similar:
        return InputError("source", f"{text!r}, which is not a path that exists", "the full hub id", similar)
    got = f"{text!r}, a path that does not exist" if _looks_like_path(text) else repr(text)
    return InputError("source", got, "an existing folder, an existing .safetensors file, or a hub id", hub_ids)


def _looks_like_path(text: str) -> bool:
    return bool(re.match(r"[./~\\]|[A-Za-z]:", text)) or "\\" in text or "/" in text or text.endswith(_FILE_ENDINGS)
