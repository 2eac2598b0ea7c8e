"""Twins of the network for inference on a CPU: the same numbers, to rounding, in less time and memory.

:func:`fast_twin` copies the modules of a network and shares its parameters. In the copy

* linear layers run in oneDNN, with GELU inside; in bfloat16, and where that pays on this machine, on copies of the
  weights that are laid out for it and hold LayerScale;
* attention in bfloat16 is made of matrix products, a block of queries at a time, where that is faster than PyTorch's
  own kernel (in float32 it is not);
* the dense head works on channels-last maps, narrows before it enlarges, and makes the full-size map, its largest
  tensor, a few rows at a time; before it, memory that the transformer has used goes back to the system.

Copies are made from the file of a checkpoint, if that is where the weights are (:mod:`depth_anything_3.model.mapped`):
then only what has no copy takes memory beside them.

Everything else is the network's own code, which stays what it is measured against (``tests/model/test_fast.py``).

Letters: n tokens, C channels, V views, H W pixels of the network image, h w of a smaller map.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net, Network
from depth_anything_3.model.dinov2.layers import Attention, Block, Mlp, SwiGLU
from depth_anything_3.model.dpt import DPT, DPTTrunk, FusionBlock, resize
from depth_anything_3.model.dualdpt import DualDPT
from depth_anything_3.model.mapped import reread

DTYPES = (torch.float32, torch.bfloat16)
"""Precisions that have a twin."""

_HEAD_PIXELS = 600_000  # of the views that the head takes at once: with more of them, maps leave the caches
_HEAD_FEATURES = 128  # of each of these pixels; heads with more of them take fewer

_PAYS = 1.6  # a fast path that needs memory of its own must be so many times faster
_FEW_TOKENS = 256  # below it the calls cost more than the products
_BLOCK = 1_300_000  # scores that are held at once: they stay in the caches of a core
TILE = 1 << 20
"""Values of a full-size map that are held at once."""


def has_twin(dtype: torch.dtype) -> bool:
    """Whether this machine gains by twins in a precision: bfloat16 only where the processor computes in it."""
    if dtype == torch.bfloat16:
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def hooked(net: Network) -> bool:
    """Whether forward hooks hang on a network: they are called on its own modules, which a twin does not run."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def head_views(net: Network, pixels: int) -> int:
    """How many views of a size in pixels the heads of a network's twin take at once, at most."""
    parts = (net.da3, net.da3_metric) if isinstance(net, NestedDepthAnything3Net) else (net,)
    features = max(_HEAD_FEATURES, *(part.head.scratch.output_conv1.in_channels for part in parts))
    return max(1, _HEAD_PIXELS * _HEAD_FEATURES // features // pixels)


def holds_copies(dtype: torch.dtype) -> bool:
    """Whether a twin has weights of its own beside those of the network."""
    return dtype != torch.float32 or packing_pays()


def copied_parameters(net: DepthAnything3Net, dtype: torch.dtype) -> int:
    """How many values of parameters a twin has copies of; those of the convolutions only in another precision."""
    if not holds_copies(dtype):
        return 0
    parts = (*net.backbone.pretrained.blocks, *(() if dtype == torch.float32 else (net.head,)))
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def fast_twin(net: Network, dtype: torch.dtype) -> Network:
    """A network that shares the parameters of ``net``, is for inference on the CPU alone, and runs without autocast.

    Weights that are kept in another layout or precision are copies: changes of the original do not reach them.

    Args:
        dtype: of the transformer and the dense head, one of :data:`DTYPES`. Cameras, normalisation and the sum that
            runs through the transformer stay in float32.
    """
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    twin = copy.deepcopy(net, shared).eval()
    for part in (twin.da3, twin.da3_metric) if isinstance(twin, NestedDepthAnything3Net) else (twin,):
        _hasten(part, dtype)
    _release_heap()
    return twin


class Twins:
    """The twins of networks, made when they are first needed, and anew once the weights have changed."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[Network, dict[torch.dtype, tuple[Any, Network]]]
        self._kept = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, net: Network, dtype: torch.dtype) -> Network:
        """The twin of a network on the CPU; arguments as of :func:`fast_twin`."""
        state = [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in net.parameters()]
        with self._lock:
            kept = self._kept.setdefault(net, {})
            if dtype not in kept or kept[dtype][0] != state:
                kept.pop(dtype, None)
                kept[dtype] = (state, fast_twin(net, dtype))
            return kept[dtype][1]


def _hasten(net: DepthAnything3Net, dtype: torch.dtype) -> None:
    vit, packs = net.backbone.pretrained, holds_copies(dtype)
    if packs:
        vit.patch_embed.add_module("proj", Conv(vit.patch_embed.proj, dtype))
    for block in vit.blocks:
        linear = [part for part in block.modules() if isinstance(part, nn.Linear)]
        # Somebody's own layers, with more to them than weight and bias, are left alone.
        if torch.backends.mkldnn.is_available() and isinstance(block, Block) and {*map(type, linear)} == {nn.Linear}:
            _fuse(block, dtype, packs=packs)
    net.head = _fast_head(net.head, dtype)
    net.head.register_forward_pre_hook(_release_heap)


def _release_heap(*_: object) -> None:
    """Return to the system what the allocator keeps of tensors that are gone, if it is that of the GNU C library.

    A stage that needs other sizes than the one before does not find them there.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], object] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def _fuse(block: Block, dtype: torch.dtype, *, packs: bool) -> None:
    """Replace what a block consists of; LayerScale goes into weights that are copies anyway."""

    def layer(slow: nn.Linear, scale: Tensor | None = None, *, gelu: bool = False) -> FastLinear:
        return FastLinear(slow, dtype, pack=packs, scale=scale if packs else None, gelu=gelu)

    block.attn = FastAttention(block.attn, layer(block.attn.qkv), layer(block.attn.proj, block.ls1.gamma))
    mlp, scale = block.mlp, block.ls2.gamma
    if isinstance(mlp, Mlp):
        block.mlp = nn.Sequential(layer(mlp.fc1, gelu=True), layer(mlp.fc2, scale))
    elif isinstance(mlp, SwiGLU):
        mlp.add_module("w12", layer(mlp.w12))
        mlp.add_module("w3", layer(mlp.w3, scale))
    if packs:
        block.add_module("ls1", nn.Identity())
        if isinstance(mlp, Mlp | SwiGLU):
            block.add_module("ls2", nn.Identity())


