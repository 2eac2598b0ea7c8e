"""Weights to start from: from scratch, from DINOv2, or from another network of ours.

The default initialisation of PyTorch does not train a DPT head from scratch: transposed convolutions with kernel =
stride get a fan-in that is off by their area, and chains of convolutions shrink the signal. Everything here keeps the
variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.harmonics import C0
from depth_anything_3.infer.preprocess import IMAGE_MEAN, IMAGE_STD
from depth_anything_3.model.dinov2.vision_transformer import TRAINED_GRID, DinoVisionTransformer
from depth_anything_3.model.gsdpt import GSDPT
from depth_anything_3.types.options import PATCH_SIZE

POSITION_RMS = 0.7
"""Of the sine-cosine table: comparable to the patch embedding, the only other thing that tells patches apart."""

_NOT_IN_DINOV2 = ("camera_token", "q_norm.", "k_norm.")
_CUT_STD = 0.8796  # standard deviation of what is left of a unit normal distribution between -2 and 2


@torch.no_grad()
def from_scratch(network: nn.Module, seed: int) -> None:
    """Fill every parameter of a network; a function of the seed alone.

    Args:
        network: a :class:`~depth_anything_3.model.da3.DepthAnything3Net`.
        seed: of the local generator.
    """
    generator = torch.Generator().manual_seed(seed)
    heads: list[GSDPT] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            _fill(name, module, generator)
        elif isinstance(module, DinoVisionTransformer):
            _fill_tokens(module, generator)
        elif isinstance(module, GSDPT):
            heads.append(module)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for name, parameter in network.named_parameters():
        if name.endswith(("ls1.gamma", "ls2.gamma")):
            parameter.fill_(1.0)
    _fill_outputs(network)
    for head in heads:
        begin_as_splats(head)


def _fill(name: str, module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, generator: torch.Generator) -> None:
    weight = module.weight
    fan_in = weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else weight[0].numel()
    gain = 1.0
    if name.endswith(("attn.proj", "mlp.fc2", "mlp.w3")):
        gain = 0.25  # branches that add to a residual stream start small
    elif "resConfUnit" in name or name.startswith("cam_dec.backbone") or "output_conv2.0" in name:
        gain = math.sqrt(2.0) if not name.endswith("conv2") else 0.5
    std = gain / math.sqrt(fan_in) / _CUT_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    if module.bias is not None:
        module.bias.zero_()


def _fill_tokens(backbone: DinoVisionTransformer, generator: torch.Generator) -> None:
    backbone.pos_embed.copy_(sincos_positions(backbone.embed_dim))
    nn.init.normal_(backbone.cls_token, std=0.5, generator=generator)
    if hasattr(backbone, "camera_token"):
        nn.init.normal_(backbone.camera_token, std=0.5, generator=generator)


def sincos_positions(channels: int) -> Tensor:
    """(1, 1 + 37 * 37, channels): sines and cosines of row and column; 0 for the class token.

    Smooth in the position, so that the network sees nothing new when the table is resampled to another grid.
    """
    quarter = channels // 4
    frequency = math.pi * 2 ** torch.linspace(0, 4.5, quarter)  # half a wave to 11 waves over the image
    place = (torch.arange(TRAINED_GRID) + 0.5) / TRAINED_GRID
    angle = place[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], 1)  # (37, channels / 2)
    rows = axis[:, None].expand(-1, TRAINED_GRID, -1)
    columns = axis[None].expand(TRAINED_GRID, -1, -1)
    table = torch.cat([rows, columns], -1).flatten(0, 1) * (POSITION_RMS * math.sqrt(2))
    table = nn.functional.pad(table, (0, channels - table.shape[1], 1, 0))
    return table[None]


def _fill_outputs(network: nn.Module) -> None:
    """Last layers: small, with biases that say depth 1, a ray straight ahead, no rotation, one radian of view."""
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        if name.endswith(("output_conv2.2.weight", "_aux.3.5.weight")):
            parameter.mul_(0.3)
        if name.endswith("sky_output_conv2.2.bias"):
            parameter.fill_(0.2)  # behind it is a ReLU
        if name.endswith("output_conv2_aux.3.5.bias"):
            parameter[2] = 1.0
        if name.startswith("cam_dec.fc_") and name.endswith("weight"):
            parameter.mul_(0.3)
        if name == "cam_dec.fc_fov.0.bias":
            parameter.fill_(1.0)
        if name == "cam_dec.fc_qvec.bias":
            parameter[3] = 1.0


_SPLAT_CHANNELS = (37, 38)  # without and with an offset of the depth
_CARRIED, _LIFT, _GAIN = 3, 6.0, 8.0
_FIRST_SIZE, _FIRST_OPACITY = 0.6, 0.9  # of a Gaussian, in pixels, and of one


@torch.no_grad()
def begin_as_splats(head: GSDPT) -> None:
    """Let a Gaussian head begin with what plain Gaussians are: balls at the depth, in the colours of the pixels.

    Three channels carry the colours of the picture through all layers: lifted to where GELU and ReLU change nothing,
    and so strong that the position embedding does not count. Everything else that the head says begins near zero, the
    image features of the other channels and those of the tokens being there to learn from. It is written for the
    channels of :class:`~depth_anything_3.model.gs_adapter.GaussianAdapter` as all presets have them; a head with
    others, or one that is too narrow, stays as it is.
    """
    if head.output_dim not in _SPLAT_CHANNELS or head.images_merger.get_parameter("0.bias").numel() < _CARRIED:
        return
    chosen = torch.arange(_CARRIED)
    merger: list[Any] = [layer for layer in head.images_merger if isinstance(layer, nn.Conv2d)]
    before: Any = head.scratch.get_submodule("output_conv1")
    mixing: Any = head.scratch.get_submodule("output_conv2.0")
    for layer, factor in zip((*merger, mixing), (1.0, 1.0, _GAIN, 1 / _GAIN), strict=True):
        layer.weight[:_CARRIED] = 0
        if layer is not merger[0]:
            layer.weight[_CARRIED:, :_CARRIED] = 0
        layer.weight[chosen, chosen, 1, 1] = factor
        layer.bias[:_CARRIED] = 0
    merger[0].bias[:_CARRIED] = _LIFT
    before.weight[:_CARRIED] = 0
    before.bias[:_CARRIED] = 0
    _fill_splats(head.scratch.get_submodule("output_conv2.2"), chosen)


def _fill_splats(last: Any, chosen: Tensor) -> None:
    """The last layer: colours from the carrying channels, everything else from its biases."""
    last.weight.mul_(0.01)
    last.bias.zero_()
    last.weight[:, :_CARRIED] = 0
    mean, std = (torch.from_numpy(v).to(last.bias) for v in (IMAGE_MEAN, IMAGE_STD))
    colour = 9 + 9 * chosen
    last.weight[colour, chosen, 0, 0] = std / C0
    last.bias[colour] = (mean - 0.5 - _LIFT * std) / C0
    # A unit size is a tenth of 1/fx + 1/fy, and 30 of them are the largest: see the adapter.
    share = _FIRST_SIZE / 0.2 / 30
    last.bias[2:5] = math.log(share / (1 - share))
    last.bias[8] = 1.0
    last.bias[-1] = math.log(_FIRST_OPACITY / (1 - _FIRST_OPACITY))


@torch.no_grad()
def transfer(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Take over whatever fits from another network of ours, and say what did not.

    Equal names with equal shapes are copied. The first layers of a dual head read twice as many channels as those of
    a plain one; they take the weights for the half that means the same and zeros for the other.

    Args:
        network: to be changed.
        weights: state dict of the other one, without a ``model.`` prefix.

    Returns:
        names of the parameters of ``network`` that keep their old values.
    """
    kept = []
    for name, parameter in network.named_parameters():
        source = weights.get(name)
        if source is None or source.ndim != parameter.ndim:
            kept.append(name)
        elif source.shape == parameter.shape:
            parameter.copy_(source)
        elif name.startswith("head.projects.") and parameter.shape[1] == 2 * source.shape[1]:
            parameter.zero_()
            parameter[:, source.shape[1] :] = source
        elif name.startswith("head.scratch.output_conv2.2") and parameter.shape[0] == 2 and source.shape[0] == 1:
            parameter[:1] = source
            kept.append(name)
        else:
            kept.append(name)
    return kept


