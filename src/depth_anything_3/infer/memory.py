"""How much memory an inference will take, roughly, before it runs."""

from __future__ import annotations

from depth_anything_3.infer.runner import Network
from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net
from depth_anything_3.model.dpt import CHUNK_VIEWS
from depth_anything_3.types.options import PATCH_SIZE

_BYTES = 4
_PROCESS = 350_000_000  # interpreter, torch and its kernels
_BLOCK_WIDTHS = 12  # token-wide tensors alive inside a block: stream, norm, qkv, attention, hidden layer
_PYRAMID_MAPS = 3  # feature maps at 8/14 of the image alive while the head fuses
_PIXEL_VALUES = 24  # per pixel and view: images, maps and their copies in the prediction


def estimate_memory(net: Network, views: int, image_hw: tuple[int, int]) -> int:
    """Estimated peak of the process in bytes, on the CPU in float32, for one scene.

    A rough figure, good for choosing between a laptop and a server; the network may be on the meta device.
    """
    weights = _BYTES * sum(p.numel() for p in net.parameters())
    parts = [net.da3, net.da3_metric] if isinstance(net, NestedDepthAnything3Net) else [net]
    pixels = image_hw[0] * image_hw[1]
    return (
        _PROCESS + weights + max(_activations(part, views, pixels) for part in parts) + _PIXEL_VALUES * views * pixels
    )


def most_views(net: Network, image_hw: tuple[int, int], budget: int, *, limit: int) -> int:
    """The most views of one scene, up to ``limit`` and at least 1, whose estimate fits ``budget`` bytes."""
    low, high = 1, max(limit, 1)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_memory(net, middle, image_hw) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _activations(net: DepthAnything3Net, views: int, pixels: int) -> int:
    vit = net.backbone.pretrained
    tokens = views * (1 + pixels // PATCH_SIZE**2)
    kept = len(vit.out_layers) * (2 if vit.cat_token else 1)
    features = net.head.scratch.output_conv1.in_channels
    at_pixels = 2 * (features // 2) + 32
    at_pyramid = _PYRAMID_MAPS * features * (8 / PATCH_SIZE) ** 2
    head = min(views, CHUNK_VIEWS) * pixels * (at_pixels + at_pyramid)
    return int(_BYTES * (tokens * vit.embed_dim * kept + max(tokens * vit.embed_dim * _BLOCK_WIDTHS, head)))
