"""Normals of depth maps, against the exact ones of procedural scenes."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.refine.normals import depth_normals
from depth_anything_3.synth.sample import build, cameras_for, film

K = np.array([[200.0, 5, 40], [0, 210, 30], [0, 0, 1]])


def test_a_plane_has_one_normal_towards_the_camera() -> None:
    rays = np.concatenate([pixel_centres(60, 80), np.ones((60, 80, 1))], -1) @ np.linalg.inv(K).T
    normal = np.array([0.3, -0.4, 0.5])
    found = depth_normals(1 / (rays @ normal)[None], K[None])[0]
    np.testing.assert_allclose(found, np.broadcast_to(-normal / np.linalg.norm(normal), found.shape), atol=1e-4)


def test_against_exact_normals() -> None:
    scene, _ = build(1, "room")
    sample = film(scene, (), cameras_for(scene, (), [0.0], 84, 112, seed=1), 84, 112)
    found = depth_normals(sample.depth, sample.intrinsics)
    cosine = (found * sample.normal).sum(-1)[~sample.sky]
    assert np.mean(cosine > np.cos(np.radians(10))) > 0.9  # a small picture, with many edges
    assert np.median(cosine) > 0.99999
    rays = np.concatenate([pixel_centres(84, 112), np.ones((84, 112, 1))], -1) @ np.linalg.inv(sample.intrinsics[0]).T
    assert ((found * rays).sum(-1) <= 0).all()


def test_noise_is_averaged() -> None:
    depth = 2 + 0.001 * np.random.default_rng(0).standard_normal((1, 60, 80))
    angle = np.degrees(np.arccos(np.clip(-depth_normals(depth, K[None])[0, 5:-5, 5:-5, 2], 0, 1)))
    one_sided = np.degrees(0.001 * np.sqrt(2) / (2 / 200))
    assert np.median(angle) < one_sided / 2


def test_unknown_depth_has_no_normal() -> None:
    depth = np.full((1, 20, 20), 2.0)
    keep = np.ones(depth.shape, bool)
    keep[0, 5], depth[0, 10, 10] = False, np.nan
    found = depth_normals(depth, K[None], keep)
    assert (found[0, 5] == 0).all() and (found[0, 10, 10] == 0).all()
    assert (found[0, 6, :, 2] < -0.99).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="intrinsics"):
        depth_normals(np.ones((2, 4, 4)), K[None])
