"""The fused surface, read back by an independent library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.export import mesh
from depth_anything_3.export._frames import frame_from_world
from depth_anything_3.types.prediction import Prediction

trimesh = pytest.importorskip("trimesh")
NORMAL, OFFSET = np.array([0.1, -0.2, 1.0]), 6.0


@pytest.mark.parametrize("encoding", ["ply", "obj", "glb"])
@pytest.mark.parametrize("frame", ["input", "z_up"])
def test_the_surface_is_the_plane(room: Prediction, tmp_path: Path, encoding: Any, frame: Any) -> None:
    red = np.zeros_like(room.processed_images)
    red[..., 0] = 255
    options = mesh.Options(encoding=encoding, frame=frame, voxel=0.3, clean="raw")
    (path,) = mesh.export(replace(room, processed_images=red), tmp_path, options)
    assert path.relative_to(tmp_path).as_posix() == mesh.planned_files(3, options)[0]
    surface = trimesh.load(path, force="mesh", process=False)
    assert len(surface.faces) > 50
    vertices = np.asarray(surface.vertices)
    if encoding == "glb":  # y is up
        vertices = vertices[:, [0, 2, 1]] * [1, -1, 1] if frame == "z_up" else vertices * [1, -1, -1]
    world = (vertices - (matrix := frame_from_world(room, frame))[:3, 3]) @ matrix[:3, :3]
    assert np.abs(world @ NORMAL - OFFSET).max() < 0.05
    if encoding == "glb":  # trimesh drops colours beside a material: linear, 16 bits, opaque
        assert np.array([65535, 0, 0, 65535], "<u2").tobytes() * len(vertices) in path.read_bytes()
    else:
        assert (np.asarray(surface.visual.vertex_colors)[:, :3] == [255, 0, 0]).all()
    again = mesh.export(replace(room, processed_images=red), tmp_path / "again", options)
    assert again[0].read_bytes() == path.read_bytes()


@pytest.mark.parametrize("mask", [1, 0])
@pytest.mark.filterwarnings("ignore:mesh")
def test_the_official_validator_has_nothing_to_say(
    room: Prediction, tmp_path: Path, validate: Callable[[Path], dict[str, Any]], mask: int
) -> None:
    scene = replace(room, depth=np.where(np.arange(32) < 1 + 31 * mask, room.depth, 0))
    (path,) = mesh.export(scene, tmp_path, mesh.Options(encoding="glb", voxel=0.3, clean="raw"))
    assert validate(path)["messages"] == []


def test_wrong_options_are_named() -> None:
    with pytest.raises(InputError, match="clean"):
        mesh.Options(clean="spotless")
    with pytest.raises(InputError, match="voxel"):
        mesh.Options(voxel=-1.0)
