"""How much memory an inference will take, before it runs.

The prediction follows the network from stage to stage and counts the tensors that are alive at once; what the machine
adds (libraries, scratch of convolutions) was measured, see ``docs/performance.md``.

Letters: n tokens of all views, C channels, F features of a head, P patches of a view.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from depth_anything_3.model.chunking import WHOLE, Chunking
from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net, Network
from depth_anything_3.model.dinov2.layers import SwiGLU
from depth_anything_3.model.fast import copied_parameters, has_twin, head_views, packing_pays
from depth_anything_3.model.mapped import in_file
from depth_anything_3.types.options import PATCH_SIZE

_PROCESS = 338_000_000  # interpreter, torch and its kernels, where the system does not say what they take
_HEAP = 235_000_000  # of these, what is not in the files of libraries, and kernels that only a run loads
_KEPT_HEAP = 120_000_000  # most of what the allocator of the C library keeps of one stage while the other runs
_KEPT_BY_TWINS = 30_000_000  # the same, where a twin gives it back in between
_INPUT_BYTES = 27  # per pixel: pixels as bytes, as floats, and those of all scenes stacked
_MAP_BYTES = 16  # per pixel: depth and confidence, in parts and joined
_PATCH_PIXELS = PATCH_SIZE**2
_FUSED_PIXELS = 64  # per patch, where the head has fused its pyramid


def estimate_memory(
    net: Network,
    views: int,
    image_hw: tuple[int, int],
    *,
    chunking: Chunking = WHOLE,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kept_features: int = 0,
    poses: bool = False,
    fast: bool = True,
) -> int:
    """Predicted peak in bytes for one scene: of the process on the CPU, of the device's memory elsewhere.

    Args:
        net: may be on the meta device, as if it were mapped to a file.
        chunking: how much is done at once.
        dtype: precision of the transformer.
        kept_features: how many blocks' features are returned.
        poses: whether given cameras condition the network.
        fast: whether the CPU runs the network's twin (:mod:`depth_anything_3.model.fast`).
    """
    device = torch.device(device)
    pixels = views * image_hw[0] * image_hw[1]
    parts = [net.da3, net.da3_metric] if isinstance(net, NestedDepthAnything3Net) else [net]
    away = chunking.offload and device.type != "cpu"
    twin = fast and device.type == "cpu" and has_twin(dtype)
    if device.type == "cpu":
        weights = sum(_weights(part, dtype, poses=poses, twin=twin) for part in parts)
        fixed = _process() + _INPUT_BYTES * pixels + weights
    else:  # autocast keeps copies of the weights, not so on the CPU
        each = 4 + (dtype.itemsize if dtype != torch.float32 else 0)
        fixed = 12 * pixels + each * _count(net)
    peaks = []
    for part in parts:
        stages = (
            _transformer(part, views, image_hw, chunking, dtype, kept_features, away=away),
            _head(part, views, image_hw, chunking, kept_features, away=away, twin=dtype if twin else None),
        )
        kept = _KEPT_BY_TWINS if twin else _KEPT_HEAP
        peaks.append(max(stages) + (min(*stages, kept) if device.type == "cpu" else 0))
    return int(fixed + max(peaks))


def most_views(
    net: Network,
    image_hw: tuple[int, int],
    budget: int,
    *,
    limit: int,
    chunking: Chunking = WHOLE,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kept_features: int = 0,
    poses: bool = False,
    fast: bool = True,
) -> int:
    """The most views of one scene, up to ``limit`` and at least 1, whose estimate fits ``budget`` bytes."""

    def needed(views: int) -> int:
        how: dict[str, Any] = {"device": device, "dtype": dtype, "kept_features": kept_features}
        how |= {"poses": poses, "fast": fast}
        return estimate_memory(net, views, image_hw, chunking=chunking, **how)

    low, high = 1, max(limit, 1)
    while low < high:
        middle = (low + high + 1) // 2
        if needed(middle) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


@functools.cache
def _process() -> int:
    """What a process holds beside arrays: some systems read far more of a library into memory than others."""
    packing_pays()  # has most kernels loaded
    mappings = Path("/proc/self/smaps")
    return _HEAP + _libraries(mappings.read_text()) if mappings.exists() else _PROCESS


def _libraries(mappings: str) -> int:
    """Resident bytes of shared libraries, from what the system lists (proc_pid_smaps(5))."""
    total, library = 0, False
    for line in mappings.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            library = len(words) > 5 and ".so" in words[5]
        elif words[0] == "Rss:" and library:
            total += int(words[1]) << 10
    return total


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights(net: DepthAnything3Net, dtype: torch.dtype, *, poses: bool, twin: bool) -> int:
    """Weights in the memory of the host: of those in a file only what the network, and not a copy, reads."""
    count, copied = _count(net), copied_parameters(net, dtype) if twin else 0
    most = next(parameter for parameter in net.backbone.pretrained.blocks.parameters() if parameter.ndim == 2)
    if most.is_meta or in_file(most):
        count -= copied + (0 if poses or net.cam_enc is None else _count(net.cam_enc))
    return 4 * count + dtype.itemsize * copied


def _tokens(net: DepthAnything3Net, views: int, image_hw: tuple[int, int]) -> int:
    """Bytes of all tokens in float32."""
    count = views * (1 + image_hw[0] * image_hw[1] // _PATCH_PIXELS)
    return 4 * count * net.backbone.pretrained.embed_dim


def _transformer(
    net: DepthAnything3Net,
    views: int,
    image_hw: tuple[int, int],
    chunking: Chunking,
    dtype: torch.dtype,
    kept_features: int,
    *,
    away: bool,
) -> float:
    """The last block, beside the layers that wait for the head."""
    vit = net.backbone.pretrained
    token = _tokens(net, views, image_hw)
    linear = token * dtype.itemsize / 4
    alternating = vit.alt_start < vit.depth
    table = 2 * token * vit.head_dim / vit.embed_dim if alternating else 0.0
    stream = token * (2 if vit.cat_token else 1)  # running tokens, and the last ones of single views
    waiting = 0 if away else token * ((2 if vit.cat_token else 1) * (len(vit.out_layers) - 1) + kept_features)
    hidden = 10.7 if isinstance(vit.blocks[0].mlp, SwiGLU) else 8.0
    rows = chunking.token_rows
    attention, mlp = (7 if alternating else 2) * token + 3 * linear, 2 * token + hidden * linear
    part = 1.0
    held = 0.0
    if rows is not None:
        part = min(1.0, rows * vit.embed_dim * 4 / token)
        held = token + 2 * linear
    widest = (2 if vit.cat_token else 1) * token
    leaving = widest * (1 if rows is not None or away else 2) + (token if rows is None else 0)
    return table + stream + waiting + max(held + part * max(attention, mlp), leaving)


def _head(
    net: DepthAnything3Net,
    views: int,
    image_hw: tuple[int, int],
    chunking: Chunking,
    kept_features: int,
    *,
    away: bool,
    twin: torch.dtype | None,
) -> float:
    """The last views of the head, beside all layers and the maps that are done."""
    vit = net.backbone.pretrained
    token, pixels = _tokens(net, views, image_hw), image_hw[0] * image_hw[1]
    table = 2 * token * vit.head_dim / vit.embed_dim if vit.alt_start < vit.depth else 0.0
    layers = 0 if away else token * ((2 if vit.cat_token else 1) * len(vit.out_layers) + kept_features)
    maps = 0 if away else _MAP_BYTES * views * pixels
    features = net.head.scratch.output_conv1.in_channels
    at_once = min(views, chunking.head_views, head_views(net, pixels) if twin is not None else views)
    return table + layers + maps + at_once * _head_bytes(features, pixels, twin=twin)


def _head_bytes(features: int, pixels: int, *, twin: torch.dtype | None) -> float:
    """Per view: the half of the features at all pixels and its 32 successors, or the fused pyramid."""
    patches = pixels / _PATCH_PIXELS
    at_pixels = 0 if twin is not None else (features + 64) * _PATCH_PIXELS  # a twin makes them in tiles
    fused = (3 if twin is None else 2) * features * _FUSED_PIXELS
    pyramid = 21.25 * features
    return (4 if twin is None else twin.itemsize) * patches * (pyramid + max(at_pixels, fused))
