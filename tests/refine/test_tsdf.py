"""Fusion: surfaces where they belong, watertight, within the memory that was granted, and as Open3D has them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.metrics.reconstruction import nearest_distances
from depth_anything_3.refine.tsdf import Volume, allocate, extract, fuse, mesh
from depth_anything_3.synth.cameras import look_at
from depth_anything_3.types.cloud import Mesh
from depth_anything_3.types.options import FuseOptions
from depth_anything_3.types.prediction import Prediction

H, W, RADIUS = 60, 80, 0.5
K = np.array([[90.0, 0, 40], [0, 90, 30], [0, 0, 1]])


def ball(views: int = 8) -> dict[str, np.ndarray]:
    """Exact depth of a ball in the origin, from cameras around it; its colour is the view's."""
    angle = np.arange(views) * 2 * np.pi / views
    height = np.where(np.arange(views) % 2, 0.9, -0.9)
    position = np.stack((1.3 * np.cos(angle), 1.3 * np.sin(angle), height), 1)
    pose = look_at(position, np.zeros((views, 3)), np.zeros(views)).astype(np.float64)
    rays = np.concatenate([pixel_centres(H, W), np.ones((H, W, 1))], -1) @ np.linalg.inv(K).T
    centre = pose[:, :, 3]
    half, square = rays @ centre.T, (rays**2).sum(-1)[..., None]
    inside = half**2 - square * ((centre**2).sum(1) - RADIUS**2)
    depth = np.where(inside > 0, (half - np.sqrt(np.maximum(inside, 0))) / square, 0).transpose(2, 0, 1)
    images = np.broadcast_to(np.arange(views, dtype=np.uint8)[:, None, None, None] * 10, (views, H, W, 3))
    return {"depth": depth, "images": images, "intrinsics": np.tile(K, (views, 1, 1)), "extrinsics": pose}


@pytest.fixture(scope="module")
def fused() -> Mesh:
    return fuse(**ball(), options=FuseOptions(voxel=0.02))


