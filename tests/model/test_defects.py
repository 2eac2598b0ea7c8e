"""The published implementation's defects, by their number in the list of the reference document, and our behaviour."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from support.networks import build, network, normal_input, run, small_gaussians, small_nested
from torch import Tensor

from depth_anything_3.cfg import create_object
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.poses import rigid_inverse
from depth_anything_3.geometry.rays import cameras_from_rays, decompose_homography, fit_rays, image_plane
from depth_anything_3.model.dinov2.rope import local_table
from depth_anything_3.model.readout import fill_sky, metric_scale, quantile, to_metres
from depth_anything_3.model.reference_view import reference_first, reorder, select_reference


def test_01_shared_auxiliary_norm_is_one_module() -> None:
    norms = [stack[2] for stack in network("mini").head.scratch.output_conv2_aux]
    assert all(norm is norms[0] for norm in norms)


def test_02_more_than_eight_views_in_a_batch() -> None:
    images = normal_input("defect 2", 2, 9, 3, 14, 28)
    assert run("metric", images).depth.shape == (2, 9, 14, 28)
    assert run("gaussians", images, infer_gs=True).gaussians.means.shape == (2, 9 * 14 * 28, 3)


def test_03_features_follow_the_order_of_the_views() -> None:
    images = normal_input("xC", 1, 5, 3, 42, 56)  # another view than the first becomes the reference
    order = [3, 1, 4, 0, 2]
    features = run("mini", images, export_feat_layers=[2, 7]).aux
    moved = run("mini", images[:, order], export_feat_layers=[2, 7]).aux
    for name in ("feat_layer_2", "feat_layer_7"):
        torch.testing.assert_close(moved[name], features[name][:, order], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(moved[name], features[name], atol=1e-2)


def test_04_features_carry_the_block_that_was_asked_for() -> None:
    images = normal_input("defect 4", 1, 2, 3, 28, 28)
    forwards = run("mini", images, export_feat_layers=[2, 7]).aux
    backwards = run("mini", images, export_feat_layers=[7, 2, 7]).aux
    assert set(forwards) == set(backwards) == {"feat_layer_2", "feat_layer_7"}
    for name, feature in forwards.items():
        assert torch.equal(feature, backwards[name])
    with pytest.raises(InputError, match=r"export_feat_layers.*0 to 11"):
        run("mini", images, export_feat_layers=[12])


def test_05_no_feature_layers_may_be_none() -> None:
    assert run("mini", normal_input("defect 5", 1, 1, 3, 28, 28), export_feat_layers=None).aux == {}


@pytest.mark.parametrize(("kind", "metric"), [("mini", False), ("metric", False), ("nested", True)])
def test_06_is_metric_is_honest(kind: str, metric: bool) -> None:
    assert run(kind, normal_input("defect 6", 1, 2, 3, 28, 42)).is_metric is metric


def test_08_sky_of_the_nested_model_is_returned_and_has_the_lowest_confidence() -> None:
    depth, conf = torch.rand(1, 2, 20, 20) + 1, torch.rand(1, 2, 20, 20) + 2
    sky = torch.zeros(1, 2, 20, 20)
    sky[..., :5, :] = 1
    _, lowered, _ = to_metres(depth, conf, torch.eye(4)[:3].expand(1, 2, 3, 4), torch.ones(1), sky)
    assert (lowered[..., :5, :] == 1).all() and torch.equal(lowered[..., 5:, :], conf[..., 5:, :])
    assert run("nested", normal_input("defect 8", 1, 2, 3, 28, 42)).sky.shape == (1, 2, 28, 42)


def test_09_all_sky_stays_relative_with_a_warning() -> None:
    depth, conf = torch.rand(2, 2, 20, 20) + 1, torch.rand(2, 2, 20, 20) + 2
    metres = 3 * depth
    sky = torch.zeros(2, 2, 20, 20)
    sky[0] = 5.0
    scale = metric_scale(depth, conf, metres, sky)
    assert scale[0].isnan() and scale[1].item() == pytest.approx(3)
    extrinsics = torch.eye(4)[:3].repeat(2, 2, 1, 1)
    extrinsics[..., 3] = 1
    with pytest.warns(UserWarning, match="metric scale.*1 of 2 scenes"):
        out_depth, out_conf, out_extrinsics = to_metres(depth, conf, extrinsics, scale, sky)
    assert torch.equal(out_depth[0], depth[0]) and torch.equal(out_conf[0], conf[0])
    assert torch.equal(out_extrinsics[0], extrinsics[0])
    assert out_extrinsics[1, 0, 0, 3].item() == pytest.approx(3)


def test_09_an_empty_mask_does_not_scale_to_zero() -> None:
    depth = torch.full((1, 1, 20, 20), 2.0)
    conf = torch.rand(1, 1, 20, 20) + 1
    metres = torch.full_like(depth, 1e-3)  # nowhere plausible
    assert metric_scale(depth, conf, metres, torch.zeros_like(depth)).isnan().all()


def test_10_quantiles_are_exact_for_any_number_of_values() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (11, 12, 1001, 250_000):
        values = torch.rand(count, generator=generator)
        for q in (0.5, 0.99):
            expected = np.quantile(values.numpy(), q)
            assert quantile(values, q).item() == pytest.approx(expected, rel=1e-6)


def test_11_statistics_are_per_scene() -> None:
    depth = torch.stack([torch.rand(2, 20, 20), 100 * torch.rand(2, 20, 20)])
    sky = torch.zeros_like(depth)
    sky[..., :10, :] = 1
    filled = fill_sky(depth, sky)
    assert filled[0].max() <= 1 and filled[1, :, :10].min() > 50


def test_14_poses_without_intrinsics_and_without_an_encoder_are_errors() -> None:
    images, poses = normal_input("defect 14", 1, 2, 3, 28, 28), torch.eye(4).expand(1, 2, 4, 4)
    with pytest.raises(InputError, match="intrinsics"):
        run("mini", images, extrinsics=poses)
    with pytest.raises(CapabilityError, match="no pose encoder"):
        run("metric", images, extrinsics=poses, intrinsics=torch.eye(3).expand(1, 2, 3, 3))


def test_14_poses_may_be_3x4() -> None:
    images = normal_input("defect 14", 1, 2, 3, 28, 28)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = 1
    intrinsics = torch.tensor([[20.0, 0, 14], [0, 20, 14], [0, 0, 1]]).expand(1, 2, 3, 3)
    full = run("mini", images, extrinsics=poses, intrinsics=intrinsics)
    short = run("mini", images, extrinsics=poses[:, :, :3], intrinsics=intrinsics)
    assert torch.equal(full.depth, short.depth)


def test_16_gaussians_of_the_nested_model_are_in_metres_like_its_depth() -> None:
    config = small_nested()
    config["anyview"] = small_gaussians()
    images = normal_input("defect 16", 1, 2, 3, 28, 42)
    with torch.inference_mode():
        nested = build(config)(images, infer_gs=True)
        # The nested network names its tensors otherwise, so its any-view part has weights of its own.
        anyview = build(config).da3(images, infer_gs=True)
    factor = nested.scale_factor[0]
    torch.testing.assert_close(nested.gaussians.means, factor * anyview.gaussians.means)
    torch.testing.assert_close(nested.gaussians.scales, factor * anyview.gaussians.scales)


def test_17_quaternions_may_be_read_in_one_order() -> None:
    """With the order kept, a Gaussian's world orientation is the camera's rotation times its own."""
    from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw
    from depth_anything_3.model.gs_adapter import GaussianAdapter

    raw = normal_input("defect 17", 1, 1, 2, 3, 14)
    angle = torch.tensor(0.7)
    rotation = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    extrinsics = torch.cat([rotation.T, torch.zeros(3, 1)], -1)[None, None]
    adapter = GaussianAdapter(
        pred_offset_xy=True, pred_offset_depth=True, pred_color=True, quaternion_order="consistent"
    )
    raw = raw[..., : adapter.d_in]
    intrinsics = torch.tensor([[5.0, 0, 1.5], [0, 5, 1], [0, 0, 1]])[None, None]
    gaussians = adapter(raw, torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3), extrinsics, intrinsics)
    own = matrix_from_quat_xyzw(raw[..., 5:9].reshape(-1, 4))
    world = matrix_from_quat_xyzw(gaussians.rotations[0].roll(-1, -1))
    torch.testing.assert_close(world, rotation @ own, rtol=1e-4, atol=1e-5)


def ray_map(rotation: Tensor, centre: Tensor, focal: tuple[float, float], principal: tuple[float, float]) -> Tensor:
    """A noise-free (1, 1, 16, 24, 6) ray map on the plane that spans [-1, 1]."""
    plane = image_plane(16, 24, rotation) - (torch.tensor(principal) - 1)
    directions = torch.cat([plane / torch.tensor(focal), torch.ones(len(plane), 1)], -1) @ rotation.T
    return torch.cat([directions, centre.expand_as(directions)], -1).reshape(1, 1, 16, 24, 6)


def a_rotation() -> Tensor:
    return torch.linalg.matrix_exp(torch.tensor([[0.0, -0.3, 0.2], [0.3, 0.0, -0.1], [-0.2, 0.1, 0.0]]))


def test_20_the_exact_decomposition_finds_an_off_centre_principal_point() -> None:
    rotation, centre = a_rotation(), torch.tensor([1.0, 2.0, 3.0])
    rays = ray_map(rotation, centre, (1.3, 1.1), (1.1, 0.95))
    fitted = fit_rays(rays[0], torch.ones(1, 16, 24), decomposition="exact")
    torch.testing.assert_close(fitted.world_from_camera[0, :, :3], rotation, rtol=0, atol=1e-4)
    torch.testing.assert_close(fitted.focal[0], torch.tensor([1.3, 1.1]), rtol=1e-4, atol=0)
    torch.testing.assert_close(fitted.principal_point[0], torch.tensor([1.1, 0.95]), rtol=1e-4, atol=0)
    published = decompose_homography(
        rotation[None] @ torch.tensor([[[1 / 1.3, 0, -0.1], [0, 1 / 1.1, 0.05], [0, 0, 1]]])
    )
    assert (published[0][0] - rotation).abs().max() > 0.01  # what parity demands by default


def test_20_centred_cameras_are_exact_from_noise_free_rays() -> None:
    rotation, centre = a_rotation(), torch.tensor([1.0, 2.0, 3.0])
    rays = ray_map(rotation, centre, (1.3, 1.1), (1.0, 1.0))
    extrinsics, intrinsics = cameras_from_rays(rays, torch.rand(1, 1, 16, 24) + 1, (280, 420))
    pose = rigid_inverse(extrinsics)[0, 0]
    torch.testing.assert_close(pose, torch.cat([rotation, centre[:, None]], -1), rtol=0, atol=1e-5)
    expected = torch.tensor([[1.3 * 210, 0, 210], [0, 1.1 * 140, 140], [0, 0, 1]])
    torch.testing.assert_close(intrinsics[0, 0], expected, rtol=1e-5, atol=1e-3)


def test_21_the_refit_needs_no_square_factor() -> None:
    """16,000 rays or more: a full factorisation would hold a matrix of a gigabyte."""
    rotation = a_rotation()
    plane = image_plane(160, 160, rotation)
    directions = torch.cat([plane, torch.ones(len(plane), 1)], -1) @ rotation.T
    rays = torch.cat([directions, torch.zeros_like(directions)], -1).reshape(1, 160, 160, 6)
    shapes: list[tuple[int, ...]] = []
    original = torch.linalg.svd

    def spy(matrix: Tensor, full_matrices: bool = True) -> object:
        result = original(matrix, full_matrices=full_matrices)
        shapes.append(tuple(result.U.shape))
        return result

    torch.linalg.svd = spy  # type: ignore[assignment]
    try:
        fitted = fit_rays(rays, torch.ones(1, 160, 160))
    finally:
        torch.linalg.svd = original
    assert max(shape[-2] * shape[-1] for shape in shapes) <= 16 * 9
    torch.testing.assert_close(fitted.world_from_camera[0, :, :3], rotation, rtol=0, atol=1e-4)


def test_22_confidence_is_not_overwritten() -> None:
    rays, conf = torch.randn(1, 8, 8, 6), torch.rand(1, 8, 8) + 1
    rays[0, :4, :, 2] = 0  # rays along the image plane have no weight in the fit
    before, rays_before = conf.clone(), rays.clone()
    fit_rays(rays, conf)
    assert torch.equal(conf, before) and torch.equal(rays, rays_before)


@pytest.mark.parametrize("rays", [torch.zeros(1, 8, 8, 6), torch.ones(1, 8, 8, 6)])
def test_23_rays_that_fit_nothing_give_finite_cameras_or_none_at_all_but_no_exception(rays: Tensor) -> None:
    fitted = fit_rays(rays, torch.ones(1, 8, 8))
    assert fitted.world_from_camera.shape == (1, 3, 4)


def test_26_tables_follow_the_device() -> None:
    assert local_table(2, 3, 64, torch.device("cpu")).device.type == "cpu"
    assert local_table(2, 3, 64, torch.device("meta")).device.type == "meta"


def test_29_ties_of_the_similarity_range_go_to_the_lowest_index() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.rand(1, 4, 32, generator=generator)
    tokens[0, 1] = tokens[0, 3] * 2.0  # views 1 and 3 are the most alike, and tie
    assert select_reference(tokens, "saddle_sim_range").tolist() == [1]
    assert select_reference(tokens[:, [0, 3, 2, 1]], "saddle_sim_range").tolist() == [1]
    assert select_reference(tokens, "saddle_sim_range_others").tolist()[0] in range(4)


def test_30_the_reference_is_chosen_in_float32_under_autocast() -> None:
    tokens = normal_input("defect 30", 4, 7, 384)
    with torch.autocast("cpu", torch.bfloat16):
        half = select_reference(tokens)
    assert torch.equal(half, select_reference(tokens))


def test_33_no_field_of_view_gives_a_finite_camera() -> None:
    from depth_anything_3.geometry.encoding import decode_cameras

    extrinsics, intrinsics = decode_cameras(torch.tensor([[0.0, 0, 0, 0, 0, 0, 1, 0, 0]]), (28, 42))
    assert torch.isfinite(extrinsics).all() and torch.isfinite(intrinsics).all()


def test_37_gaussians_without_a_head_are_an_error() -> None:
    with pytest.raises(CapabilityError, match="Gaussian head"):
        run("mini", normal_input("defect 37", 1, 1, 3, 28, 28), infer_gs=True)


def test_37_head_and_adapter_must_agree() -> None:
    config = small_gaussians()
    config["gs_head"] = {**config["gs_head"], "output_dim": 30}
    with torch.device("meta"), pytest.raises(ValueError, match=r"gs_head.output_dim: got 30; expected 38"):
        create_object(config)


def test_43_sides_that_are_no_multiples_of_a_patch_are_an_error() -> None:
    with pytest.raises(InputError, match="30x42 pixels; expected sides that are multiples of 14"):
        run("mini", torch.zeros(1, 1, 3, 30, 42))


def test_importing_the_api_flips_no_global_switch() -> None:
    """Defect 41."""
    before = torch.backends.cudnn.benchmark
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import depth_anything_3.api  # noqa: F401
    assert torch.backends.cudnn.benchmark == before


def test_reordering_and_its_inverse() -> None:
    order = reference_first(torch.tensor([2, 0]), 4)
    assert order.tolist() == [[2, 0, 1, 3], [0, 1, 2, 3]]
    x = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    assert torch.equal(reorder(reorder(x, order), order.argsort(-1)), x)
