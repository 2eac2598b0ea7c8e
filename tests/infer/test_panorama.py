"""Panoramas and fisheye pictures: an oracle that casts rays stands in for the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.distortion import rays_through
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.geometry.sphere import equirectangular_pixels, equirectangular_rays, tangent_views
from depth_anything_3.infer.panorama import infer_panorama
from depth_anything_3.synth.raycast import cast
from depth_anything_3.synth.scenes import Scene, make_scene
from depth_anything_3.types.cameras import Lens
from depth_anything_3.types.prediction import Prediction

SIZE = 126  # of the oracle's maps
WORLD_FROM_CAMERA = rotation_from_vector(np.array([-np.pi / 2, 0, 0])) @ rotation_from_vector(np.array([0, 0.4, 0]))


@pytest.fixture(scope="module")
def room() -> Scene:
    return make_scene(5, "room")


def distances(scene: Scene, rays: np.ndarray) -> np.ndarray:
    """Along directions in the frame of a camera in the middle of the stage; in units of their length."""
    middle = ((scene.stage.low + scene.stage.high) / 2).numpy()
    directions = torch.from_numpy(np.ascontiguousarray(rays.reshape(-1, 3) @ WORLD_FROM_CAMERA.T)).float()
    hits = cast(scene.world, torch.from_numpy(middle).float().expand_as(directions), directions)
    return hits.depth.numpy().reshape(rays.shape[:-1])


class Oracle:
    """True depth, off by a factor for each view and by noise for each pixel."""

    def __init__(self, scene: Scene, factor: float, noise: float) -> None:
        self.scene, self.factor, self.noise = scene, factor, noise

    def __call__(self, images: Sequence[np.ndarray], extrinsics: np.ndarray, intrinsics: np.ndarray) -> Prediction:
        rng = np.random.default_rng(0)
        scale = SIZE / images[0].shape[0]
        xy = np.dstack([pixel_centres(SIZE, SIZE), np.ones((SIZE, SIZE))])
        depth = []
        for pose, K in zip(extrinsics, intrinsics, strict=True):
            local = xy @ np.linalg.inv(np.diag([scale, scale, 1]) @ K).T
            truth = distances(self.scene, local @ pose[:, :3])
            depth.append(truth * self.factor ** rng.uniform(-1, 1) * np.exp(self.noise * rng.normal(size=truth.shape)))
        return Prediction(depth=np.stack(depth).astype(np.float32), is_metric=False)


def error(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """``|log|`` of the ratio after one factor."""
    log = np.log(found / np.where(np.isfinite(true), true, np.nan))
    return np.abs(log - np.nanmedian(log))


def test_rays_and_pixels_of_panoramas() -> None:
    rays = equirectangular_rays(60, 120)
    np.testing.assert_allclose(equirectangular_pixels(3 * rays, 60, 120), pixel_centres(60, 120), atol=1e-9)
    np.testing.assert_allclose(
        equirectangular_pixels(np.array([[0.0, 0, 1], [1, 0, 0]]), 60, 120), [[60, 30], [90, 30]]
    )
    assert equirectangular_pixels(np.array([0.0, -1, 1e-9]), 60, 120)[1] == pytest.approx(0, abs=1e-6), "up is the top"


@pytest.mark.parametrize("reach", [40.0, 75.0, 95.0, 180.0])
def test_tangent_views_leave_no_gap(reach: float) -> None:
    views = tangent_views(50, half_angle_deg=reach)
    rays = equirectangular_rays(90, 180)
    asked = rays[..., 2] >= np.cos(np.deg2rad(reach))
    shown = np.any([np.isfinite(views.seen(i, rays)).all(-1) for i in range(len(views))], axis=0)
    assert shown[asked].mean() > 0.995
    np.testing.assert_allclose(
        views.rotations @ views.rotations.swapaxes(1, 2), np.eye(3)[None].repeat(len(views), 0), atol=1e-12
    )
    back = views.seen(0, views.rays(0))
    np.testing.assert_allclose((back + 1) / 2 * 50, pixel_centres(50, 50), atol=1e-9)


def test_a_panorama_through_tangent_views(room: Scene) -> None:
    """Views of six different scales and 2 % noise come back as one map of ranges."""
    true = distances(room, equirectangular_rays(128, 256))
    found = infer_panorama(Oracle(room, 2.0, 0.02), np.zeros((128, 256, 3), np.uint8))
    off = error(found.distance, true)
    inside = np.isfinite(true)  # not through the windows
    assert found.coverage == 1 and np.isfinite(found.distance[inside]).mean() > 0.995
    assert np.nanmedian(off) < 0.02 and (off < np.log(1.25))[inside].mean() > 0.97
    assert found.seam_before > 0.1 and found.seam < 0.03
    assert np.prod(found.scales) == pytest.approx(1) and len(found.views.depth) == 6
    np.testing.assert_allclose(np.linalg.norm(found.rays, axis=-1), 1, atol=1e-6)


def test_a_fisheye_picture_beyond_what_a_pinhole_shows(room: Scene) -> None:
    lens, K = Lens("OPENCV_FISHEYE", (-0.01, 0.003, 0.0, 0.0)), np.array([[52.0, 0, 80], [0, 52, 80], [0, 0, 1]])
    rays = rays_through(pixel_centres(160, 160), K, lens)
    found = infer_panorama(Oracle(room, 1.5, 0.02), np.zeros((160, 160, 3), np.uint8), intrinsics=K, lens=lens)
    within = rays[..., 2] > np.cos(np.deg2rad(95))
    off = error(found.distance[within], distances(room, rays)[within])
    assert found.coverage > 0.97
    assert np.nanmedian(off) < 0.02 and (off < np.log(1.25))[np.isfinite(off)].mean() > 0.96 and found.seam < 0.03


def test_pictures_that_are_no_panoramas_are_refused(room: Scene) -> None:
    oracle, picture = Oracle(room, 1.0, 0.0), np.zeros((100, 150, 3), np.uint8)
    with pytest.raises(InputError, match="twice as wide"):
        infer_panorama(oracle, picture)
    with pytest.raises(InputError, match="camera matrix"):
        infer_panorama(oracle, picture, lens=Lens("OPENCV_FISHEYE", (0.0,) * 4))
    with pytest.raises(InputError, match="without a lens"):
        infer_panorama(oracle, picture, intrinsics=np.eye(3))


@pytest.mark.parametrize("name", ["bundled", "bundled/da3metric-tiny"])
def test_with_a_network(name: str) -> None:
    """Smooth noise all around: tangent views go in with the right cameras, and metres stay metres."""
    model = DepthAnything3.from_pretrained(name, device="cpu")
    picture = np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)
    found = model.panorama(picture, process_res=42)
    assert found.distance.shape == (64, 128) and found.is_metric == ("metric" in name)
    assert (found.conf is None) == ("metric" in name) and found.coverage == 1
