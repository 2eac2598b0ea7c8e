"""Cameras that are fixed to each other."""

from __future__ import annotations

import numpy as np
import pytest
from support.poses import centres, disturbed, in_another_world, random_poses, with_centres

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rigs import _composed, estimate_rig, place_rig
from depth_anything_3.infer.rigs import snap_to_rig
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.metrics.seams import seam_error
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.types.rig import Rig

UNIT = 0.25  # of the network in the rig's


def moving_rig(seed: int, times: int, cameras: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Poses (T C, 3, 4) of a rig that moves, and the rig."""
    rig, motion = random_poses(seed, cameras), random_poses(seed + 1, times)
    motion[..., 3] *= 5
    return _composed(rig[None], motion[:, None]).reshape(-1, 3, 4), rig


def off_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between all relative rotations of two sets of poses."""
    first, second = (p[:, None, :, :3] @ p[None, :, :, :3].swapaxes(-1, -2) for p in (a, b))
    return rotation_angle_deg(first @ second.swapaxes(-1, -2))


@pytest.mark.parametrize("times", [1, 4])
def test_a_rig_in_another_world_and_unit(times: int) -> None:
    true, rig = moving_rig(0, times)
    placed, scale = place_rig(in_another_world(true, 7, 1 / UNIT), rig)
    assert scale == pytest.approx(UNIT)
    assert off_deg(placed, true).max() < 1e-5
    np.testing.assert_allclose(
        np.linalg.norm(centres(placed) - centres(placed)[0], axis=1),
        np.linalg.norm(centres(true) - centres(true)[0], axis=1),
    )


def test_a_known_rig_takes_noise_away_and_more_times_tell_an_unknown_one() -> None:
    true, rig = moving_rig(2, 12)
    noisy = disturbed(true, 5, degrees=3, distance=0.05)
    placed, _ = place_rig(noisy, rig)
    assert off_deg(placed, true).mean() < 0.6 * off_deg(noisy, true).mean()
    one, twelve = estimate_rig(noisy[:5], 5), estimate_rig(noisy, 5)
    assert off_deg(twelve, rig).mean() < 0.5 * off_deg(one, rig).mean()
    assert np.allclose(estimate_rig(true, 5)[0], np.eye(3, 4), atol=1e-9), "in the frame of its first camera"


def test_the_prediction_follows() -> None:
    true, rig = moving_rig(0, 3)
    K = np.tile(np.diag([50.0, 50, 1]), (15, 1, 1))
    predicted = in_another_world(true, 7, 1 / UNIT)
    before = Prediction(depth=np.full((15, 4, 6), 8.0, np.float32), is_metric=True, extrinsics=predicted, intrinsics=K)
    found = snap_to_rig(before, Rig(camera_from_rig=rig))
    assert found.alignment is not None and found.alignment.rule == "rig" and not found.is_metric
    assert found.alignment.scale == pytest.approx(UNIT, rel=1e-5) and max(found.alignment.distance) < 1e-5  # type: ignore[type-var]
    np.testing.assert_allclose(found.depth, 8 * UNIT, rtol=1e-5)
    own = snap_to_rig(before, 5)
    assert own.is_metric and own.rig is not None and len(own.rig) == 5
    np.testing.assert_allclose(own.depth, before.depth)
    np.testing.assert_allclose(own.extrinsics, predicted, atol=1e-5)


def test_a_rig_of_one_place_tells_no_scale() -> None:
    turns = with_centres(random_poses(0, 3)[:, :, :3], np.zeros((3, 3)))
    prediction = Prediction(
        depth=np.ones((3, 4, 6), np.float32), is_metric=True, extrinsics=turns, intrinsics=np.tile(np.eye(3), (3, 1, 1))
    )
    with pytest.warns(UserWarning, match="cannot tell the scale"):
        found = snap_to_rig(prediction, Rig(camera_from_rig=turns))
    assert found.alignment is not None and found.alignment.rule == "unknown" and found.is_metric


def test_rigs_are_checked(tmp_path: object) -> None:
    with pytest.raises(InputError, match="no rotation"):
        Rig(camera_from_rig=2 * np.eye(3, 4)[None])
    with pytest.raises(InputError, match=r"rig.intrinsics: got shape \(1, 3, 3\)"):
        Rig(camera_from_rig=random_poses(0, 2), intrinsics=np.eye(3)[None])
    rig = Rig(camera_from_rig=random_poses(0, 2), intrinsics=np.tile(np.eye(3), (2, 1, 1)))
    made = Prediction(depth=np.ones((2, 3, 4), np.float32), is_metric=False, rig=rig)
    back = Prediction.load(made.save(f"{tmp_path}/scene.npz")).rig
    assert back is not None and back.intrinsics is not None
    np.testing.assert_array_equal(back.camera_from_rig, rig.camera_from_rig)


def test_inference_with_a_rig() -> None:
    model = DepthAnything3.from_pretrained("bundled", device="cpu")
    pictures = list(np.random.default_rng(0).integers(0, 255, (4, 28, 42, 3), np.uint8))
    rig = Rig(
        camera_from_rig=random_poses(1, 2), intrinsics=np.tile([[40.0, 0, 21], [0, 40, 14], [0, 0, 1]], (2, 1, 1))
    )
    both = model.inference(pictures, rig=rig, process_res=42)
    assert both.extrinsics is not None and both.alignment is not None and both.alignment.rule == "rig"
    assert off_deg(both.extrinsics[:2], rig.camera_from_rig).max() < 0.1
    assert off_deg(both.extrinsics[2:], rig.camera_from_rig).max() < 0.1
    once = model.inference(pictures[:2], rig=rig, process_res=42)
    assert once.rig is rig and once.extrinsics is not None
    np.testing.assert_allclose(once.extrinsics, rig.camera_from_rig, atol=1e-6)
    assert model.inference(pictures, rig=2, process_res=42).rig is not None
    for wrong in (3, 0):
        with pytest.raises(InputError, match="divides the number of views"):
            model.inference(pictures, rig=wrong)
    with pytest.raises(InputError, match="beside extrinsics"):
        model.inference(pictures, random_poses(0, 4), rig=2)


def test_seams() -> None:
    poses = with_centres(np.tile(np.eye(3), (2, 1, 1)), np.array([[0.0, 0, 0], [0.2, 0, 0]]))
    true, K = np.full((2, 20, 30), 2.0), np.tile([[30.0, 0, 15], [0, 30, 10], [0, 0, 1]], (2, 1, 1))
    assert seam_error(3 * true, true, K, poses) == pytest.approx(0)
    assert seam_error(true * np.array([1, 1.1])[:, None, None], true, K, poses) == pytest.approx(np.log(1.1))
    away = with_centres(np.tile(np.eye(3), (2, 1, 1)), np.array([[0.0, 0, 0], [20, 0, 0]]))
    assert np.isnan(seam_error(true, true, K, away))
