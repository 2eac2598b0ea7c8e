"""The network, called with tensors, gives every number of the reference cases in ``../shared/golden``."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.compare import assert_close, assert_same_fov, assert_same_poses, assert_same_quaternions
from support.networks import build, preset
from torch import Tensor

from depth_anything_3.cfg import load_config
from depth_anything_3.types.output import NetOutput

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
CASES = (
    [case for case in json.loads((GOLDEN / "index.json").read_text())["cases"] if str(case["file"]).startswith("net__")]
    if GOLDEN.is_dir()
    else []
)
SKY_THRESHOLD_MARGIN = 1e-4
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

pytestmark = pytest.mark.skipif(
    not CASES, reason="no reference data: there is no folder 'shared' beside the repository"
)


@functools.lru_cache(maxsize=1)
def network(config: str, overrides: str) -> torch.nn.Module:
    net = build(load_config(GOLDEN / "configs" / f"{config}.yaml") if "da3" not in config else preset(config))
    if overrides:
        with np.load(GOLDEN / overrides) as file:
            state = net.state_dict()
            for name in file.files:
                state[name.removeprefix("model.")].copy_(torch.from_numpy(file[name]))
    return net


def images(arrays: dict[str, np.ndarray]) -> Tensor:
    if "in_image" in arrays:
        return torch.from_numpy(arrays["in_image"])
    pixels = arrays.get("in_image_u8")
    if pixels is None:  # the only other way in which an input is given: by a seed
        seed = int(arrays["in_noise_seed"])
        pixels = np.random.RandomState(seed).randint(0, 256, (518, 518, 3)).astype(np.uint8)[None]
    return ((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD)[None]


def camera_input(arrays: dict[str, np.ndarray], name: str) -> Tensor | None:
    return torch.from_numpy(arrays[name]).reshape(1, -1, *arrays[name].shape[-2:]) if name in arrays else None


def run(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> NetOutput:
    net = network(case["config"], case["weights"].partition("+ ")[2])
    with torch.inference_mode():
        return net(
            images(arrays),
            camera_input(arrays, "in_extrinsics"),
            camera_input(arrays, "in_intrinsics"),
            rays="metric" not in case["config"],
            **case["flags"],
        )


def produced(output: NetOutput, name: str) -> np.ndarray | None:
    """Our value for a stored array; None for intermediate values that have no name here."""
    stride = int(name[-1]) if re.search(r"_s[24]$", name) else 1
    name = re.sub(r"_s[24]$", "", name)
    aliases = {
        "dbg_head_ray": "ray",
        "dbg_head_ray_conf": "ray_conf",
        "dbg_pose_enc": "pose_encoding",
        "pose_enc": "pose_encoding",
        "dbg_metric_head_sky": "sky",
        "dbg_head_sky": "sky",
    }
    name = aliases.get(name, name)
    if name.startswith("aux_"):
        value: Any = output.aux[name.removeprefix("aux_")]
    elif name.startswith("gs_"):
        value = getattr(output.gaussians, name.removeprefix("gs_"))
    else:
        value = output.get(name)
    if value is None:
        return None
    if name == "scale_factor":
        value = value[0]
    return np.asarray(value)[:, :, ::stride, ::stride] if stride > 1 else np.asarray(value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"].removeprefix("net__").removesuffix(".npz"))
def test_golden(case: dict[str, Any]) -> None:
    with np.load(GOLDEN / case["file"]) as file:
        arrays = {name: file[name] for name in file.files}
    output = run(case, arrays)
    height, width = output.depth.shape[-2:]
    compared = set()
    for key, expected in arrays.items():
        name = key.removeprefix("out_")
        value = produced(output, name) if key.startswith("out_") else None
        if value is None:
            continue
        compared.add(name)
        if "noise518" in case["file"] and name in ("depth", "depth_conf"):
            value = value[..., ::7, ::7]
        undecided: Any = False
        if name in ("depth", "depth_conf") and output.sky is not None:
            undecided = (output.sky - 0.3).abs().numpy() < SKY_THRESHOLD_MARGIN
        if name == "intrinsics":
            assert_same_fov(value, expected, height, width, name)
        elif name == "extrinsics":
            assert_same_poses(value, expected, name)
        elif name == "gs_rotations":
            assert_same_quaternions(value, expected, name)
        else:
            assert_close(value, expected, name, undecided)
    wanted = {key.removeprefix("out_") for key in arrays if key.startswith("out_") and "dbg" not in key}
    assert wanted <= compared, f"not compared: {wanted - compared}"


def test_every_case_is_found() -> None:
    assert len(CASES) >= 29
