"""Weights to start from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.tiny import any_view_config, metric_config, seeded_network
from torch import Tensor, nn

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.errors import InputError
from depth_anything_3.model.attention_tap import tapped
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.vision_transformer import TRAINED_GRID, DinoVisionTransformer
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.train.initialise import (
    POSITION_RMS,
    from_dinov2,
    from_scratch,
    prepare_matching,
    read_dinov2,
    sincos_positions,
    transfer,
)


def preset(name: str = "da3-tiny") -> DepthAnything3Net:
    network: DepthAnything3Net = create_object(load_config(MODEL_REGISTRY[name]))
    return network


@pytest.fixture(scope="module")
def fresh() -> DepthAnything3Net:
    """da3-tiny from scratch."""
    network = preset()
    from_scratch(network, 0)
    return network


def images(views: int = 2) -> Tensor:
    return torch.randn(2, views, 3, 70, 98, generator=torch.Generator().manual_seed(0))


# From scratch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [any_view_config, metric_config])
def test_every_parameter_is_a_function_of_the_seed_alone(config) -> None:  # type: ignore[no-untyped-def]
    first, second, other = (create_object(config()) for _ in range(3))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(math.nan)
    state = torch.get_rng_state()
    from_scratch(first, 3)
    from_scratch(second, 3)
    from_scratch(other, 4)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, a), b, c in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        if name.endswith("weight") and a.ndim > 1:
            assert not torch.equal(a, c), name


@contextmanager
def watched(network: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, float]]:
    """Standard deviations of what some modules give."""
    seen: dict[str, float] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: seen.__setitem__(name, float(o.detach().std()))
        )
        for name in names
    ]
    yield seen
    for handle in handles:
        handle.remove()


PLACES = (
    *(f"head.projects.{i}" for i in range(4)),
    *(f"head.scratch.layer{i}_rn" for i in range(1, 5)),
    *(f"head.scratch.refinenet{i}{aux}" for i in range(1, 5) for aux in ("", "_aux")),
    "head.scratch.output_conv1",
    "head.scratch.output_conv1_aux.3",
    "head.scratch.output_conv2.0",
)


def test_the_signal_keeps_its_size_through_the_head(fresh: DepthAnything3Net) -> None:
    by_default = preset()
    with torch.no_grad(), watched(fresh, PLACES) as ours, watched(by_default, PLACES) as theirs:
        fresh.encode(images(), rays=True)
        by_default.encode(images(), rays=True)
    assert len(ours) == len(PLACES)
    for name, std in ours.items():
        assert 1 / 3 < std < 3, f"{name}: {std:.3f}"
    assert theirs["head.scratch.output_conv1"] < 0.2  # what PyTorch's own initialisation does
    assert theirs["head.scratch.layer1_rn"] < 0.2


def test_the_first_guess_is_unit_depth_straight_rays_and_one_radian(fresh: DepthAnything3Net) -> None:
    with torch.no_grad():
        encoded = fresh.encode(images(), rays=True)
    assert float(encoded.depth.log().mean()) == pytest.approx(0, abs=0.5)
    assert float(encoded.depth.log().std()) < 0.7
    ray = encoded.ray.flatten(0, 3).mean(0)
    torch.testing.assert_close(ray, torch.tensor([0.0, 0, 1, 0, 0, 0]), rtol=0, atol=0.5)
    pose = encoded.pose_encoding.flatten(0, 1).mean(0)
    torch.testing.assert_close(pose, torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1]), rtol=0, atol=0.6)
    # The biases alone say it exactly.
    scratch, decoder = fresh.head.scratch, fresh.cam_dec
    assert scratch.output_conv2[2].bias.tolist() == [0, 0]
    assert scratch.output_conv2_aux[3][5].bias.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert decoder.fc_t.bias.tolist() == [0, 0, 0]
    assert decoder.fc_qvec.bias.tolist() == [0, 0, 0, 1]
    assert decoder.fc_fov[0].bias.tolist() == [1, 1]


def test_no_unit_of_the_fields_of_view_or_the_sky_begins_dead(fresh: DepthAnything3Net) -> None:
    with torch.no_grad():
        assert (fresh.encode(images()).pose_encoding[..., 7:] > 0.1).all()
    network = create_object(metric_config())
    from_scratch(network, 0)
    with torch.no_grad():
        assert (network.encode(images(1)).sky > 0).float().mean() > 0.5


def test_gradients_reach_every_part(fresh: DepthAnything3Net) -> None:
    encoded = fresh.encode(images()[:1], rays=True)
    parts = (encoded.depth, encoded.depth_conf, encoded.ray, encoded.ray_conf, encoded.pose_encoding)
    sum(part.square().mean() for part in parts).backward()
    silent = [n for n, p in fresh.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    fresh.zero_grad(set_to_none=True)
    # The camera encoder was not asked, and of the auxiliary levels only the last one is ever read.
    unused = ("cam_enc.", *(f"head.scratch.output_conv{k}_aux.{i}." for k in (1, 2) for i in range(3)))
    norm = "head.scratch.output_conv2_aux.0.2."  # which all levels share
    known = ("refinenet4.resConfUnit1", "refinenet4_aux.resConfUnit1", "backbone.pretrained.cls_token")
    assert [n for n in silent if not n.startswith(unused) and not any(k in n for k in known)] == []
    assert not any(n.startswith(norm) for n in silent)


# Positions -------------------------------------------------------------------------------------------------


def test_positions_are_as_large_as_they_should_be_and_tell_places_apart() -> None:
    table = sincos_positions(192)
    assert table.shape == (1, 1 + TRAINED_GRID**2, 192)
    assert (table[:, 0] == 0).all()
    assert float(table[:, 1:].square().mean().sqrt()) == pytest.approx(POSITION_RMS, rel=1e-3)
    distance = torch.cdist(table[0, 1:], table[0, 1:])
    distance.fill_diagonal_(math.inf)
    assert float(distance.min()) > 0.5


@pytest.mark.parametrize("grid", [(6, 8), (9, 12), (36, 36), (50, 30)])
def test_positions_are_the_same_function_on_every_grid(fresh: DepthAnything3Net, grid: tuple[int, int]) -> None:
    """The backbone resamples with an offset of a tenth of a patch, so that is where the function is evaluated."""
    backbone = fresh.backbone.pretrained
    sampled = backbone.positions(*grid).detach()[0, 1:].view(*grid, 2, 2, -1)  # rows and columns, sines and cosines
    frequency = math.pi * 2 ** torch.linspace(0, 4.5, backbone.embed_dim // 4)
    rows, columns = ((torch.arange(n) + 0.5) / (n + 0.1) for n in grid)
    size = POSITION_RMS * math.sqrt(2)
    error = torch.stack(
        [
            sampled[:, :, 0] - size * _waves(rows, frequency)[:, None],
            sampled[:, :, 1] - size * _waves(columns, frequency)[None],
        ]
    )
    low = len(frequency) * 2 // 3
    assert float(error[..., :low].abs().max()) < 0.1 * size
    assert float(error.square().mean().sqrt()) < 0.15 * POSITION_RMS


def _waves(place: Tensor, frequency: Tensor) -> Tensor:
    angle = place[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], 1)


# From another network --------------------------------------------------------------------------------------


def test_a_network_takes_over_its_own_weights() -> None:
    source, network = seeded_network(any_view_config()), create_object(any_view_config())
    assert transfer(network, source.state_dict()) == []
    for (name, a), b in zip(network.named_parameters(), source.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_an_any_view_network_takes_over_a_teacher() -> None:
    teacher, network = seeded_network(metric_config()), create_object(any_view_config())
    from_scratch(network, 0)
    before = {name: p.clone() for name, p in network.named_parameters()}
    given = {name: p.clone() for name, p in teacher.state_dict().items()}
    kept = transfer(network, teacher.state_dict())
    assert all(torch.equal(p, given[name]) for name, p in teacher.state_dict().items())
    now = dict(network.named_parameters())
    for name, tensor in given.items():
        if name in now and now[name].shape == tensor.shape:
            assert torch.equal(now[name], tensor), name
    # The half of the token that means the same gets the teacher's weights, the other has no say.
    x = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(1))
    for old, new in zip(teacher.head.projects, network.head.projects, strict=True):
        torch.testing.assert_close(new(torch.cat([noise, x], 1)), old(x))
    last = "head.scratch.output_conv2.2"
    assert torch.equal(now[f"{last}.weight"][:1], given[f"{last}.weight"])
    assert torch.equal(now[f"{last}.weight"][1:], before[f"{last}.weight"][1:])
    # Kept is what only the any-view network has.
    for name in kept:
        if not name.startswith(last):
            assert torch.equal(now[name], before[name]), name
    expected = {n for n in now if n not in given} | {f"{last}.weight", f"{last}.bias"}
    assert set(kept) == expected | {n for n in kept if n.startswith("head.norm")}
    assert any(n.startswith("cam_dec.") for n in kept)
    assert "backbone.pretrained.blocks.3.attn.q_norm.weight" in kept
    assert "backbone.pretrained.blocks.0.attn.qkv.weight" not in kept


# From DINOv2 -----------------------------------------------------------------------------------------------


class Around(nn.Module):
    """A backbone where networks have it."""

    def __init__(self, swiglu: bool, alt_start: int = -1) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.pretrained = DinoVisionTransformer(
            embed_dim=64 if swiglu else 384,
            depth=2,
            num_heads=1 if swiglu else 6,
            out_layers=[0, 1],
            swiglu=swiglu,
            alt_start=alt_start,
            qknorm_start=alt_start,
            rope_start=alt_start,
            cat_token=False,
        )


def published(swiglu: bool) -> dict[str, Tensor]:
    """A checkpoint under DINOv2's names, with what we do not use."""
    g = torch.Generator().manual_seed(0)
    state = Around(swiglu).backbone.pretrained.state_dict()
    weights = {name: 0.05 * torch.randn(t.shape, generator=g) for name, t in state.items()}
    width = weights["cls_token"].shape[-1]
    return {**weights, "mask_token": torch.zeros(1, width), "register_tokens": torch.zeros(1, 4, width)}


