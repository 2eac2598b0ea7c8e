"""The two archive formats, read back with numpy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.export import mini_npz, npz

Contents = Callable[[Path], dict[str, bytes]]


def read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_published_keys_rounding_and_types(tmp_path: Path, make_prediction: Any) -> None:
    prediction = make_prediction()
    (full,) = npz.export(prediction, tmp_path, npz.Options())
    (mini,) = mini_npz.export(prediction, tmp_path, mini_npz.Options())
    assert full == tmp_path / "exports/npz/results.npz"
    assert mini == tmp_path / "exports/mini_npz/results.npz"
    for path, decimals in ((full, 6), (mini, 8)):
        arrays = read(path)
        expected = {
            "depth": np.round(prediction.depth, decimals),
            "conf": np.round(prediction.conf, 2),
            "extrinsics": prediction.extrinsics,
            "intrinsics": prediction.intrinsics,
        }
        if path == full:
            expected["image"] = prediction.processed_images
        for name, value in expected.items():
            assert arrays[name].dtype == value.dtype
            np.testing.assert_array_equal(arrays[name], value)
        assert set(arrays) == {*expected, "is_metric", "names"}
    assert (np.round(prediction.depth, 6) != prediction.depth).any(), "the rounding shows in these numbers"


def test_what_a_reader_needs_besides(tmp_path: Path, make_prediction: Any) -> None:
    prediction = make_prediction(sky=np.random.default_rng(0).random((3, 20, 30)) > 0.5, scale_factor=0.1)
    (path,) = mini_npz.export(prediction, tmp_path, mini_npz.Options())
    arrays = read(path)
    np.testing.assert_array_equal(arrays["sky"], prediction.sky)
    assert arrays["sky"].dtype == np.bool_
    assert arrays["is_metric"].item() is True
    assert arrays["scale_factor"].item() == 0.1
    assert tuple(arrays["names"].tolist()) == prediction.names


def test_absent_fields_are_left_out(tmp_path: Path, make_prediction: Any) -> None:
    prediction = make_prediction(conf=None, extrinsics=None, intrinsics=None, processed_images=None, names=())
    (path,) = npz.export(prediction, tmp_path, npz.Options())
    assert set(read(path)) == {"depth", "is_metric"}


@pytest.mark.filterwarnings("error")
def test_holes_survive(tmp_path: Path, make_prediction: Any) -> None:
    depth = make_prediction().depth.copy()
    depth[0, 0, :3] = np.nan, np.inf, -np.inf
    (path,) = npz.export(make_prediction(depth=depth), tmp_path, npz.Options())
    np.testing.assert_array_equal(read(path)["depth"][0, 0, :3], depth[0, 0, :3])


def test_no_clock_in_the_file(tmp_path: Path, make_prediction: Any) -> None:
    (path,) = npz.export(make_prediction(), tmp_path, npz.Options())
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_failing_half_way_keeps_the_old_file(
    tmp_path: Path, make_prediction: Any, monkeypatch: pytest.MonkeyPatch, contents: Contents
) -> None:
    npz.export(make_prediction(seed=1), tmp_path, npz.Options())
    before = contents(tmp_path)

    def disk_full(path: Path, **arrays: Any) -> None:
        path.write_bytes(b"PK half a file")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", disk_full)
    with pytest.raises(OSError, match="no space"):
        npz.export(make_prediction(seed=2), tmp_path, npz.Options())
    assert contents(tmp_path) == before
