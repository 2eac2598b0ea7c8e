"""Tensors in safetensors files, and the networks that they go into.

Published files carry ``model.`` in front of every key. In the network the auxiliary LayerNorm of the dual head is one
module under four names; files store it once, under level 0.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3._files import atomic_path
from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import CheckpointError
from depth_anything_3.registry import MODEL_REGISTRY

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PREFIX = "model."
Shapes = dict[str, tuple[int, ...]]

_BLOCK, _BLOCKS = 1 << 16, 64  # bytes, and how many of a file a fingerprint is made of
_ALIAS = re.compile(r"(^|\.)(head\.scratch\.output_conv2_aux)\.[123]\.(2\.(?:weight|bias))$")
_FLOATS = {"F16", "BF16", "F32", "F64"}
_LISTED = 20


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file, and how its keys become the network's: ``strip`` is cut off the front, ``add`` put there."""

    path: Path
    strip: str = PREFIX
    add: str = ""

    def network_key(self, key: str) -> str:
        """The network's name for the tensor that this file calls ``key``."""
        return self.add + key.removeprefix(self.strip)


@dataclass(frozen=True)
class _Entry:
    """Where a tensor of the network lies."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


def weight_file(path: Path, add: str = "") -> WeightFile:
    """A :class:`WeightFile` for ``path``, which may or may not carry the published prefix.

    Raises:
        CheckpointError: not a readable safetensors file.
    """
    with _opened(path, "np") as file:
        prefixed = all(key.startswith(PREFIX) for key in file.keys())  # noqa: SIM118 (no mapping)
    return WeightFile(path, PREFIX if prefixed else "", add)


def shapes_in(files: Iterable[WeightFile]) -> Shapes:
    """Network key -> shape of everything in the files; only their headers are read."""
    return {key: entry.shape for key, entry in _entries(files).items()}


def metadata_of(path: Path) -> dict[str, str]:
    """The text entries in the header of a safetensors file."""
    with _opened(path, "np") as file:
        return dict(file.metadata() or {})


def fingerprint(files: Iterable[WeightFile]) -> str:
    """16 hexadecimal digits that tell weights apart, wherever their files lie and whatever these are called.

    The SHA-256 of the size of each file and of 64 KiB blocks of it: the beginning, where names and shapes stand, and
    63 more that are evenly spread up to the end. Training changes nearly every number, and so it changes these; reading
    all of many gigabytes would take seconds.
    """
    total = hashlib.sha256()
    for path in (file.path for file in files):
        size = path.stat().st_size
        total.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            for number in range(_BLOCKS):
                file.seek(max(size - _BLOCK, 0) * number // (_BLOCKS - 1))
                total.update(file.read(_BLOCK))
    return total.hexdigest()[:16]


def alias_target(key: str) -> str | None:
    """The key under which a tensor is stored, if ``key`` is one of its other names; otherwise None."""
    return _ALIAS.sub(r"\1\2.0.\3", key) if _ALIAS.search(key) else None


def stored_shapes(network: nn.Module) -> Shapes:
    """Key -> shape of what a file of this network holds: no aliases, no prefix."""
    return {key: tuple(t.shape) for key, t in network.state_dict().items() if alias_target(key) is None}


@lru_cache(maxsize=16)
def preset_shapes(preset: str) -> Mapping[str, tuple[int, ...]]:
    """:func:`stored_shapes` of a preset, without allocating its weights."""
    return stored_shapes(skeleton(load_config(MODEL_REGISTRY[preset])))


def fitting_presets(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the presets whose networks hold exactly these tensors (aliases may be present or absent)."""
    stored = {key: tuple(shape) for key, shape in shapes.items() if alias_target(key) is None}
    return [name for name in MODEL_REGISTRY if preset_shapes(name) == stored]


