"""The recording, read back by rerun itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.export import rerun
from depth_anything_3.types.prediction import Prediction


def test_a_recording_has_cameras_pictures_and_points(room: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    (path,) = rerun.export(room, tmp_path, rerun.Options(num_max_points=100))
    content = path.read_bytes()
    assert content[:4] in (b"RRF2", b"RRIO") and [file.name for file in tmp_path.iterdir()] == ["scene.rrd"]
    for entity in (b"world", b"camera_0000", b"picture", b"depth", b"points_0002", b"about"):
        assert entity in content, entity


def test_without_rerun_the_extra_is_named(room: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[rerun\]"):
        rerun.export(room, tmp_path / "out", rerun.Options())
    assert not (tmp_path / "out").exists()
