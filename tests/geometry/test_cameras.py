"""Laws of rotations, camera encodings, harmonics and alignments, over random cases and the awkward ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.poses import centres, disturbed, in_another_world, random_poses, with_centres
from torch import Tensor

from depth_anything_3.geometry.alignment import align_trajectories, umeyama
from depth_anything_3.geometry.encoding import decode_cameras, encode_cameras
from depth_anything_3.geometry.gaussians import follow_views
from depth_anything_3.geometry.harmonics import harmonic_basis
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.geometry.poses import as_homogeneous, rigid_inverse
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.types.gaussians import Gaussians

seeds = st.integers(0, 2**31 - 1)
angles = st.sampled_from([0.0, 1e-7, 1e-3, 0.5, 2.0, np.pi - 1e-6, np.pi])


def random_rotation(rng: np.random.Generator, angle: float | None = None) -> np.ndarray:
    """A turn by ``angle`` about a random axis (Rodrigues), or by a random angle."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    theta = rng.uniform(0, np.pi) if angle is None else angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(theta) * cross + (1 - np.cos(theta)) * cross @ cross


def random_extrinsics(rng: np.random.Generator, views: int) -> np.ndarray:
    rotation = np.stack([random_rotation(rng) for _ in range(views)])
    return np.concatenate([rotation, rng.normal(size=(views, 3, 1))], -1)


@given(seeds, angles)
def test_quaternions_and_back(seed: int, angle: float) -> None:
    rotation = torch.from_numpy(random_rotation(np.random.default_rng(seed), angle))
    quat_xyzw = quat_xyzw_from_matrix(rotation)
    assert quat_xyzw.norm().item() == pytest.approx(1, abs=1e-9) and quat_xyzw[3] >= 0
    torch.testing.assert_close(matrix_from_quat_xyzw(quat_xyzw), rotation, rtol=0, atol=1e-9)
    torch.testing.assert_close(matrix_from_quat_xyzw(-3 * quat_xyzw), rotation, rtol=0, atol=1e-9)


@given(seeds)
def test_cameras_survive_encoding_and_decoding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    extrinsics = torch.from_numpy(random_extrinsics(rng, 3)).float()
    fx, fy = rng.uniform(50, 900, size=2)
    intrinsics = torch.tensor([[fx, 0, 210], [0, fy, 140], [0, 0, 1]]).float().expand(3, 3, 3)
    back, lens = decode_cameras(encode_cameras(extrinsics, intrinsics, (280, 420)), (280, 420))
    torch.testing.assert_close(back, extrinsics, rtol=0, atol=1e-5)
    torch.testing.assert_close(lens, intrinsics, rtol=1e-4, atol=1e-3)


@given(seeds)
def test_rigid_inverse(seed: int) -> None:
    pose = torch.from_numpy(random_extrinsics(np.random.default_rng(seed), 2))
    full = as_homogeneous(pose)
    torch.testing.assert_close(rigid_inverse(full) @ full, torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    torch.testing.assert_close(rigid_inverse(pose), rigid_inverse(full)[:, :3])


def test_as_homogeneous_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected \(..., 3, 4\) or \(..., 4, 4\)"):
        as_homogeneous(torch.zeros(2, 4))


@given(seeds, st.floats(0.01, 100), st.sampled_from([3, 5, 12]), st.booleans())
@settings(max_examples=50)
def test_alignment_finds_a_known_similarity(seed: int, scale: float, views: int, robust: bool) -> None:
    rng = np.random.default_rng(seed)
    estimate = random_extrinsics(rng, views)
    rotation, translation = random_rotation(rng), rng.normal(size=3)
    reference = moved(estimate, rotation, translation, scale)
    found = align_trajectories(reference, estimate, robust=robust)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-5)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(found.on_extrinsics(estimate), reference, atol=1e-4 * max(scale, 1))


def moved(extrinsics: np.ndarray, rotation: np.ndarray, translation: np.ndarray, scale: float) -> np.ndarray:
    """The same cameras after x -> scale R x + t of the world."""
    turned = extrinsics[:, :, :3] @ rotation.T
    return np.concatenate([turned, scale * extrinsics[:, :, 3:] - turned @ translation[:, None]], -1)


