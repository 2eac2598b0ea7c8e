"""Depth as numbers, read back by OpenCV, numpy and OpenEXR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_anything_3.errors import InputError, MissingExtraError
from depth_anything_3.export import depth_raw


@pytest.fixture
def holes(make_prediction: Any) -> Any:
    depth = make_prediction().depth.copy()
    depth[0, 0, :5] = np.nan, np.inf, 0, -1, 1e-4
    return make_prediction(depth=depth)


def test_png_holds_millimetres(holes: Any, tmp_path: Path) -> None:
    paths = depth_raw.export(holes, tmp_path, depth_raw.Options())
    known = np.isfinite(holes.depth) & (holes.depth > 0)
    for path, depth, there in zip(paths[:-1], holes.depth, known, strict=True):
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(values == 0, ~there)
        np.testing.assert_allclose(values[there], depth[there] * 1000, atol=1.0)
    sidecar = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert (sidecar["per_unit"], sidecar["unit"], sidecar["unknown"]) == (1000.0, "metre", 0)
    assert sidecar["files"]["0001.png"] == "photo 1 é.png"


def test_relative_depth_uses_all_steps(make_prediction: Any, tmp_path: Path) -> None:
    prediction = make_prediction(is_metric=False)
    paths = depth_raw.export(prediction, tmp_path, depth_raw.Options())
    sidecar = json.loads(paths[-1].read_text())
    assert sidecar["unit"] is None and sidecar["scale"] == "relative"
    values = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths[:-1]])
    assert values.max() == 65535
    np.testing.assert_allclose(values / sidecar["per_unit"], prediction.depth, atol=0.51 / sidecar["per_unit"])


def test_too_far_is_unknown_and_said(make_prediction: Any, tmp_path: Path) -> None:
    depth = np.full((1, 2, 2), 70.0, np.float32)
    depth[0, 0, 0] = 65
    prediction = make_prediction(1, depth=depth, conf=None, processed_images=None)
    with pytest.warns(UserWarning, match=r"75.0% of the pixels are beyond 65\.535"):
        paths = depth_raw.export(prediction, tmp_path, depth_raw.Options())
    assert cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED).tolist() == [[65000, 0], [0, 0]]
    depth_raw.export(prediction, tmp_path, depth_raw.Options(per_unit=256))
    assert cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED).tolist() == [[65 * 256, 70 * 256], [70 * 256] * 2]


@pytest.mark.parametrize("encoding", ["npy", "pfm", "exr"])
def test_floats_come_back_bit_for_bit(holes: Any, tmp_path: Path, encoding: Any) -> None:
    if encoding == "exr":
        openexr = pytest.importorskip("OpenEXR")
    paths = depth_raw.export(holes, tmp_path, depth_raw.Options(encoding=encoding))
    for path, depth in zip(paths[:-1], holes.depth, strict=True):
        if encoding == "npy":
            values = np.load(path, allow_pickle=False)
        elif encoding == "pfm":
            values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        else:
            with openexr.File(str(path)) as file:
                values = np.array(file.channels()["Z"].pixels)
        np.testing.assert_array_equal(values, depth)
        assert values.dtype == np.float32
    again = depth_raw.export(holes, tmp_path / "again", depth_raw.Options(encoding=encoding))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_errors_and_options_without_effect(holes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="per_unit"):
        depth_raw.Options(per_unit=0.0)
    with pytest.warns(UserWarning, match="per_unit has no effect on npy"):
        depth_raw.export(holes, tmp_path, depth_raw.Options(encoding="npy", per_unit=5.0))
    monkeypatch.setitem(__import__("sys").modules, "OpenEXR", None)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[exr\]"):
        depth_raw.export(holes, tmp_path / "exr", depth_raw.Options(encoding="exr"))
    assert not (tmp_path / "exr").exists()