class FastLinear(nn.Module):
    """A linear layer in oneDNN; its output is in the precision of the weights.

    Args:
        linear: the layer.
        dtype: of the product.
        pack: keep a copy of the weights in oneDNN's own layout.
        scale: (outputs,) factors of the result, LayerScale's; only for copies.
        gelu: apply GELU before the result leaves the registers.
    """

    def __init__(
        self,
        linear: nn.Linear,
        dtype: torch.dtype,
        *,
        pack: bool,
        scale: Tensor | None = None,
        gelu: bool = False,
    ) -> None:
        super().__init__()
        weight, bias = reread(linear.weight) if pack else linear.weight, linear.bias.detach()
        weight = weight.detach()
        if scale is not None:
            weight, bias = weight * scale.detach()[:, None], bias * scale.detach()
        self.weight, self.bias, self.dtype = weight.to(dtype), bias.to(dtype), dtype
        if pack:
            self.weight = _packed(self.weight)
        self.after = "gelu" if gelu else "none"

    def forward(self, x: Float[Tensor, "*batch C_in"]) -> Float[Tensor, "*batch C"]:
        return _linear(x.to(self.dtype), self.weight, self.bias, self.after)


def _packed(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 2048)


def _linear(x: Tensor, weight: Tensor, bias: Tensor, after: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "none")


