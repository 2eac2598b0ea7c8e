"""Checkpoints that come with the package, and what to do when no model was named.

The bundled networks are small and trained on the procedural world alone: demonstration models, which make everything
run where no other weights can be had.
"""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.cfg import load_config
from depth_anything_3.errors import UnknownNameError
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.zoo.cache import CONFIG, INDEX

if TYPE_CHECKING:
    from torch import nn

PREFIX = "bundled"
"""``bundled`` is :data:`DEFAULT`; ``bundled/<name>`` any of them."""

DEFAULT = "da3-tiny"
FOLDER = Path(__file__).resolve().parents[1] / "bundled"
SHARD_BYTES = 15_000_000
"""Most bytes of one file, so that every file passes through any repository host."""


def bundled_names() -> tuple[str, ...]:
    """Names of the checkpoints that are in this installation."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG}")))


def bundled_with_gaussians() -> tuple[str, ...]:
    """Those that have a head for 3D Gaussians, as :func:`bundled_folder` takes them."""
    names = (name for name in bundled_names() if "gs_head" in load_config(MODEL_REGISTRY[name]))
    return tuple(f"{PREFIX}/{name}" for name in names)


def bundled_folder(source: str) -> Path | None:
    """The folder of ``bundled`` or ``bundled/<name>``; None if ``source`` is something else.

    Raises:
        UnknownNameError: no such bundled checkpoint.
    """
    first, slash, name = source.partition("/")
    if first != PREFIX:
        return None
    name = name if slash else DEFAULT
    if name not in bundled_names():
        raise UnknownNameError(
            "source", repr(source), "a bundled checkpoint", [f"{PREFIX}/{n}" for n in bundled_names()]
        )
    return FOLDER / name


def write_shards(
    network: nn.Module, folder: Path, *, most: int = SHARD_BYTES, without: Container[str] = ()
) -> list[Path]:
    """Write a network's tensors in half precision as shards with an index, as the hub has them.

    Args:
        network: whose tensors are written.
        folder: of the checkpoint; older shards in it are removed when the new index is there.
        most: bytes of one shard; a larger tensor gets one of its own.
        without: keys of tensors that are left out.
    """
    import torch
    from safetensors.torch import save_file

    from depth_anything_3.zoo.weights import PREFIX as KEY_PREFIX
    from depth_anything_3.zoo.weights import alias_target

    groups: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for key, tensor in network.state_dict().items():
        if alias_target(key) is not None or key in without:
            continue
        half = tensor.detach().cpu().to(torch.float16).contiguous()
        if groups[-1] and filled + half.nbytes > most:
            groups.append({})
            filled = 0
        groups[-1][KEY_PREFIX + key] = half
        filled += half.nbytes
    old = set(folder.glob("*.safetensors"))
    names = [f"model-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    for name, group in zip(names, groups, strict=True):
        with atomic_path(folder / name) as temporary:
            save_file(group, temporary, metadata={"format": "pt"})
    total = sum(t.nbytes for group in groups for t in group.values())
    index = {key: name for name, group in zip(names, groups, strict=True) for key in group}
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n")
    for path in old - {folder / name for name in names}:
        path.unlink()
    return [folder / name for name in names]
