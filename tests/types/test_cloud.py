"""Clouds and meshes check their arrays and keep them from being written to."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.types.cloud import Mesh, PointCloud, select_points


def cloud(count: int = 4) -> PointCloud:
    return PointCloud(
        xyz=np.arange(3 * count, dtype=np.float32).reshape(-1, 3),
        rgb=np.zeros((count, 3), np.uint8),
        view=np.arange(count, dtype=np.int32),
        pixel=np.zeros((count, 2), np.int32),
        confidence=np.ones(count, np.float32),
    )


def test_select_takes_every_array_along() -> None:
    chosen = select_points(cloud(), np.array([2, 0]))
    assert chosen.view.tolist() == [2, 0]
    assert chosen.xyz[:, 0].tolist() == [6, 0]
    assert chosen.confidence is not None and len(chosen.confidence) == 2
    assert chosen.normals is None
    assert len(select_points(cloud(), np.zeros(4, bool))) == 0


def test_arrays_are_read_only_and_the_callers_stay_writable() -> None:
    xyz = np.zeros((1, 3), np.float32)
    one = np.zeros(1, np.int32)
    made = PointCloud(xyz=xyz, rgb=np.zeros((1, 3), np.uint8), view=one, pixel=np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match="read-only"):
        made.xyz[0] = 1
    xyz[0] = 1


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(InputError, match="rgb"):
        PointCloud(
            xyz=np.zeros((2, 3), np.float32),
            rgb=np.zeros((2, 3), np.float32),  # type: ignore[arg-type]
            view=np.zeros(2, np.int32),
            pixel=np.zeros((2, 2), np.int32),
        )
    with pytest.raises(InputError, match="faces"):
        Mesh(
            vertices=np.zeros((2, 3), np.float32),
            faces=np.array([[0, 1, 2]], np.int32),
            rgb=np.zeros((2, 3), np.uint8),
            normals=np.zeros((2, 3), np.float32),
        )