@functools.cache
def packing_pays() -> bool:
    """Whether oneDNN's float32 products are so much faster than PyTorch's own here that a copy of the weights pays.

    Measured once per process, in some hundredths of a second: by a factor of 2.4 on processors that the library behind
    PyTorch's own does not know, by a tenth on others.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.inference_mode():
        x, weight, bias = torch.ones(128, 384), torch.ones(1536, 384), torch.ones(1536)
        packed = _packed(weight)
        ours, stock = _least_seconds([lambda: _linear(x, packed, bias), lambda: F.linear(x, weight, bias)], rounds=40)
    return stock > _PAYS * ours


@functools.cache
def blocking_pays() -> bool:
    """Whether attention in bfloat16 by plain matrix products is faster here than PyTorch's own kernel.

    Measured once per process, in some hundredths of a second: twice as fast on processors with AVX-512 alone, half as
    fast on those with matrix units (AMX), which PyTorch's kernel uses as well, without writing the scores down.
    """
    with torch.inference_mode():
        q = torch.ones(1, 1, 1024, 64, dtype=torch.bfloat16)
        runs = [lambda: blocked_attention(q, q, q), lambda: F.scaled_dot_product_attention(q, q, q)]
        ours, stock = _least_seconds(runs, rounds=10)
    return stock > ours


def _least_seconds(runs: Sequence[Callable[[], object]], *, rounds: int) -> list[float]:
    found = [float("inf")] * len(runs)
    for _ in range(rounds):  # many short ones, in turn: some are not disturbed by what else the machine does
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            found[i] = min(found[i], time.perf_counter() - start)
    return found


class FastAttention(Attention):
    """Attention between layers of its own."""

    def __init__(self, slow: Attention, qkv: FastLinear, proj: FastLinear) -> None:
        nn.Module.__init__(self)
        self.heads, self.q_norm, self.k_norm = slow.heads, slow.q_norm, slow.k_norm
        self.add_module("qkv", qkv)
        self.add_module("proj", proj)

    def attend(
        self,
        q: Float[Tensor, "batch heads queries head"],
        k: Float[Tensor, "batch heads n head"],
        v: Float[Tensor, "batch heads n head"],
        bias: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "batch queries C"]:
        if v.dtype == torch.float32 or k.shape[2] < _FEW_TOKENS or not blocking_pays():
            return super().attend(q, k, v, bias)
        return self.proj(blocked_attention(q, k, v, bias).flatten(2))


def blocked_attention(
    q: Float[Tensor, "batch heads queries head"],
    k: Float[Tensor, "batch heads n head"],
    v: Float[Tensor, "batch heads n head"],
    bias: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "batch queries heads head"]:
    """Softmax attention from plain matrix products, one head and one block of queries at a time."""
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3])
    keys, values = (k * k.shape[-1] ** -0.5).transpose(-1, -2), v.contiguous()
    rows = max(32, min(512, _BLOCK // k.shape[2] // 32 * 32))
    for scene in range(q.shape[0]):
        for head in range(q.shape[1]):
            for start in range(0, q.shape[2], rows):
                part = slice(start, start + rows)
                one, all_keys = q[scene, head, part], keys[scene, head]
                scores = one @ all_keys if bias is None else torch.addmm(bias, one, all_keys)
                torch.mm(scores.softmax(-1), values[scene, head], out=out[scene, part, head])
    return out


class Conv(nn.Module):
    """A convolution, plain or transposed, on channels-last maps in a precision of its own."""

    def __init__(self, conv: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        if dtype != torch.float32:
            weight = nn.Parameter(reread(conv.weight), requires_grad=False)  # type: ignore[arg-type]
            conv = copy.deepcopy(conv, {id(conv.weight): weight})
            conv = conv.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.conv = conv

    def forward(self, x: Float[Tensor, "V c h w"]) -> Float[Tensor, "V c2 h2 w2"]:
        return self.conv(x.to(self.dtype, memory_format=torch.channels_last))


class NarrowFirst(FusionBlock):
    """A fusion block whose 1x1 convolution comes before the enlargement, with which it commutes."""

    def __init__(self, slow: FusionBlock) -> None:
        nn.Module.__init__(self)
        for name, part in slow.named_children():
            self.add_module(name, part)

    def forward(
        self, x: Float[Tensor, "V F h w"], lateral: Float[Tensor, "V F h w"] | None, size: Sequence[int]
    ) -> Float[Tensor, "V F h2 w2"]:
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        return resize(self.out_conv(self.resConfUnit2(x)), size)


def _fast_head(head: DualDPT | DPT, dtype: torch.dtype) -> DualDPT | DPT:
    for name, part in list(head.named_modules()):
        place, _, key = name.rpartition(".")
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            # What leaves the head, through an exponential, is summed up in float32.
            last = part.kernel_size == (1, 1) and "output_conv2" in place
            setattr(head.get_submodule(place), key, Conv(part, torch.float32 if last else dtype))
        elif isinstance(part, FusionBlock):
            setattr(head.get_submodule(place), key, NarrowFirst(part))
    head.full_size = functools.partial(full_size_in_tiles, head)  # type: ignore[method-assign]
    return head


def full_size_in_tiles(
    head: DPTTrunk, x: Float[Tensor, "V c h w"], image_hw: tuple[int, int], *last: nn.Module
) -> list[Float[Tensor, "V outputs H W"]]:
    """Twin of :meth:`DPTTrunk.full_size`: some rows of one view at a time."""
    height, width = image_hw
    step = max(16, TILE // (x.shape[1] * width))
    found: list[Tensor] = []
    for view, one in enumerate(x.permute(0, 2, 3, 1)):
        for start in range(0, height, step):
            end = min(start + step, height)
            above, below = max(start - 1, 0), min(end + 1, height)  # what a 3x3 convolution sees
            tile = head.add_uv(_rows(one, image_hw, above, below), image_hw, first=above, height=height)
            for i, layers in enumerate(last):
                part = layers(tile)
                if len(found) <= i:
                    found.append(part.new_empty(len(x), part.shape[1], height, width))
                found[i][view, :, start:end] = part[0, :, start - above : end - above]
    return found


def _rows(x: Float[Tensor, "h w c"], image_hw: tuple[int, int], start: int, end: int) -> Float[Tensor, "1 c rows W"]:
    """Rows of what :func:`~depth_anything_3.model.dpt.resize` makes of a map."""
    places = torch.arange(start, end, dtype=torch.float32) * ((len(x) - 1) / max(image_hw[0] - 1, 1))
    upper = places.long().clamp(max=len(x) - 1)
    lower = (upper + 1).clamp(max=len(x) - 1)
    share = (places - upper).to(x.dtype)[:, None, None]
    return resize(torch.lerp(x[upper], x[lower], share)[None].permute(0, 3, 1, 2), (end - start, image_hw[1]))