def skeleton(config: Mapping[str, Any]) -> nn.Module:
    """The network that ``config`` describes, with parameters that have shapes but no memory; buffers are real.

    Raises:
        ConfigError: the configuration cannot be built.
    """
    import torch

    with torch.random.fork_rng(devices=[]), _parameters_without_memory():
        network: nn.Module = create_object(config)
    return network


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """Parameters registered by this thread become meta tensors at once, so that initialising them costs nothing.

    Building under ``torch.device("meta")`` would take the values of buffers away as well, and no file restores those
    of the non-persistent ones.
    """
    from torch import empty_like, nn
    from torch.nn.modules.module import register_module_parameter_registration_hook

    thread = threading.get_ident()

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != thread:
            return None
        return nn.Parameter(empty_like(parameter, device="meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]  # what it returns is used
    try:
        yield
    finally:
        handle.remove()


def load_strictly(network: nn.Module, files: Iterable[WeightFile], *, dtype: torch.dtype | None = None) -> None:
    """Fill a :func:`skeleton` from files, all of it and nothing else.

    Tensors of the wanted type stay mapped to the file: the system reads them when they are first used.

    Args:
        network: as :func:`skeleton` returns it.
        files: together they must hold every tensor exactly once; the aliases may be absent.
        dtype: type of the weights in memory; float32 if None.

    Raises:
        CheckpointError: missing, unexpected, repeated or mis-shaped tensors, all of them named; damaged files.
    """
    import torch

    files = tuple(files)
    found = _entries(files)
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    _compare(found, wanted, files)
    tensors = _read(found, dtype or torch.float32)
    for key in wanted:
        target = alias_target(key)
        if target is not None and not torch.equal(tensors.setdefault(key, tensors[target]), tensors[target]):
            raise CheckpointError(
                f"{found[key].file}: {key} differs from {target}, but they are one and the same layer"
            )
    network.load_state_dict(tensors, strict=True, assign=True)
    left = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
    assert not left, f"without values after loading: {left}"


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's tensors as published files have them: prefix on every key, aliases left out."""
    from safetensors.torch import save_file

    tensors = {
        PREFIX + key: tensor.detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
        if alias_target(key) is None
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:  # safe_open has no types
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a readable safetensors file: {_diagnose(path)} ({error})") from error


def _diagnose(path: Path) -> str:
    """A guess, from the first bytes, at what somebody has called a safetensors file."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return "it cannot be opened"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "it is a PyTorch pickle, which can run any code and is never opened; convert it to safetensors"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    return "it is truncated or damaged; get it again"


def _entries(files: Iterable[WeightFile]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for source in files:
        with _opened(source.path, "np") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                name, view = source.network_key(key), file.get_slice(key)
                if name in entries:
                    raise CheckpointError(f"{name} is in two files: {entries[name].file} and {source.path}")
                entries[name] = _Entry(source.path, key, tuple(view.get_shape()), str(view.get_dtype()))
    return entries


def _read(entries: Mapping[str, _Entry], dtype: torch.dtype) -> dict[str, Tensor]:
    by_file: dict[Path, dict[str, str]] = {}
    for name, entry in entries.items():
        by_file.setdefault(entry.file, {})[name] = entry.key
    tensors: dict[str, Tensor] = {}
    for path, keys in by_file.items():
        with _opened(path, "pt") as file:
            tensors |= {name: file.get_tensor(key).to(dtype) for name, key in keys.items()}
    return tensors


def _compare(found: Mapping[str, _Entry], wanted: Shapes, files: tuple[WeightFile, ...]) -> None:
    missing = [key for key in wanted if key not in found and alias_target(key) is None]
    unexpected = [key for key in found if key not in wanted]
    both = [key for key in wanted if key in found]
    shapes = [f"{k} (file {found[k].shape}, network {wanted[k]})" for k in both if found[k].shape != wanted[k]]
    dtypes = [f"{key} ({found[key].dtype})" for key in both if found[key].dtype not in _FLOATS]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes, "not floating point": dtypes}
    report = [f"{what} ({len(keys)}): {_list(keys)}" for what, keys in problems.items() if keys]
    if not report:
        return
    where = ", ".join(str(file.path) for file in files) or "no weight file"
    raise CheckpointError(f"{where} does not fit its configuration. {'; '.join(report)}{_advice(found)}")


def _list(keys: Collection[str]) -> str:
    more = len(keys) - _LISTED
    return ", ".join(list(keys)[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _advice(found: Mapping[str, _Entry]) -> str:
    fitting = fitting_presets({key: entry.shape for key, entry in found.items()})
    return f". The tensors are those of {' or '.join(fitting)}: correct model_name in config.json" if fitting else ""
