"""Clouds and meshes in other libraries; skipped where those are not installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.refine.convert import to_open3d, to_rerun, to_trimesh
from depth_anything_3.types.cloud import Mesh, PointCloud

CLOUD = PointCloud(
    xyz=np.array([[0, 0, 1], [1, 0, 2], [0, 1, 3], [4, 5, 6]], np.float32),
    rgb=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]], np.uint8),
    view=np.zeros(4, np.int32),
    pixel=np.zeros((4, 2), np.int32),
    normals=np.tile(np.array([0, 0, -1], np.float32), (4, 1)),
)
MESH = Mesh(
    vertices=CLOUD.xyz,
    faces=np.array([[0, 2, 1]], np.int32),
    rgb=CLOUD.rgb,
    normals=np.tile(np.array([0, 0, -1], np.float32), (4, 1)),
)


def test_trimesh() -> None:
    pytest.importorskip("trimesh")
    cloud, mesh = to_trimesh(CLOUD), to_trimesh(MESH)
    np.testing.assert_array_equal(cloud.vertices, CLOUD.xyz)
    np.testing.assert_array_equal(cloud.colors[:, :3], CLOUD.rgb)
    np.testing.assert_array_equal(mesh.vertices, MESH.vertices)
    np.testing.assert_array_equal(mesh.faces, MESH.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], MESH.rgb)
    np.testing.assert_allclose(mesh.vertex_normals, MESH.normals)


@pytest.mark.peers
def test_open3d() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    cloud, mesh = to_open3d(CLOUD), to_open3d(MESH)
    np.testing.assert_array_equal(np.asarray(cloud.points), CLOUD.xyz)
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, CLOUD.rgb)
    np.testing.assert_array_equal(np.asarray(cloud.normals), CLOUD.normals)
    np.testing.assert_array_equal(np.asarray(mesh.vertices), MESH.vertices)
    np.testing.assert_array_equal(np.asarray(mesh.triangles), MESH.faces)
    np.testing.assert_allclose(np.asarray(mesh.vertex_colors) * 255, MESH.rgb)


@pytest.mark.peers
def test_rerun() -> None:
    pytest.importorskip("rerun")
    cloud, mesh = to_rerun(CLOUD), to_rerun(MESH)
    assert np.allclose(cloud.positions.as_arrow_array().values.to_numpy().reshape(-1, 3), CLOUD.xyz)
    assert np.allclose(mesh.vertex_positions.as_arrow_array().values.to_numpy().reshape(-1, 3), MESH.vertices)
    assert mesh.triangle_indices.as_arrow_array().values.to_numpy().tolist() == [0, 2, 1]


@pytest.mark.parametrize(("convert", "extra"), [(to_open3d, "open3d"), (to_trimesh, "trimesh"), (to_rerun, "rerun")])
def test_what_is_missing_names_its_extra(
    convert: Callable[[PointCloud], Any], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=rf"depth-anything-3\[{extra}\]"):
        convert(CLOUD)
