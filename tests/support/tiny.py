"""Networks of a few hundred thousand weights, and their checkpoints, for tests that load, serve and convert.

Their backbone is of a size that only this module knows, so that no other process can build them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from depth_anything_3.cfg import create_object
from depth_anything_3.model.dinov2.dinov2 import SIZES
from depth_anything_3.zoo.checkpoints import save
from depth_anything_3.zoo.seeded import seeded_tensor

TINY = "tiny-for-tests"
SIZES[TINY] = SIZES["vits"]._replace(embed_dim=32, depth=4, num_heads=2)


def _object(module: str, name: str) -> dict[str, str]:
    return {"path": f"depth_anything_3.model.{module}", "name": name, "args": "as_params"}


def _backbone(**options: Any) -> dict[str, Any]:
    return {"__object__": _object("dinov2.dinov2", "DinoV2"), "name": TINY, "out_layers": [0, 1, 2, 3], **options}


def _head(name: str, dim_in: int, output_dim: int) -> dict[str, Any]:
    sizes = {"dim_in": dim_in, "output_dim": output_dim, "features": 16, "out_channels": [8, 8, 8, 8]}
    return {"__object__": _object(name.lower(), name), **sizes}


def any_view_config() -> dict[str, Any]:
    """An any-view network: depth, confidence, rays, cameras."""
    return {
        "__object__": _object("da3", "DepthAnything3Net"),
        "net": _backbone(alt_start=2, qknorm_start=2, rope_start=2, cat_token=True),
        "head": _head("DualDPT", 64, 2),
        "cam_enc": {"__object__": _object("cam_enc", "CameraEnc"), "dim_out": 32, "trunk_depth": 1, "num_heads": 2},
        "cam_dec": {"__object__": _object("cam_dec", "CameraDec"), "dim_in": 64},
    }


def metric_config() -> dict[str, Any]:
    """A single-view network: depth and sky."""
    return {
        "__object__": _object("da3", "DepthAnything3Net"),
        "net": _backbone(cat_token=False),
        "head": _head("DPT", 32, 1),
    }


def nested_config() -> dict[str, Any]:
    """Both of the above in one."""
    return {
        "__object__": _object("da3", "NestedDepthAnything3Net"),
        "anyview": any_view_config(),
        "metric": metric_config(),
    }


def seeded_network(config: dict[str, Any]) -> nn.Module:
    """The network of ``config`` with the weights that its tensor names stand for, in evaluation mode."""
    network: nn.Module = create_object(config)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            tensor.copy_(torch.from_numpy(seeded_tensor(key, tensor.shape)))
    return network.eval()


def save_tiny(folder: Path, config: dict[str, Any] | None = None, *, model_name: str = "da3-small") -> Path:
    """Write a seeded network (the any-view one if no ``config`` is given) as a checkpoint folder."""
    config = any_view_config() if config is None else config
    return save(seeded_network(config), folder, model_name=model_name, config=config)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint folder, as :meth:`support.hub_server.HubServer.add_model` takes them."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