def as_on_the_hub(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same checkpoint as the hub's library names it, written down from its side."""
    hub = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.mask_token": weights["mask_token"],
        "embeddings.register_tokens": weights["register_tokens"],
        "embeddings.position_embeddings": weights["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": weights["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    plain = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attention.output.dense": "attn.proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
        "mlp.weights_in": "mlp.w12",
        "mlp.weights_out": "mlp.w3",
    }
    for i in range(2):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        for kind in ("weight", "bias"):
            for new, old in plain.items():
                if f"{ours}.{old}.{kind}" in weights:
                    hub[f"{theirs}.{new}.{kind}"] = weights[f"{ours}.{old}.{kind}"]
            thirds = weights[f"{ours}.attn.qkv.{kind}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), thirds, strict=True):
                hub[f"{theirs}.attention.attention.{part}.{kind}"] = tensor.clone()
        for n in (1, 2):
            hub[f"{theirs}.layer_scale{n}.lambda1"] = weights[f"{ours}.ls{n}.gamma"]
    return hub


@pytest.mark.parametrize("naming", ["original", "hub"])
@pytest.mark.parametrize("swiglu", [False, True])
def test_dinov2_fills_the_backbone_under_both_namings(tmp_path: Path, swiglu: bool, naming: str) -> None:
    weights = published(swiglu)
    file = tmp_path / "model.safetensors"
    save_file(weights if naming == "original" else as_on_the_hub(weights), file)
    network = Around(swiglu)
    assert from_dinov2(network, read_dinov2(str(tmp_path if swiglu else file))) == []
    for name, tensor in network.backbone.pretrained.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_what_dinov2_does_not_have_stays() -> None:
    network = Around(False, alt_start=1)
    token = network.backbone.pretrained.camera_token.clone()
    kept = from_dinov2(network, published(False))
    norms = {f"blocks.1.attn.{n}_norm.{kind}" for n in "qk" for kind in ("weight", "bias")}
    assert set(kept) == {"camera_token"} | norms
    assert torch.equal(network.backbone.pretrained.camera_token, token)


def test_another_size_and_other_names_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        from_dinov2(Around(True), published(False))
    with pytest.raises(InputError, match="DINOv2"):
        from_dinov2(Around(False), {f"teacher.{name}": t for name, t in published(False).items()})


# Matching --------------------------------------------------------------------------------------------------


def preference(network: DepthAnything3Net, block: int) -> Tensor:
    """By how much the matching heads prefer a patch in the other view to the same patch in their own, if both views
    show the same: (heads, views, patches)."""
    picture = torch.randn(1, 1, 3, 56, 84, generator=torch.Generator().manual_seed(4)).expand(-1, 2, -1, -1, -1)
    with torch.no_grad(), tapped(network.backbone.pretrained, [block]) as (tap,):
        network.encode(picture)
    logits = tap.logits(2, slice(0, 2))[0].unflatten(-1, (2, -1)).unflatten(-3, (2, -1))[:, :, 1:, :, 1:]
    same = logits.diagonal(dim1=2, dim2=4)  # (heads, view, other view, patches)
    return torch.stack([same[:, 0, 1] - same[:, 0, 0], same[:, 1, 0] - same[:, 1, 1]], 1)


def test_prepared_attention_prefers_what_is_alike_in_the_other_view() -> None:
    network = preset()
    from_scratch(network, 0)
    assert preference(network, 5).mean().abs() < 0.5
    prepare_matching(network, blocks=(5, 7), heads=2, seed=0)
    prepared = preference(network, 5)
    assert prepared.mean() > 2  # logits: e**2 times the attention
    assert (prepared > 0).float().mean() > 0.7


def test_preparing_changes_only_what_matches_and_marks() -> None:
    network = preset()
    from_scratch(network, 0)
    before = {name: p.clone() for name, p in network.named_parameters()}
    prepare_matching(network, blocks=(5, 7), heads=2, seed=0)
    changed = {n.removeprefix("backbone.pretrained.") for n, p in network.named_parameters() if (p != before[n]).any()}
    assert changed == {
        "camera_token",
        "blocks.4.attn.qkv.weight",
        "blocks.4.attn.qkv.bias",
        "blocks.4.attn.proj.weight",
        "blocks.5.attn.qkv.weight",
        "blocks.7.attn.qkv.weight",
    }
    qkv = network.backbone.pretrained.blocks[5].attn.qkv.weight
    assert torch.equal(qkv[128:192], before["backbone.pretrained.blocks.5.attn.qkv.weight"][128:192])  # third head


def test_preparing_is_a_function_of_the_seed() -> None:
    weights = []
    for seed in (1, 1, 2):
        network = preset()
        from_scratch(network, 0)
        torch.rand(3)
        prepare_matching(network, blocks=(5, 7), heads=2, seed=seed)
        weights.append(network.backbone.pretrained.blocks[7].attn.qkv.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