DEGENERATE = {
    "one view": np.zeros((1, 3)),
    "two views": np.array([[0.0, 0, 0], [1, 2, 3]]),
    "on a line": np.arange(5)[:, None] * np.array([[1.0, -1, 0.5]]),
    "nearly on a line": np.arange(5)[:, None] * np.array([[1.0, -1, 0.5]]) + 1e-5 * np.eye(5, 3),
    "in one place": np.ones((4, 3)),
    "two in one place": np.ones((2, 3)),
    "twelve on a line": np.linspace(0, 1, 12)[:, None] * np.array([[0.0, 0, 1]]),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("robust", [False, True])
def test_degenerate_paths_are_aligned_by_orientation(name: str, robust: bool) -> None:
    rng = np.random.default_rng(7)
    centres = DEGENERATE[name]
    rotations = np.stack([random_rotation(rng) for _ in centres])
    estimate = np.concatenate([rotations, -rotations @ centres[:, :, None]], -1)
    rotation, translation, scale = random_rotation(rng), rng.normal(size=3), 2.5
    reference = moved(estimate, rotation, translation, scale)
    found = align_trajectories(reference, estimate, robust=robust)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)
    known = np.ptp(centres, axis=0).max() > 0
    assert found.rule == ("orientations" if known else "orientations, scale unknown")
    np.testing.assert_allclose(found.scale, scale if known else 1.0, rtol=1e-6)
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_a_mirrored_path_is_not_fitted_by_a_reflection() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(6, 3))
    found = umeyama(points, points * np.array([1.0, 1, -1]))
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_umeyama_says_when_points_fix_no_rotation() -> None:
    with pytest.raises(ValueError, match="rank below 2"):
        umeyama(np.zeros((4, 3)), np.zeros((4, 3)))


PLACES = {
    "free": np.ones(3),
    "in a plane": np.array([1.0, 1, 0]),
    "on a line": np.array([0.0, 0, 1]),
    "in one place": np.zeros(3),
}


