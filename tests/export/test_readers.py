"""One scene in several formats, read by libraries that know nothing of this package, is one scene.

Blender would be one more reader of GLB, PLY and ``transforms.json``; it is left out because it is under the GPL, as are
PyAV's wheels. Readers of a single format are in the tests of that format.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.results import small_prediction

from depth_anything_3.export import glb, gs_ply, kitti, mesh, nerfstudio, ply, tum
from depth_anything_3.types.prediction import Prediction

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # cameras of Blender, glTF and nerfstudio look along -z, with y up


def poses_of(prediction: Prediction) -> np.ndarray:
    """(N, 4, 4) from the cameras to the world."""
    assert prediction.extrinsics is not None
    rows = np.tile([[[0.0, 0, 0, 1]]], (len(prediction.extrinsics), 1, 1))
    return np.linalg.inv(np.concatenate([prediction.extrinsics.astype(np.float64), rows], 1))


def moved(matrix: np.ndarray, points: Any) -> np.ndarray:
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


def test_glb_ply_and_transforms_have_the_same_cameras_and_points(room: Prediction, tmp_path: Path) -> None:
    pygltflib, trimesh = pytest.importorskip("pygltflib"), pytest.importorskip("trimesh")
    (scene,) = glb.export(room, tmp_path, glb.Options(export_depth_vis=False))
    (cloud,) = ply.export(room, tmp_path, ply.Options())
    transforms = json.loads(nerfstudio.export(room, tmp_path, nerfstudio.Options(frame="input"))[0].read_text())

    document = pygltflib.GLTF2().load_binary(str(scene))
    world = np.linalg.inv(np.array(document.scenes[0].extras["hf_alignment"]))
    nodes = {node.name: node for node in document.nodes if node.camera is not None}
    for name, frame, pose in zip(room.names, transforms["frames"], poses_of(room), strict=True):
        from_glb = world @ np.array(nodes[name].matrix).reshape(4, 4).T
        np.testing.assert_allclose(from_glb, pose @ OPENGL, atol=1e-5)
        np.testing.assert_allclose(frame["transform_matrix"], pose @ OPENGL, atol=1e-6)
        lens = document.cameras[nodes[name].camera].perspective
        assert lens.yfov == pytest.approx(2 * np.arctan(frame["h"] / 2 / frame["fl_y"]), rel=1e-6)

    points = trimesh.load(cloud).vertices
    read = trimesh.load(scene)
    placed, geometry = read.graph["points"]
    np.testing.assert_allclose(moved(world @ placed, read.geometry[geometry].vertices), points, atol=1e-5)
    again = trimesh.load(tmp_path / "nerfstudio" / transforms["ply_file_path"])
    np.testing.assert_array_equal(again.vertices, points)


def test_trajectories_as_scipy_has_them(room: Prediction, tmp_path: Path) -> None:
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    (path,) = tum.export(room, tmp_path, tum.Options())
    rows = np.loadtxt(path)
    expected = poses_of(room)
    np.testing.assert_allclose(rows[:, 1:4], expected[:, :3, 3], atol=1e-6)
    np.testing.assert_allclose(rotation.from_quat(rows[:, 4:]).as_matrix(), expected[:, :3, :3], atol=1e-6)
    (path,) = kitti.export(room, tmp_path, kitti.Options())
    np.testing.assert_allclose(np.loadtxt(path).reshape(-1, 3, 4), expected[:, :3], atol=1e-6)


@pytest.mark.peers
def test_open3d_reads_clouds_surfaces_and_gaussians(room: Prediction, tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    (path,) = ply.export(room, tmp_path, ply.Options())
    cloud = o3d.io.read_point_cloud(str(path))
    u, v = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
    rays = np.stack((u, v, np.ones_like(u)), -1).reshape(-1, 3) @ np.linalg.inv(room.intrinsics[0]).T
    first = moved(poses_of(room)[0], rays * room.depth[0].reshape(-1, 1))
    np.testing.assert_allclose(np.asarray(cloud.points)[: len(first)], first, atol=1e-5)
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, room.processed_images.reshape(-1, 3), atol=1e-6)

    red = np.zeros_like(room.processed_images)
    red[..., 0] = 255
    for encoding in ("ply", "obj", "glb"):
        options = mesh.Options(encoding=encoding, voxel=0.3, clean="raw")
        (path,) = mesh.export(replace(room, processed_images=red), tmp_path, options)
        surface = o3d.io.read_triangle_mesh(str(path))
        world = np.asarray(surface.vertices) * ([1, -1, -1] if encoding == "glb" else 1)
        assert len(surface.triangles) > 50
        assert np.abs(world @ [0.1, -0.2, 1.0] - 6.0).max() < 0.05
        np.testing.assert_allclose(np.asarray(surface.vertex_colors)[:, :3], np.tile([1.0, 0, 0], (len(world), 1)))

    gaussians = small_prediction(gaussians=True)
    everything = gs_ply.Options(min_opacity=0, border=0, max_depth_percentile=100, max_depth_jump=0)
    (path,) = gs_ply.EXPORTER.export(gaussians, tmp_path, everything)
    read = o3d.t.io.read_point_cloud(str(path))
    assert gaussians.gaussians is not None
    np.testing.assert_allclose(read.point.positions.numpy(), gaussians.gaussians.means[0].numpy(), atol=1e-6)
    # Open3D undoes the logarithm itself.
    np.testing.assert_allclose(read.point.scale.numpy(), gaussians.gaussians.scales[0].numpy(), rtol=1e-5)
