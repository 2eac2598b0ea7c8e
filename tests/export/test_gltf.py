"""The binary glTF writer."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from depth_anything_3.export._gltf import GltfDocument


def document() -> GltfDocument:
    result = GltfDocument({"answer": 42})
    mesh = result.add_mesh("é", "points", np.eye(3, dtype=np.float32), np.zeros((3, 3), np.uint8))
    result.add_node("é", mesh=mesh)
    return result


def test_container(tmp_path: Path) -> None:
    data = document().write(tmp_path / "a.glb").read_bytes()
    magic, version, length, json_length, json_type = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, length, json_type) == (b"glTF", 2, len(data), b"JSON")
    assert json_length % 4 == 0
    content = json.loads(data[20 : 20 + json_length])
    binary_length, binary_type = struct.unpack("<I4s", data[20 + json_length : 28 + json_length])
    assert binary_type == b"BIN\0" and binary_length == len(data) - 28 - json_length
    assert content["buffers"] == [{"byteLength": binary_length}]
    assert content["scenes"][content["scene"]]["extras"] == {"answer": 42}
    assert content["nodes"][0]["name"] == "é"


def test_empty_scene_has_no_empty_lists(tmp_path: Path) -> None:
    data = GltfDocument({}).write(tmp_path / "a.glb").read_bytes()
    content = json.loads(data[20:])
    assert len(data) == struct.unpack("<I", data[8:12])[0]
    assert set(content) == {"asset", "scene", "scenes"}


def test_failing_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = document().write(tmp_path / "a.glb")
    before = path.read_bytes()
    broken = document()
    broken._chunks[-1] = None  # type: ignore[call-overload]
    with pytest.raises(AttributeError):
        broken.write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.glb"]
    assert path.read_bytes() == before


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        GltfDocument({"x": float("nan")}).write(tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
