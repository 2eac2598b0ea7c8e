"""GTA-SfM: order of frames, limits, the open factor, damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.check import check
from datasets.damage import truncate
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.gta_sfm import GtaSfm
from depth_anything_3.errors import InputError

h5py = pytest.importorskip("h5py")

from datasets.writers.gta_sfm import write  # noqa: E402

SHOTS = dict(shots_of("gta_sfm"))
SCENE = "gta_sfm/test/20190127_1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sequence of three frames."""
    write(tmp_path / "test" / "20190127_1.hdf5", list(SHOTS.values()))
    return tmp_path / "test" / "20190127_1.hdf5"


def test_names(file: Path) -> None:
    root = file.parents[1]
    write(root / "train" / "20190127_1.hdf5", [])
    assert GtaSfm(root).scenes() == (SCENE, "gta_sfm/train/20190127_1")
    assert GtaSfm(file.parent).scenes() == (SCENE,)


def test_order_of_frames(tmp_path: Path) -> None:
    write(tmp_path / "long.hdf5", [SHOTS["0"]] * 12)
    assert GtaSfm(tmp_path).frames("gta_sfm/long") == tuple(map(str, range(12)))


@pytest.mark.parametrize(("clean", "far"), [(True, 0), (False, 1001)])
def test_limits(clean: bool, far: float, file: Path) -> None:
    with h5py.File(file, "r+") as stream:
        stream["depth_0"][0, :5] = [np.nan, 999, 1001, np.inf, -1]
    view = GtaSfm(file.parent, clean=clean).load(SCENE, "0")
    np.testing.assert_array_equal(view.depth[0, :5], [0, 999, far, 0, 0])
    np.testing.assert_array_equal(view.sky[0, :5], [False, False, clean, True, False])


def test_the_factor_of_depth(tmp_path: Path) -> None:
    tenth = [replace(shot, z=shot.z / 10) for shot in SHOTS.values()]
    write(tmp_path / "a.hdf5", tenth)
    for scale in (1.0, 10.0):
        dataset = GtaSfm(tmp_path, depth_scale=scale)
        views = {frame: dataset.load("gta_sfm/a", frame) for frame in dataset.frames("gta_sfm/a")}
        if scale == 10:
            check(views, SHOTS)
        else:
            with pytest.raises(AssertionError, match="depth is off"):
                check(views, SHOTS)
    with pytest.raises(InputError, match="depth_scale"):
        GtaSfm(tmp_path, depth_scale=-1)


def test_frames_that_lack_something(file: Path) -> None:
    with h5py.File(file, "r+") as stream:
        del stream["pose_1"]
    dataset = GtaSfm(file.parent)
    assert dataset.frames(SCENE) == ("0", "2")
    assert dataset.skipped() == {"image, depth, K or pose missing": 1}


def _no_image(stream: h5py.File) -> None:
    stream["image_0"][:] = 0


def _half_an_image(stream: h5py.File) -> None:
    content = stream["image_0"][:]
    del stream["image_0"]
    stream["image_0"] = content[: len(content) // 2]


def _small_depth(stream: h5py.File) -> None:
    content = stream["depth_0"][:]
    del stream["depth_0"]
    stream["depth_0"] = content[:-4]


def _flat_depth(stream: h5py.File) -> None:
    content = stream["depth_0"][:]
    del stream["depth_0"]
    stream["depth_0"] = content.ravel()


def _wrong_pose(stream: h5py.File) -> None:
    del stream["pose_0"]
    stream["pose_0"] = np.eye(3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_image, "image_0: .*not recognised"),
        (_half_an_image, "image_0: "),
        (_small_depth, "44x64 and should be 48x64"),
        (_flat_depth, "depth_0 has 1 axes"),
        (_wrong_pose, "wrong shape"),
    ],
)
def test_damaged_frames(damage: object, reason: str, file: Path) -> None:
    with h5py.File(file, "r+") as stream:
        damage(stream)
    dataset = GtaSfm(file.parent)
    with pytest.raises(CorruptSample, match=reason) as caught:
        dataset.load(SCENE, "0")
    assert caught.value.file == file
    dataset.load(SCENE, "1")


def test_a_damaged_file(file: Path) -> None:
    truncate(file)
    dataset = GtaSfm(file.parent)
    assert dataset.scenes() == (SCENE,)
    with pytest.raises(CorruptSample) as caught:
        dataset.frames(SCENE)
    assert caught.value.file == file