def directed_sides(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def test_the_surface_is_where_it_belongs(fused: Mesh) -> None:
    off = np.linalg.norm(fused.vertices, axis=1) - RADIUS
    assert np.abs(off).mean() < 0.15 * 0.02
    assert np.quantile(np.abs(off), 0.99) < 0.02
    assert len(fused.vertices) > 3000


def test_normals_and_triangles_face_outwards(fused: Mesh) -> None:
    outwards = fused.vertices / np.linalg.norm(fused.vertices, axis=1, keepdims=True)
    assert np.mean((fused.normals * outwards).sum(1) > 0.9) > 0.97
    corners = fused.vertices[fused.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.mean((normal * corners.mean(1)).sum(1) >= 0) > 0.995


def test_no_side_has_two_triangles_on_one_hand(fused: Mesh) -> None:
    sides = directed_sides(fused.faces)
    assert len(np.unique(sides, axis=0)) == len(sides)


def test_a_complete_distance_field_gives_a_closed_surface() -> None:
    """An exact ball across many blocks: every side of a triangle has its opposite, and Euler's number is 2."""
    points = torch.tensor(np.stack(np.meshgrid(*[np.linspace(-0.6, 0.6, 40)] * 3), -1).reshape(-1, 3))
    volume = allocate([points], 0.05)
    exact = with_distance(volume, lambda xyz: np.linalg.norm(xyz - [0.03, 0.01, -0.02], axis=-1) - RADIUS)
    surface = extract(exact)
    sides = {tuple(side) for side in directed_sides(surface.faces).tolist()}
    assert all(side[::-1] in sides for side in sides)
    assert len(surface.vertices) - len(sides) // 2 + len(surface.faces) == 2
    assert np.abs(np.linalg.norm(surface.vertices - [0.03, 0.01, -0.02], axis=1) - RADIUS).max() < 0.002


def with_distance(volume: Volume, distance: Any) -> Volume:
    """The volume with every sample seen, at given distances."""
    axis = np.arange(8)
    local = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    block = np.stack([volume.keys.numpy() >> shift & (1 << 21) - 1 for shift in (42, 21, 0)], -1) - (1 << 20)
    xyz = (block[:, None] * 8 + local) * volume.voxel
    volume.distance[:] = torch.from_numpy(np.clip(distance(xyz) / volume.truncation, -1, 1)).float()
    volume.weight[:] = 1
    return volume


def test_colours_are_those_of_the_views_that_look() -> None:
    scene = ball(2)
    one = fuse(
        **(scene | {"depth": scene["depth"][:1]} | {k: scene[k][:1] for k in ("images", "intrinsics", "extrinsics")})
    )
    assert (one.rgb == 0).all()
    both = fuse(**(scene | {"images": scene["images"] + np.uint8(50)}), options=FuseOptions(voxel=0.03))
    assert set(np.unique(both.rgb)) <= set(range(50, 61)) and both.rgb.max() == 60


def test_views_in_any_order_give_the_same_surface() -> None:
    scene = ball(4)
    order = [2, 0, 3, 1]
    first = fuse(**scene, options=FuseOptions(voxel=0.04))
    second = fuse(**{k: v[order] for k, v in scene.items()}, options=FuseOptions(voxel=0.04))
    np.testing.assert_array_equal(first.faces, second.faces)
    np.testing.assert_allclose(first.vertices, second.vertices, atol=1e-5)


def test_confident_pixels_count_more() -> None:
    """Two views of a wall that disagree: the surface is at their weighted mean."""
    k = np.tile(K, (2, 1, 1))
    pose = np.tile(np.eye(4)[:3], (2, 1, 1))
    depth = np.stack([np.full((H, W), 1.0), np.full((H, W), 1.04)])
    weights = np.stack([np.full((H, W), 3.0), np.full((H, W), 1.0)])
    images = np.zeros((2, H, W, 3), np.uint8)
    wall = fuse(depth, images, k, pose, FuseOptions(voxel=0.02, truncation=5), weights=weights)
    assert np.median(wall.vertices[:, 2]) == pytest.approx(1.01, abs=1e-3)


def test_blocks_are_bounded_and_the_error_names_a_size_that_fits() -> None:
    with pytest.raises(InputError, match="voxel") as caught:
        fuse(**ball(), options=FuseOptions(voxel=0.005, max_blocks=200))
    found = re.search(r"at least ([\d.e-]+), which fits max_blocks=200", str(caught.value))
    assert found is not None
    fits = float(found[1])
    assert 0.005 < fits < 0.08
    assert len(fuse(**ball(), options=FuseOptions(voxel=fits, max_blocks=200)).faces) > 100
    with pytest.raises(InputError, match="voxel"):
        fuse(**ball(), options=FuseOptions(voxel=fits * 0.7, max_blocks=200))


def test_voxels_too_small_to_count_are_refused_in_the_same_way() -> None:
    with pytest.raises(InputError, match=r"too many blocks to count.*at least"):
        fuse(**ball(2), options=FuseOptions(voxel=1e-9, max_blocks=100))


def test_without_a_size_one_that_fits_is_taken() -> None:
    assert 100 < len(fuse(**ball(), options=FuseOptions(max_blocks=150)).faces) < 20_000


def test_memory_is_what_the_documentation_says() -> None:
    volume = allocate([torch.zeros(1, 3, dtype=torch.float64)], 0.1)
    tensors = (volume.distance, volume.weight, volume.colour)
    assert sum(t.element_size() * t.numel() for t in tensors) == 10 * 1024 * len(volume.keys)
    assert len(volume.keys) == 8


def test_a_prediction_is_cleaned_first() -> None:
    scene = ball(4)
    prediction = Prediction(
        scene["depth"],
        True,
        conf=np.full(scene["depth"].shape, 2.0),
        extrinsics=scene["extrinsics"],
        intrinsics=scene["intrinsics"],
        processed_images=np.ascontiguousarray(scene["images"]),
    )
    options = FuseOptions(voxel=0.04)
    whole = mesh(prediction, "raw", options)
    assert whole.is_metric
    mask = np.zeros(scene["depth"].shape, bool)
    mask[:, : H // 2] = True
    assert 0 < len(mesh(prediction, "raw", options, mask=mask).faces) < 0.8 * len(whole.faces)
    with pytest.raises(InputError, match="no pixel"):
        mesh(prediction, "raw", options, mask=np.zeros_like(mask))
    with pytest.raises(CapabilityError, match="no extrinsics"):
        mesh(Prediction(scene["depth"], True, intrinsics=scene["intrinsics"]))


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="images"):
        fuse(**(ball(2) | {"images": np.zeros((2, H, W), np.uint8)}))
    with pytest.raises(InputError, match="intrinsics"):
        fuse(**(ball(2) | {"intrinsics": None}))  # type: ignore[arg-type]


@pytest.mark.peers
def test_as_open3d_has_it(fused: Mesh) -> None:
    """The same views in Open3D's grid of voxel blocks: both surfaces are as near to the ball and to each other."""
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    theirs = open3d_surface(o3d, ball(), 0.02)
    ours_off, theirs_off = (np.abs(np.linalg.norm(v, axis=1) - RADIUS) for v in (fused.vertices, theirs))
    assert ours_off.mean() < 1.1 * theirs_off.mean()
    assert 0.8 < len(fused.vertices) / len(theirs) < 1.25
    assert nearest_distances(fused.vertices.astype(float), theirs).mean() < 0.5 * 0.02
    assert nearest_distances(theirs, fused.vertices.astype(float)).mean() < 0.5 * 0.02


def open3d_surface(o3d: Any, scene: dict[str, np.ndarray], voxel: float) -> np.ndarray:
    """Vertices of the surface that Open3D fuses; its pixels have their centres at whole numbers."""
    core, image = o3d.core, o3d.t.geometry.Image
    names, types = ("tsdf", "weight", "color"), (core.float32,) * 3
    grid = o3d.t.geometry.VoxelBlockGrid(names, types, (1, 1, 3), voxel, 8, 5000, core.Device("CPU:0"))
    k = core.Tensor(K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for depth, picture, pose in zip(scene["depth"], scene["images"], scene["extrinsics"], strict=True):
        z = image(core.Tensor(depth.astype(np.float32)[..., None]))
        colour = image(core.Tensor(picture.astype(np.float32) / 255))
        camera = core.Tensor(np.concatenate([pose, [[0, 0, 0, 1]]]))
        blocks = grid.compute_unique_block_coordinates(z, k, camera, 1.0, 9.0, 4.0)
        grid.integrate(blocks, z, colour, k, camera, 1.0, 9.0, 4.0)
    vertices: np.ndarray = grid.extract_triangle_mesh(0.5).vertex.positions.numpy().astype(float)
    return vertices


def test_small_islands_go_where_asked() -> None:
    scene: dict[str, np.ndarray] = {
        "depth": np.full((1, H, W), 2.0),
        "images": np.full((1, H, W, 3), 128, np.uint8),
        "intrinsics": K[None],
        "extrinsics": np.eye(3, 4)[None],
    }
    scene["depth"][0, :, 40:50] = 0
    scene["depth"][0, 20:26, 42:48] = 1.0
    everything = fuse(**scene, options=FuseOptions(voxel=0.03))
    rid = fuse(**scene, options=FuseOptions(voxel=0.03, min_island=200))
    assert np.abs(everything.vertices[:, 2] - 1).min() < 0.05
    assert len(rid.faces) and np.abs(rid.vertices[:, 2] - 2).max() < 0.05
    assert len(rid.faces) < len(everything.faces) and rid.faces.max() == len(rid.vertices) - 1
    with pytest.raises(InputError, match="min_island"):
        FuseOptions(min_island=-1)