@torch.no_grad()
def prepare_matching(network: nn.Module, *, blocks: Sequence[int], heads: int, seed: int) -> None:
    """Let some attention heads across views start out by looking for what is alike in another view.

    Left to itself, a small network needs a long time to find this: a patch is most like itself, and nothing tells it
    which view it is in. So the first block within views behind the camera tokens copies from them whether a view is
    the reference. Queries and keys of the matching heads start equal but for that mark, which enters them with
    opposite signs.

    Args:
        network: a :class:`~depth_anything_3.model.da3.DepthAnything3Net` with camera tokens.
        blocks: of the matching heads, across views.
        heads: that many of each, from the first.
        seed: of the local generator.
    """
    backbone = network.get_submodule("backbone.pretrained")
    assert isinstance(backbone, DinoVisionTransformer)
    generator = torch.Generator().manual_seed(seed)
    # Something smooth, to measure activations on; every process has to come to the same weights.
    blotches = torch.randn(2, 3, 6, 8, generator=generator)
    images = nn.functional.interpolate(blotches, (6 * PATCH_SIZE, 8 * PATCH_SIZE), mode="bilinear")[None]
    within = next(i for i in range(backbone.alt_start, backbone.depth) if not backbone.is_global(i))
    mark = _mark_reference(backbone, within, images, generator)
    for index in blocks:
        _match(backbone.blocks[index], heads, mark, generator)


_LOOK, _MARK, _APART = 0.5, 0.35, 0.7  # how strongly patches look at the camera token, are marked by it, and differ


