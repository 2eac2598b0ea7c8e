"""Put a trained checkpoint into the package, in half precision and in shards.

    python tools/bundle.py TRAINED_FOLDER da3-tiny

    python tools/bundle.py TRAINED_FOLDER da3-gs-tiny --base da3-tiny

The configuration becomes the preset's name, so the network must be of exactly that preset. With ``--base`` only what
that bundled checkpoint lacks is written; everything else must be as it is there. The model card beside it is written by
hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from depth_anything_3._files import atomic_path
from depth_anything_3.zoo.bundled import FOLDER, write_shards
from depth_anything_3.zoo.checkpoints import BASE, build_network, resolve
from depth_anything_3.zoo.identify import config_of


def shared_with(network: nn.Module, base: str) -> set[str]:
    """Keys of the tensors that the bundled base holds; ends the program where one of them differs."""
    theirs, ours = build_network(resolve(f"bundled/{base}")).state_dict(), network.state_dict()
    for key, tensor in theirs.items():
        if key not in ours or not torch.equal(ours[key].half(), tensor.half()):
            raise SystemExit(f"{key} is not as it is in {base}: a head belongs to the network that it was trained on")
    return set(theirs)


def main() -> None:
    """Read, check, write."""
    parser = argparse.ArgumentParser(description="Put a trained checkpoint into the package.")
    parser.add_argument("trained", type=Path, help="folder that training wrote")
    parser.add_argument("preset", help="da3-tiny, da3metric-tiny or da3-gs-tiny")
    parser.add_argument("--base", help="name of the bundled checkpoint that holds all but a further head")
    parser.add_argument(
        "--camera-sigma",
        type=float,
        nargs=2,
        metavar=("ROTATION", "FOCAL"),
        help="how far off its cameras are, in radians and in the log of the focal length; see the held-out report",
    )
    arguments = parser.parse_args()
    checkpoint = resolve(arguments.trained)
    if checkpoint.config != config_of(arguments.preset):
        raise SystemExit(f"{arguments.trained} holds another network than {arguments.preset}")
    network = build_network(checkpoint)
    present = shared_with(network, arguments.base) if arguments.base else set()
    target = FOLDER / arguments.preset
    target.mkdir(parents=True, exist_ok=True)
    for path in write_shards(network, target, without=present):
        print(f"{path.name}  {path.stat().st_size / 1e6:.1f} MB")
    config: dict[str, Any] = {"model_name": arguments.preset, "process_res": checkpoint.process_res}
    if arguments.base:
        config["parts"] = {BASE: f"../{arguments.base}"}
    if arguments.camera_sigma is not None:
        config["camera_sigma"] = arguments.camera_sigma
    with atomic_path(target / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
