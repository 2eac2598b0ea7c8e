"""Networks with deterministic weights, and the inputs that reference numbers belong to.

Two rules for weights are in use: ``uniform`` (:mod:`depth_anything_3.zoo.seeded`) and ``normal``, which is written
down here. Both depend on names and shapes alone.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.types.output import NetOutput
from depth_anything_3.zoo.seeded import seeded_tensor

Fill = Callable[[str, tuple[int, ...]], np.ndarray]

SMALL_HEAD = {"features": 64, "out_channels": [48, 96, 192, 384]}


def node(module: str, kind: str, /, **arguments: Any) -> dict[str, Any]:
    """A configuration node for a class of the package."""
    return {"__object__": {"path": f"depth_anything_3.model.{module}", "name": kind, "args": "as_params"}, **arguments}


def preset(name: str) -> dict[str, Any]:
    """The configuration of a preset."""
    return load_config(MODEL_REGISTRY[name])


def small_metric() -> dict[str, Any]:
    """A metric network of the smallest published size."""
    net = node(
        "dinov2.dinov2",
        "DinoV2",
        name="vits",
        out_layers=[2, 5, 8, 11],
        alt_start=-1,
        qknorm_start=-1,
        rope_start=-1,
        cat_token=False,
    )
    return node("da3", "DepthAnything3Net", net=net, head=node("dpt", "DPT", dim_in=384, output_dim=1, **SMALL_HEAD))


def small_gaussians() -> dict[str, Any]:
    """da3-small with a Gaussian head."""
    return {
        **preset("da3-small"),
        "gs_head": node("gsdpt", "GSDPT", dim_in=768, output_dim=38, **SMALL_HEAD),
        "gs_adapter": {**preset("da3-giant")["gs_adapter"]},
    }


def small_nested() -> dict[str, Any]:
    """da3-small brought to metres by the small metric network."""
    return node("da3", "NestedDepthAnything3Net", anyview=preset("da3-small"), metric=small_metric())


def miniature(**changes: Any) -> dict[str, Any]:
    """The smallest any-view network that has every part, for tests of behaviour rather than numbers.

    It is da3-small with a head of a sixth of the width.
    """
    config = preset("da3-small")
    config["head"] = {**config["head"], "features": 32, "out_channels": [16, 16, 32, 32]}
    return {**config, **changes}


CONFIGS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "mini": miniature,
    "small": lambda: preset("da3-small"),
    "metric": small_metric,
    "nested": small_nested,
    "gaussians": small_gaussians,
}


@functools.lru_cache(maxsize=4)
def network(kind: str, fill: Fill = seeded_tensor) -> nn.Module:
    """The seeded network of one of :data:`CONFIGS`; shared, so leave it as it is."""
    return build(CONFIGS[kind](), fill)


def run(kind: str, images: Tensor, **flags: Any) -> NetOutput:
    """The output of one of :data:`CONFIGS` in inference mode."""
    net = network(kind)  # made outside of inference mode, which would mark its weights
    with torch.inference_mode():
        output: NetOutput = net(images, **flags)
    return output


def build(config: Mapping[str, Any], fill: Fill = seeded_tensor) -> nn.Module:
    """The network of a configuration with deterministic weights, in evaluation mode."""
    with torch.device("meta"):
        network: nn.Module = create_object(config)
    return fill_weights(network.to_empty(device="cpu"), fill)


def fill_weights(network: nn.Module, fill: Fill = seeded_tensor) -> nn.Module:
    """Overwrite every tensor by what the rule says for its name and shape."""
    state = {name: torch.from_numpy(fill(name, tuple(t.shape))) for name, t in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


def normal_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The ``normal`` rule: numpy's legacy normal stream seeded with the CRC-32 of the name, scaled by kind."""
    name = re.sub(r"output_conv2_aux\.[123]\.2\.", "output_conv2_aux.0.2.", name)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "bias":
        values = 0.1 * noise
    elif last == "gamma":
        values = 0.3 + 0.05 * noise
    elif last in ("cls_token", "camera_token", "pos_embed"):
        values = 0.5 * noise
    elif len(shape) == 1:
        values = 1 + 0.1 * noise
    else:
        values = noise / math.sqrt(math.prod(shape[1:]))
    result = values.astype(np.float32)
    return result + np.float32(1.5) if name.endswith("fc_fov.0.bias") else result


def normal_input(tag: str, *shape: int) -> Tensor:
    """A network input of the ``normal`` rule, taken as already normalised."""
    noise = np.random.RandomState(zlib.crc32(tag.encode())).standard_normal(shape)
    return torch.from_numpy(noise.astype(np.float32))
