"""Reference cases whose inputs and weights are made from names alone: nothing but numbers to compare is stored.

Letters and settings are those of the reference document's table of test vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
from depth_anything_3.model.dpt import DPTTrunk
from depth_anything_3.zoo.seeded import seeded_tensor
from support.networks import fill_weights, network, normal_input, normal_tensor

Arrays = dict[str, np.ndarray]


def _fields(output: Any, *names: str) -> Arrays:
    return {name: np.asarray(output[name]) for name in names}


def _any_view(tag: str, shape: tuple[int, ...], strategy: str = "saddle_balanced") -> Arrays:
    net = network("small", normal_tensor)
    output = net(normal_input(tag, 1, *shape), export_feat_layers=[2, 7], ref_view_strategy=strategy, rays=True)
    arrays = _fields(output, "depth", "depth_conf", "ray", "ray_conf", "extrinsics", "intrinsics")
    return {**arrays, **{f"feat{i}": np.asarray(output.aux[f"feat_layer_{i}"]) for i in (2, 7)}}


def _reordered(arrays: Arrays, reference: int) -> Arrays:
    """Published features of late blocks come with the reference view first; ours come in input order."""
    order = [reference, *(i for i in range(arrays["feat7"].shape[1]) if i != reference)]
    return {**arrays, "feat7": arrays["feat7"][:, order]}


def case_a(_: Arrays) -> Arrays:
    """One view."""
    return _any_view("xA", (1, 3, 42, 56))


def case_b(_: Arrays) -> Arrays:
    """Two views, upright."""
    return _any_view("xB", (2, 3, 56, 42))


def case_c(_: Arrays) -> Arrays:
    """Five views; the balanced rule chooses view 3."""
    return _reordered(_any_view("xC", (5, 3, 42, 56)), 3)


def case_d(_: Arrays) -> Arrays:
    """Four views; the middle one is view 2."""
    return _reordered(_any_view("xD", (4, 3, 42, 56), "middle"), 2)


def case_e(given: Arrays) -> Arrays:
    """Four views with poses."""
    net = network("small", normal_tensor)
    assert isinstance(net, DepthAnything3Net) and net.cam_enc is not None
    extrinsics = torch.from_numpy(given["ext_in"])
    intrinsics = torch.tensor([[50.0, 0, 27], [0, 45, 22], [0, 0, 1]]).expand(1, 4, 3, 3)
    output = net(normal_input("xE", 1, 4, 3, 42, 56), extrinsics, intrinsics)
    token = net.cam_enc(extrinsics, intrinsics, (42, 56))
    return {"cam_token": np.asarray(token), **_fields(output, "depth", "depth_conf", "extrinsics", "intrinsics")}


def case_f(_: Arrays) -> Arrays:
    """The metric network, with some sky."""
    return _fields(network("metric", normal_tensor)(normal_input("xF", 1, 2, 3, 42, 56)), "depth", "sky")


def case_g(_: Arrays) -> Arrays:
    """The nested network."""
    output = network("nested", normal_tensor)(normal_input("xG", 1, 3, 3, 42, 56))
    return {
        **_fields(output, "depth", "depth_conf", "extrinsics", "intrinsics"),
        "scale_factor": np.asarray(output.scale_factor)[0],
    }


def case_h(_: Arrays) -> Arrays:
    """Gaussians."""
    output = network("gaussians", normal_tensor)(normal_input("xH", 1, 2, 3, 28, 42), infer_gs=True)
    names = ("means", "scales", "rotations", "harmonics", "opacities")
    gaussians = {name: np.asarray(getattr(output.gaussians, name)) for name in names}
    return {**gaussians, **_fields(output, "extrinsics", "intrinsics", "depth")}


def case_i(_: Arrays) -> Arrays:
    """A bare transformer with gated layers whose alternating part starts at an odd block."""
    vit = DinoVisionTransformer(
        embed_dim=128,
        depth=20,
        num_heads=2,
        swiglu=True,
        out_layers=(13, 15, 17, 19),
        alt_start=13,
        qknorm_start=13,
        rope_start=13,
    )
    fill_weights(vit, normal_tensor)
    layers, _features = vit(normal_input("xI", 1, 4, 3, 42, 56))
    first, last = layers[0], layers[-1]
    return {
        "tok13": np.asarray(first.patches),
        "cam13": np.asarray(first.camera),
        "tok19": np.asarray(last.patches),
        "cam19": np.asarray(last.camera),
    }


def case_u(_: Arrays) -> Arrays:
    """The position table at two grids, and the UV embedding."""
    vit = DinoVisionTransformer(embed_dim=8, depth=1, num_heads=1, out_layers=(0,))
    vit.pos_embed.data = normal_input("pe", 1, 1370, 8)
    trunk = DPTTrunk(8, 1, 8, (8, 8, 8, 8), norm=False, uv_embedding=True)
    embedded = trunk.add_uv(torch.zeros(1, 16, 3, 4), (42, 56))
    return {
        "posembed_3x4": np.asarray(vit.positions(3, 4)),
        "posembed_36x36_corner": np.asarray(vit.positions(36, 36)[:, [1, 2, 36, 37, 1296]]),
        "uv_3x4x16": np.asarray(embedded[0].permute(1, 2, 0)),
    }


def case_full_table(_: Arrays) -> Arrays:
    """518 x 518 pixels, where the position table is used as it is stored; uniform weights."""
    pixels = np.random.RandomState(5).randint(0, 256, (518, 518, 3)).astype(np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    image = ((pixels.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    output = network("small", seeded_tensor)(torch.from_numpy(np.ascontiguousarray(image))[None, None])
    return {
        "depth": np.asarray(output.depth)[..., ::7, ::7],
        "depth_conf": np.asarray(output.depth_conf)[..., ::7, ::7],
        **_fields(output, "pose_encoding"),
    }


CASES = ("A", "B", "C", "D", "E", "F", "G", "H", "I", "u")
EXTRA_CASES = ("full_table",)


def run_case(case: str, given: Arrays) -> Arrays:
    """Every array of a case; ``given`` holds the inputs that are stored with it."""
    with torch.inference_mode():
        arrays: Arrays = globals()[f"case_{case.lower()}"](given)
    return arrays
