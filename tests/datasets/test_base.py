"""The values that all data sets give, and their names."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from depth_anything_3.datasets.base import DATASETS, CorruptSample, Dataset, SceneCameras, View
from depth_anything_3.errors import DA3Error, InputError, UnknownNameError

IMAGE = np.zeros((4, 6, 3), np.uint8)
K = np.eye(3, dtype=np.float32)


def test_the_names() -> None:
    assert set(DATASETS) >= {"tartanair", "irs", "unreal_stereo_4k", "gta_sfm", "ken_burns", "point_odyssey"}
    assert set(DATASETS) >= {"trellis", "omniobject3d", "dl3dv", "rgbd_folder"}
    for name in DATASETS:
        assert issubclass(DATASETS[name], Dataset)
        assert DATASETS[name].name == name
    with pytest.raises(UnknownNameError, match="tartanair"):
        DATASETS["tartan"]


def test_nothing_heavy_is_loaded_for_them() -> None:
    code = """
import sys
from depth_anything_3.datasets.base import DATASETS
assert "cv2" not in sys.modules and "PIL" not in sys.modules
[DATASETS[name] for name in DATASETS if name != "procedural"]
loaded = [name for name in ("torch", "h5py", "OpenEXR") if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from pathlib import Path

    from depth_anything_3.datasets._reading import read_exr
    from depth_anything_3.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[train\]"):
        read_exr(Path(str(tmp_path)) / "depth.exr")


def test_corrupt_sample() -> None:
    error = pickle.loads(pickle.dumps(CorruptSample("a/b.png", "too short")))
    assert isinstance(error, (DA3Error, ValueError))
    assert (error.file.name, error.reason) == ("b.png", "too short")
    assert "b.png: too short" in str(error)


def test_a_view_is_frozen_and_leaves_the_callers_arrays_alone() -> None:
    depth = np.ones((4, 6), np.float32)
    view = View(image=IMAGE, intrinsics=K, depth=depth)
    assert not view.depth.flags.writeable
    assert depth.flags.writeable and IMAGE.flags.writeable
    with pytest.raises(AttributeError):
        view.depth = depth
    assert (view.extrinsics, view.sky, view.mask) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", np.zeros((4, 6), np.uint8)),
        ("image", np.zeros((4, 6, 3), np.float32)),
        ("intrinsics", np.eye(4, dtype=np.float32)),
        ("intrinsics", np.eye(3)),
        ("extrinsics", np.eye(4, dtype=np.float32)),
        ("depth", np.ones((6, 4), np.float32)),
        ("depth", np.ones((4, 6))),
        ("depth", np.full((4, 6), np.nan, np.float32)),
        ("depth", np.full((4, 6), np.inf, np.float32)),
        ("depth", np.full((4, 6), -1, np.float32)),
        ("sky", np.zeros((4, 6), np.uint8)),
        ("mask", np.zeros((4, 5), np.bool_)),
        ("mask", [True]),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_wrong_view_is_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{field}: got "):
        View(**{"image": IMAGE, "intrinsics": K, field: value})


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_cameras_are_refused() -> None:
    k = np.zeros((2, 3, 3), np.float32)
    assert SceneCameras(intrinsics=k).extrinsics is None
    with pytest.raises(InputError, match=r"^extrinsics: got "):
        SceneCameras(intrinsics=k, extrinsics=np.zeros((3, 3, 4), np.float32))
    with pytest.raises(InputError, match=r"^intrinsics: got "):
        SceneCameras(intrinsics=k.astype(np.float64))
