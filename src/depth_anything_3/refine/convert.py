"""Clouds and meshes as objects of other libraries, which are imported when asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_anything_3._optional import require
from depth_anything_3.types.cloud import Mesh, PointCloud


def to_open3d(shape: PointCloud | Mesh) -> Any:
    """An ``open3d.geometry.PointCloud`` or ``TriangleMesh`` with float64 places and normals, and colours from 0 to 1.

    Raises:
        MissingExtraError: open3d is not installed (the extra ``open3d``).
    """
    o3d = require("open3d", extra="open3d")
    vector = o3d.utility.Vector3dVector
    colours = vector(shape.rgb.astype(np.float64) / 255)
    if isinstance(shape, PointCloud):
        cloud = o3d.geometry.PointCloud(vector(shape.xyz.astype(np.float64)))
        cloud.colors = colours
        if shape.normals is not None:
            cloud.normals = vector(shape.normals.astype(np.float64))
        return cloud
    faces = o3d.utility.Vector3iVector(shape.faces.astype(np.int32))
    mesh = o3d.geometry.TriangleMesh(vector(shape.vertices.astype(np.float64)), faces)
    mesh.vertex_colors = colours
    mesh.vertex_normals = vector(shape.normals.astype(np.float64))
    return mesh


def to_trimesh(shape: PointCloud | Mesh) -> Any:
    """A ``trimesh.PointCloud`` or ``trimesh.Trimesh``, nothing merged or dropped. Clouds lose their normals there.

    Raises:
        MissingExtraError: trimesh is not installed (the extra ``trimesh``).
    """
    trimesh = require("trimesh", extra="trimesh")
    if isinstance(shape, PointCloud):
        return trimesh.PointCloud(shape.xyz, colors=shape.rgb)
    return trimesh.Trimesh(
        shape.vertices, shape.faces, vertex_normals=shape.normals, vertex_colors=shape.rgb, process=False
    )


def to_rerun(shape: PointCloud | Mesh) -> Any:
    """A ``rerun.Points3D`` or ``rerun.Mesh3D``, to be given to ``rerun.log``.

    Raises:
        MissingExtraError: rerun is not installed (the extra ``rerun``).
    """
    rerun = require("rerun", extra="rerun")
    if isinstance(shape, PointCloud):
        return rerun.Points3D(shape.xyz, colors=shape.rgb)
    return rerun.Mesh3D(
        vertex_positions=shape.vertices,
        triangle_indices=shape.faces,
        vertex_normals=shape.normals,
        vertex_colors=shape.rgb,
    )