def _mark_reference(backbone: DinoVisionTransformer, index: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """Let block ``index`` write to every patch whether its view is the reference: along the unit vector returned."""
    channels, width = backbone.embed_dim, backbone.head_dim
    common, apart = 0.7 * torch.randn(2, channels, generator=generator)
    backbone.camera_token.copy_(torch.stack([common + apart, common - apart])[None])
    block: Any = backbone.blocks[index]
    entering = _inputs_of(backbone, index, images)
    seen = block.norm1(backbone.camera_token[0])
    shared, different = seen.mean(0), (seen[0] - seen[1]) / 2
    different -= shared * (shared @ different) / (shared @ shared)
    qkv = block.attn.qkv
    query, key, value = qkv.weight.chunk(3)
    # Rotary positions turn slow channels least: a sign that reads the same from every patch.
    slow = torch.zeros(4, width // 4)
    slow[:, 5 * width // 32 :] = 1
    sign = (torch.randn(channels // width, width, generator=generator).sign() * slow.flatten()).flatten()
    key += torch.outer(sign - key @ shared, shared) / (shared @ shared)
    key -= torch.outer(key @ different, different) / (different @ different)
    size = (block.norm1(entering) @ query.T).square().mean().sqrt()
    qkv.bias[:channels] += _LOOK * size * sign * (width / slow.sum()).sqrt()
    carrier = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    value[-width:] += torch.outer(carrier, different) / (different @ different)
    mark = torch.nn.functional.normalize(torch.randn(channels, generator=generator), dim=0)
    strength = _MARK * entering.square().mean().sqrt() * math.sqrt(channels) / 0.3 / block.ls1.gamma.mean()
    block.attn.proj.weight[:, -width:] += strength * torch.outer(mark, carrier)
    return mark


def _inputs_of(backbone: DinoVisionTransformer, index: int, images: Tensor) -> Tensor:
    found: list[Tensor] = []
    handle = backbone.blocks[index].register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    backbone(images)
    handle.remove()
    return found[0]


def _match(block: Any, heads: int, mark: Tensor, generator: torch.Generator) -> None:
    attention, channels = block.attn, len(mark)
    width = channels // attention.heads
    rows = heads * width
    weight, bias = attention.qkv.weight, attention.qkv.bias
    start = torch.randn(rows, channels, generator=generator) / math.sqrt(channels)
    toward = mark * block.norm1.weight
    along = _APART / _MARK / math.sqrt(channels) * torch.nn.functional.normalize(toward, dim=0)
    part = torch.outer(torch.randn(rows, generator=generator).sign(), along)
    weight[:rows], weight[channels : channels + rows] = start + part, start - part
    bias[:rows], bias[channels : channels + rows] = 0, 0


def from_dinov2(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Fill the backbone from a DINOv2 checkpoint.

    Args:
        network: with a backbone of the same size, in ``backbone.pretrained``.
        weights: as published by DINOv2 (names such as ``blocks.0.attn.qkv.weight``). Register tokens and the mask
            token are not used.

    Returns:
        names of the backbone's parameters that DINOv2 does not have (camera tokens, query-key norms).

    Raises:
        InputError: a shape differs: another size of backbone; or something is missing that DINOv2 has.
    """
    backbone = network.get_submodule("backbone.pretrained")
    kept = []
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            source = weights.get(name)
            if source is None:
                if not any(part in name for part in _NOT_IN_DINOV2):
                    raise InputError("weights", f"tensors without {name}", "a checkpoint of DINOv2, which has it")
                kept.append(name)
            elif source.shape != parameter.shape:
                raise InputError("weights", f"{name} of shape {tuple(source.shape)}", f"shape {tuple(parameter.shape)}")
            else:
                parameter.copy_(source)
    return kept


def read_dinov2(source: str) -> dict[str, Tensor]:
    """Tensors of a DINOv2 checkpoint under DINOv2's own names.

    Args:
        source: a ``.safetensors`` file, a folder with ``model.safetensors``, or a hub id such as
            ``facebook/dinov2-small``. Both DINOv2's names and those of the hub's copies are understood.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.exists():
        path = Path(hf_hub_download(source, "model.safetensors"))
    weights = load_file(path)
    return _from_hub_names(weights) if "embeddings.cls_token" in weights else weights


_HUB_NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    (".mlp.weights_in.", ".mlp.w12."),
    (".mlp.weights_out.", ".mlp.w3."),
    ("layernorm.", "norm."),
)


def _from_hub_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".attention.attention." in name:
            continue
        for old, new in _HUB_NAMES:
            name = name.replace(old, new)
        result[name] = tensor
    for name in [n for n in weights if n.endswith(".attention.attention.query.weight")]:
        layer = name.removeprefix("encoder.layer.").partition(".")[0]
        for kind in ("weight", "bias"):
            stem = f"encoder.layer.{layer}.attention.attention"
            parts = [weights[f"{stem}.{part}.{kind}"] for part in ("query", "key", "value")]
            result[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
    return result
