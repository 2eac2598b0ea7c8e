"""The recording, read back by rerun itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.export import rerun
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.types.prediction import Prediction


def read(path: Path) -> dict[tuple[str, int | None], dict[str, np.ndarray]]:
    """What rerun's own reader finds: the entity and its view (None for what always holds) -> component -> values."""
    chunk = pytest.importorskip("rerun.chunk", reason="this version of rerun does not read recordings here")
    found: dict[tuple[str, int | None], dict[str, np.ndarray]] = {}
    for part in chunk.RrdReader(str(path)).stream():
        table = part.to_record_batch()
        (view,) = table.column("view").cast("int64").to_pylist() if "view" in table.schema.names else [None]
        components = found.setdefault((part.entity_path, view), {})
        for name in table.schema.names:
            if ":" in name:
                components[name] = np.array(table.column(name).to_pylist()[0])
    return found


@pytest.mark.peers
def test_rerun_reads_cameras_pictures_depth_and_points(room: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    (path,) = rerun.export(room, tmp_path, rerun.Options(frame="input"))
    assert [file.name for file in tmp_path.iterdir()] == ["scene.rrd"]
    entities = read(path)
    points = unproject(room.depth.astype(np.float64), room.intrinsics, room.extrinsics).reshape(3, -1, 3)
    for view in range(3):
        camera = f"/world/camera_{view:04d}"
        pose = np.linalg.inv(np.vstack([room.extrinsics[view], [0, 0, 0, 1]]))
        there = entities[camera, view]
        np.testing.assert_allclose(there["Transform3D:translation"][0], pose[:3, 3], atol=1e-5)
        turn = there["Transform3D:mat3x3"].reshape(3, 3).T  # rerun counts down the columns
        np.testing.assert_allclose(turn, pose[:3, :3], atol=1e-5)
        picture, depth = entities[f"{camera}/picture", view], entities[f"{camera}/picture/depth", view]
        lens = picture["Pinhole:image_from_camera"].reshape(3, 3).T
        np.testing.assert_allclose(lens, room.intrinsics[view], atol=1e-5)
        assert picture["Pinhole:resolution"].ravel().tolist() == [32, 24]
        pixels = picture["Image:buffer"].astype(np.uint8).reshape(24, 32, 3)
        np.testing.assert_array_equal(pixels, room.processed_images[view])
        stored = depth["DepthImage:buffer"].astype(np.uint8).view(np.float32)
        np.testing.assert_array_equal(stored.reshape(24, 32), room.depth[view])
        cloud = entities[f"/world/points_{view:04d}", view]
        np.testing.assert_allclose(cloud["Points3D:positions"], points[view], atol=1e-5)
    assert "unit: metre" in str(entities["/about", None]["TextDocument:text"])


@pytest.mark.peers
def test_two_recordings_have_the_same_content(room: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    options = rerun.Options(num_max_points=100)
    first, second = (read(rerun.export(room, tmp_path / name, options)[0]) for name in ("a", "b"))
    assert first.keys() == second.keys()
    for entity, components in first.items():
        assert components.keys() == second[entity].keys()
        for name, values in components.items():
            np.testing.assert_array_equal(values, second[entity][name])
    count = sum(len(parts["Points3D:positions"]) for parts in first.values() if "Points3D:positions" in parts)
    assert count == 100


def test_without_rerun_the_extra_is_named(room: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[rerun\]"):
        rerun.export(room, tmp_path / "out", rerun.Options())
    assert not (tmp_path / "out").exists()
