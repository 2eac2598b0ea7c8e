"""From network outputs to the caller's frame and to metres, without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from support.poses import in_another_world, random_poses

from depth_anything_3.geometry.conventions import extrinsics_from
from depth_anything_3.infer.postprocess import to_prediction
from depth_anything_3.infer.preprocess import check_cameras, preprocess
from depth_anything_3.infer.runner import network_cameras
from depth_anything_3.model.da3 import _in_metres
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import InferOptions, PreprocessOptions
from depth_anything_3.types.output import NetOutput
from depth_anything_3.types.prediction import Prediction

VIEWS = 4
K = np.array([[60.0, 0, 40], [0, 90, 30], [0, 0, 1]])  # fx is not fy
UNIT = 0.25  # of the network in the caller's


def inputs_with(extrinsics: object = None, intrinsics: object = None, **changes: str) -> ModelInputs:
    images = list(np.zeros((VIEWS, 60, 80, 3), np.uint8))
    options = PreprocessOptions(process_res=56)
    return preprocess(images, extrinsics=extrinsics, intrinsics=intrinsics, options=options, **changes)  # type: ignore[arg-type]


def lenses() -> np.ndarray:
    return np.tile(K, (VIEWS, 1, 1))


def output_for(poses: np.ndarray) -> NetOutput:
    return NetOutput(
        depth=torch.full((1, VIEWS, 42, 56), 8.0),
        extrinsics=torch.from_numpy(poses).float()[None],
        intrinsics=torch.eye(3).expand(1, VIEWS, 3, 3),
    )


@pytest.mark.parametrize("gap", [None, np.full((3, 4), np.nan)])
@pytest.mark.parametrize("align", [True, False])
def test_views_without_a_pose_follow_the_others(gap: object, align: bool) -> None:
    true = random_poses(1, VIEWS)
    given = [*true[:3], gap]
    inputs = inputs_with(given)  # no camera matrices: nothing is conditioned
    assert network_cameras(inputs, torch.device("cpu")) == (None, None)
    assert network_cameras(inputs_with(given, lenses()), torch.device("cpu")) == (None, None)
    predicted = in_another_world(true, 2, 1 / UNIT)
    found = to_prediction(output_for(predicted), inputs, InferOptions(align_to_input_ext_scale=align), "any")
    np.testing.assert_allclose(found.extrinsics, true if align else predicted, atol=1e-4)
    np.testing.assert_allclose(found.depth, 8 * UNIT if align else 8.0, rtol=1e-4)
    assert found.alignment is not None and found.alignment.scale == pytest.approx(UNIT, rel=1e-4)
    assert found.alignment.used == (True, True, True, False) and found.alignment.distance[3] is None


def test_the_report_is_saved(tmp_path: object) -> None:
    true = random_poses(1, VIEWS)
    found = to_prediction(output_for(in_another_world(true, 2)), inputs_with(true, lenses()), InferOptions(), "any")
    back = Prediction.load(found.save(f"{tmp_path}/scene.npz"))
    assert back.alignment == found.alignment is not None and back.metric_focal is None


def test_a_pose_that_is_partly_nan_is_refused() -> None:
    poses = random_poses(1, 2)
    poses[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in view 1"):
        check_cameras(poses, None, 2)
    with pytest.raises(ValueError, match="no pose at all"):
        check_cameras([None, None], None, 2)
    with pytest.raises(ValueError, match="poses need intrinsics"):
        check_cameras(random_poses(1, 2), None, 2)


@pytest.mark.parametrize("convention", ["opencv_w2c", "colmap", "opencv_c2w", "opengl_w2c", "opengl_c2w", "blender"])
def test_poses_in_other_conventions(convention: str) -> None:
    """A camera at (1, 2, 3) that looks along +y of a z-up world, written down by hand."""
    right, down, forward, centre = np.eye(3)[0], -np.eye(3)[2], np.eye(3)[1], np.array([1.0, 2, 3])
    opengl = convention in ("opengl_w2c", "opengl_c2w", "blender")
    axes = np.stack([right, -down, -forward] if opengl else [right, down, forward], 1)
    pose = np.column_stack([axes, centre])
    if convention in ("opencv_w2c", "colmap", "opengl_w2c"):
        pose = np.column_stack([axes.T, -axes.T @ centre])
    found, _ = check_cameras(pose[None], K[None], 1, convention=convention)  # type: ignore[arg-type]
    assert found is not None
    np.testing.assert_allclose(found[0] @ [1, 2, 3, 1], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(found[0] @ [1, 7, 3, 1], [0, 0, 5, 1], atol=1e-12)  # in front
    np.testing.assert_allclose(found[0] @ [1, 2, 4, 1], [0, -1, 0, 1], atol=1e-12)  # above


def test_an_unknown_convention() -> None:
    with pytest.raises(ValueError, match=r"extrinsics_convention.*blender"):
        extrinsics_from(np.eye(4)[None], "unreal")  # type: ignore[arg-type]


# --- metres -------------------------------------------------------------------------------------------------------


def canonical() -> NetOutput:
    return NetOutput(depth=torch.full((1, VIEWS, 42, 56), 8.0))


def test_the_metric_network_makes_metres_with_the_given_focal_length() -> None:
    inputs = inputs_with(intrinsics=lenses())
    found = to_prediction(canonical(), inputs, InferOptions(), "da3metric-large")
    fx, fy = 60 * 56 / 80, 90 * 42 / 60
    np.testing.assert_allclose(found.depth, 8 * (fx + fy) / 2 / 300, rtol=1e-6)
    assert found.is_metric and found.metric_focal == "given"
    published = to_prediction(canonical(), inputs, InferOptions(metric_focal="predicted"), "da3metric-large")
    np.testing.assert_array_equal(published.depth, 8)
    assert not published.is_metric and published.metric_focal is None
    other = to_prediction(canonical(), inputs, InferOptions(), "da3mono-large")
    np.testing.assert_array_equal(other.depth, 8)


def nested(intrinsics: torch.Tensor | None) -> NetOutput:
    depth = torch.linspace(1, 4, 42 * 56).reshape(1, 1, 42, 56).repeat(1, VIEWS, 1, 1)
    relative = NetOutput(
        depth=depth,
        depth_conf=torch.ones_like(depth) * 2,
        extrinsics=torch.eye(4)[:3].expand(1, VIEWS, 3, 4),
        intrinsics=torch.diag(torch.tensor([30.0, 50.0, 1.0])).expand(1, VIEWS, 3, 3),
    )
    return _in_metres(relative, NetOutput(depth=3 * depth, sky=torch.zeros_like(depth)), intrinsics)


def test_the_nested_network_uses_either_focal_length() -> None:
    given = torch.diag(torch.tensor([100.0, 140.0, 1.0])).expand(1, VIEWS, 3, 3)
    for lens, focal in ((None, 40.0), (given, 120.0)):
        assert float(nested(lens).scale_factor[0]) == pytest.approx(3 * focal / 300, rel=1e-5)  # type: ignore[index]


@pytest.mark.parametrize(("origin", "choice", "used"), [
    (None, "given", "predicted"), ("given", "given", "given"), ("given", "predicted", "predicted"),
    ("fov", "given", "fov"), ("exif", "given", "exif"), ("exif", "predicted", "predicted"),
])  # fmt: skip
def test_the_result_says_which_focal_length_was_used(
    origin: Literal["given", "fov", "exif"] | None, choice: str, used: str
) -> None:
    inputs = inputs_with(intrinsics=None if origin is None else lenses())
    inputs = replace(inputs, intrinsics_origin=origin or "given")
    options = InferOptions(metric_focal=choice)  # type: ignore[arg-type]
    assert to_prediction(nested(None), inputs, options, "da3nested-giant-large").metric_focal == used