@given(seeds, st.floats(-2, 2), st.integers(5, 40), st.sampled_from(sorted(PLACES)), st.sampled_from([0.0, 1e-4]))
@settings(max_examples=60, deadline=None)
def test_three_wrong_views_in_ten_change_nothing(
    seed: int, log_scale: float, views: int, kind: str, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    true = random_poses(seed, views)
    true = with_centres(true[:, :, :3], centres(true) * PLACES[kind])
    wrong = np.sort(rng.choice(views, int(0.3 * views), replace=False))
    estimate = disturbed(true, seed + 1, degrees=noise, distance=noise if PLACES[kind].any() else 0.0)
    estimate[wrong] = disturbed(true[wrong], seed + 2, degrees=70, distance=4)
    reference = in_another_world(true, seed + 3, 10**log_scale)
    found = align_trajectories(reference, estimate, robust=True)
    right = align_trajectories(reference, true)
    assert set(wrong) <= set(found.outliers) and len(found.outliers) <= 0.35 * views
    assert rotation_angle_deg((found.rotation @ right.rotation.T)[None]) < 0.05
    if PLACES[kind].any():
        np.testing.assert_allclose(found.scale, 10**log_scale, rtol=1e-3)
    else:
        assert found.rule == "orientations, scale unknown"


@given(seeds, st.integers(1, 30), st.sampled_from(sorted(PLACES)))
@settings(max_examples=50, deadline=None)
def test_honest_noise_leaves_the_least_squares_fit_as_it_is(seed: int, views: int, kind: str) -> None:
    """Few views may be left out by chance, and then the scale hardly changes."""
    true = random_poses(seed, views)
    true = with_centres(true[:, :, :3], centres(true) * PLACES[kind])
    noisy = disturbed(true, seed + 1, degrees=2, distance=0.02)
    robust, plain = (align_trajectories(true, noisy, robust=r) for r in (True, False))
    if not robust.outliers:
        assert robust == dataclasses.replace(plain, rotation=robust.rotation, translation=robust.translation)
        np.testing.assert_array_equal(robust.rotation, plain.rotation)
    elif "unknown" not in robust.rule:
        assert len(robust.outliers) <= 0.35 * views
        if PLACES[kind].any():
            assert abs(np.log(robust.scale / plain.scale)) < 0.1


@given(seeds, st.floats(-2, 2))
def test_a_similarity_and_its_inverse(seed: int, log_scale: float) -> None:
    poses = random_poses(seed, 4)
    there = align_trajectories(in_another_world(poses, seed, 10**log_scale), poses)
    back = there.inverse
    np.testing.assert_allclose(back.on_extrinsics(there.on_extrinsics(poses)), poses, atol=1e-9)
    assert back.scale == pytest.approx(1 / there.scale)


def test_gaussians_stay_in_the_pixels_of_their_view() -> None:
    """Two views with other cameras, lenses and distances afterwards: each Gaussian in its old pixel, deeper."""
    rng = np.random.default_rng(3)
    shape = (2, 3, 4)

    def cameras() -> tuple[np.ndarray, np.ndarray]:
        lens = np.zeros((2, 3, 3))
        lens[:, [0, 1], [0, 1]], lens[:, :2, 2], lens[:, 2, 2] = rng.uniform(3, 6, (2, 2)), [2.2, 1.4], 1
        return random_poses(int(rng.integers(99)), 2), lens

    (pose, lens), (new_pose, new_lens) = cameras(), cameras()
    depth, stretch = rng.uniform(1, 3, shape), rng.uniform(0.5, 2, shape)
    means = unproject(depth, lens, pose).reshape(1, -1, 3)
    count = means.shape[1]
    gaussians = Gaussians(
        means=torch.from_numpy(means),
        scales=torch.ones(1, count, 3, dtype=torch.float64),
        rotations=torch.ones(1, count, 4, dtype=torch.float64),
        harmonics=torch.ones(1, count, 3, 4, dtype=torch.float64),
        opacities=torch.ones(1, count, dtype=torch.float64),
    )
    before, after = ((torch.from_numpy(p), torch.from_numpy(k)) for p, k in ((pose, lens), (new_pose, new_lens)))
    moved = follow_views(gaussians, before, after, torch.from_numpy(stretch))
    expected = unproject(depth * stretch, new_lens, new_pose).reshape(1, -1, 3)
    np.testing.assert_allclose(moved.means, expected, atol=1e-9)
    focal = np.sqrt(lens[:, 0, 0] * lens[:, 1, 1] / (new_lens[:, 0, 0] * new_lens[:, 1, 1]))
    np.testing.assert_allclose(moved.scales[0, :, 0], (stretch * focal[:, None, None]).ravel())


def test_moved_gaussians_look_the_same_from_a_moved_point() -> None:
    rng = np.random.default_rng(11)
    generator = torch.Generator().manual_seed(0)
    quats = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)
    gaussians = Gaussians(
        means=torch.randn(1, 4, 3, generator=generator, dtype=torch.float64),
        scales=torch.rand(1, 4, 3, generator=generator, dtype=torch.float64) + 0.1,
        rotations=quats / quats.norm(dim=-1, keepdim=True),
        harmonics=torch.randn(1, 4, 3, 9, generator=generator, dtype=torch.float64),
        opacities=torch.rand(1, 4, generator=generator, dtype=torch.float64),
    )
    rotation, translation = torch.from_numpy(random_rotation(rng)), torch.from_numpy(rng.normal(size=3))
    lens = torch.tensor([[[30.0, 1, 2], [0, 40, 3], [0, 0, 1]]], dtype=torch.float64)
    pose, moved = torch.eye(3, 4, dtype=torch.float64), torch.column_stack((rotation.T, -rotation.T @ translation))
    out = follow_views(gaussians, (pose[None], lens), (moved[None], lens), torch.full((1, 2, 2), 2.0))

    def covariance(g: Gaussians) -> Tensor:
        axes = matrix_from_quat_xyzw(g.rotations.roll(-1, -1)) * g.scales[..., None, :]
        return axes @ axes.transpose(-1, -2)

    torch.testing.assert_close(out.means, 2.0 * gaussians.means @ rotation.T + translation)
    torch.testing.assert_close(covariance(out), 4.0 * rotation @ covariance(gaussians) @ rotation.T)
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    seen = out.harmonics @ harmonic_basis(rotation @ direction, 2)
    torch.testing.assert_close(seen, gaussians.harmonics @ harmonic_basis(direction, 2))
