"""What must hold for any weights: no scene sees its batch mates, chunks change nothing, nothing is computed in vain."""

from __future__ import annotations

import functools

import pytest
import torch
from support.networks import build, miniature, network, normal_input, run
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from depth_anything_3.model.chunking import Chunking
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer

TOLERANCE = 2e-5  # of the largest value: batches of another size take other paths through the matrix kernels


OF_RAYS = 10 * TOLERANCE  # rays of random weights hardly say where a camera is: its fit enlarges their rounding


def assert_equal_tensors(a: Tensor, b: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    assert a.shape == b.shape, what
    assert (a - b).abs().max() <= tolerance * b.abs().max() + 1e-6, f"{what}: {(a - b).abs().max()}"


@pytest.mark.parametrize(
    ("kind", "views", "flags"),
    [
        ("mini", 4, {"rays": True, "export_feat_layers": [0, 7]}),
        ("mini", 9, {}),
        ("mini", 3, {"use_ray_pose": True}),
        ("mini", 3, {"ref_view_strategy": "saddle_sim_range"}),
        ("metric", 9, {}),
        ("nested", 3, {}),
        ("gaussians", 9, {"infer_gs": True}),
    ],
)
def test_a_batch_of_scenes_equals_the_scenes_one_by_one(kind: str, views: int, flags: dict[str, object]) -> None:
    images = normal_input(f"scenes of {kind}", 3, views, 3, 28, 42)
    together = run(kind, images, **flags)
    for i in range(len(images)):
        alone = run(kind, images[i : i + 1], **flags)
        assert alone.keys() == together.keys()
        for name in ("depth", "depth_conf", "sky", "extrinsics", "pose_encoding", "ray", "scale_factor"):
            if name in alone:
                tolerance = OF_RAYS if name == "extrinsics" and "use_ray_pose" in flags else TOLERANCE
                assert_equal_tensors(together[name][i], alone[name][0], f"{name} of scene {i}", tolerance)
        for name, feature in alone.aux.items():
            assert_equal_tensors(together.aux[name][i], feature[0], name)
        if alone.gaussians is not None and together.gaussians is not None:
            assert_equal_tensors(together.gaussians.means[i], alone.gaussians.means[0], "means")


@pytest.mark.parametrize("kind", ["mini", "metric", "gaussians"])
def test_chunked_heads_equal_unchunked_ones(kind: str) -> None:
    net, images = network(kind), normal_input("chunks", 1, 5, 3, 28, 42)
    assert isinstance(net, DepthAnything3Net)
    with torch.inference_mode():
        layers, _ = net.backbone(images)
        heads = [lambda chunk: net.head(layers, (28, 42), chunking=Chunking(head_views=chunk))]
        if net.gs_head is not None:
            heads.append(lambda chunk: net.gs_head(layers, images, chunking=Chunking(head_views=chunk)))  # type: ignore[misc]
        for head in heads:
            whole = head(100)
            for chunk in (1, 2, 4):
                for a, b in zip(head(chunk), whole, strict=True):
                    if b is not None:
                        assert_equal_tensors(a, b, f"chunk {chunk}")


def flops(run: object, *args: object) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run(*args)  # type: ignore[operator]
    return counter.get_total_flops()


def test_one_view_costs_what_a_plain_vision_transformer_costs() -> None:
    size = {"embed_dim": 96, "depth": 6, "num_heads": 3, "out_layers": (5,)}
    alternating = DinoVisionTransformer(**size, alt_start=2, qknorm_start=2, rope_start=2).eval()  # type: ignore[arg-type]
    plain = DinoVisionTransformer(**size, cat_token=False).eval()  # type: ignore[arg-type]
    image = normal_input("cost", 1, 1, 3, 56, 70)
    assert flops(alternating, image) == flops(plain, image) > 0


def test_rays_cost_nothing_unless_asked_for_and_change_nothing() -> None:
    net, images = network("mini"), normal_input("rays", 1, 2, 3, 42, 56)
    assert isinstance(net, DepthAnything3Net)
    assert flops(net.encode, images) < 0.95 * flops(functools.partial(net.encode, rays=True), images)
    without, with_rays = run("mini", images), run("mini", images, rays=True)
    assert "ray" not in without and "ray_conf" not in without
    assert with_rays["ray"].shape == (1, 2, 24, 32, 6) and with_rays["ray_conf"].shape == (1, 2, 24, 32)
    for name in without.keys():  # noqa: SIM118
        if isinstance(without[name], Tensor):
            assert torch.equal(without[name], with_rays[name]), name


@pytest.mark.parametrize(("kind", "flags"), [("mini", {"use_ray_pose": True}), ("nested", {}), ("metric", {})])
def test_two_runs_are_bit_identical_and_leave_the_global_generator_alone(kind: str, flags: dict[str, object]) -> None:
    images = normal_input("twice", 1, 3, 3, 56, 56)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(kind, images, **flags)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second = run(kind, images, **flags)
    for name in first.keys():  # noqa: SIM118
        if isinstance(first[name], Tensor):
            assert torch.equal(first[name], second[name]), name


def test_views_without_choice_of_reference_permute_with_their_images() -> None:
    """With poses given, views keep their order, and moving two of them moves their results and nothing else."""
    images = normal_input("permute", 1, 3, 3, 28, 42)
    order = [2, 0, 1]
    first = run("mini", images, ref_view_strategy="saddle_balanced")
    moved = run("mini", images[:, order], ref_view_strategy="saddle_balanced")
    # The rule looks at the views, not at their order, so the same view is the reference; the rest may be permuted.
    assert_equal_tensors(moved.depth, first.depth[:, order], "depth")


def test_encode_is_traced_without_data_dependent_control_flow() -> None:
    net = network("mini")
    assert isinstance(net, DepthAnything3Net)

    class Encode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            encoded = self.net.encode(x, rays=True)  # type: ignore[operator]
            return encoded.depth, encoded.ray, encoded.pose_encoding

    example, other = normal_input("trace", 1, 3, 3, 42, 56), normal_input("another", 1, 3, 3, 42, 56)
    with torch.no_grad():
        program = torch.export.export(Encode(), (example,), strict=False).module()
        for images in (example, other):
            for traced, eager in zip(program(images), Encode()(images), strict=True):
                assert_equal_tensors(traced, eager, "traced")
    # Tables made while tracing must not stay behind.
    assert torch.isfinite(run("mini", normal_input("after", 1, 2, 3, 42, 56)).depth).all()


def test_gradients_flow_after_inference_with_the_same_tables() -> None:
    images = normal_input("train", 1, 2, 3, 28, 42)
    run("mini", images)
    net = build(miniature())
    assert isinstance(net, DepthAnything3Net)
    encoded = net.encode(images, rays=True)
    assert encoded.ray is not None and encoded.pose_encoding is not None
    (encoded.depth.sum() + encoded.ray.sum() + encoded.pose_encoding.sum()).backward()
    gradient = net.backbone.pretrained.patch_embed.proj.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_epsilons_are_the_published_ones() -> None:
    """Block norms 1e-6, every other norm 1e-5: too small a difference for the reference numbers to tell."""
    norms = {
        name: module.eps for name, module in network("gaussians").named_modules() if isinstance(module, nn.LayerNorm)
    }
    block_norms = {name for name in norms if name.startswith("backbone.pretrained.blocks") and name[-5:-1] == "norm"}
    block_norms = {name for name in block_norms if name.rsplit(".", 1)[-1] in ("norm1", "norm2")}
    assert len(block_norms) == 24
    assert all(eps == (1e-6 if name in block_norms else 1e-5) for name, eps in norms.items())


def test_a_configuration_without_cameras_gives_depth_and_rays() -> None:
    config = {key: value for key, value in miniature().items() if key in ("__object__", "net", "head")}
    net = build(config)
    output = net(normal_input("no cameras", 1, 2, 3, 28, 28), rays=True)
    assert output.extrinsics is None and output.pose_encoding is None and "ray" in output
    assert net(normal_input("no cameras", 1, 2, 3, 28, 28), use_ray_pose=True)["extrinsics"].shape == (1, 2, 3, 4)


def test_bfloat16_stays_near_float32() -> None:
    images = normal_input("half", 1, 2, 3, 56, 56)
    exact = run("mini", images).depth
    with torch.autocast("cpu", torch.bfloat16):
        near = run("mini", images).depth
    assert near.dtype == torch.float32
    error = ((near - exact) / exact).abs()
    assert 0 < error.median() < 0.02


def test_wrong_shape_is_caught_while_tests_run() -> None:
    from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw

    with pytest.raises(Exception, match="quat_xyzw"):
        matrix_from_quat_xyzw(torch.zeros(5, 3))
