"""All adapters: a broken file costs one frame, and the error names the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import CASES, Case, shots_of
from datasets.damage import crop, only, truncate
from depth_anything_3.datasets.base import CorruptSample

WITH_IMAGE = [name for name, case in CASES.items() if case.image]
WITH_DEPTH = [name for name, case in CASES.items() if case.depth]
WITH_POSES = [name for name, case in CASES.items() if "inverted pose" in case.in_files]

_ONLY_ROTATIONS = ("tartanair", "tanks_and_temples", "megadepth", "scannetpp", "megadepth_dense", "arkitscenes")


def written(name: str, root: Path) -> Case:
    """A data set on disk, if its files can be written here."""
    case = CASES[name]
    for module in case.needs:
        pytest.importorskip(module)
    case.write(root, shots_of(name))
    return case


def check_one_is_lost(case: Case, root: Path, file: Path) -> None:
    """The first frame is corrupt because of ``file``; the last one is not."""
    dataset = case.open(root)
    frames = dataset.frames(case.scene)
    with pytest.raises(CorruptSample, match=r"(?s)\w") as caught:
        dataset.load(case.scene, frames[0])
    assert caught.value.file == file
    dataset.load(case.scene, frames[-1])


@pytest.mark.parametrize("name", WITH_IMAGE)
def test_truncated_image(name: str, tmp_path: Path) -> None:
    case = written(name, tmp_path)
    file = only(tmp_path, case.image)
    truncate(file)
    check_one_is_lost(case, tmp_path, file)


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_truncated_depth(name: str, tmp_path: Path) -> None:
    case = written(name, tmp_path)
    file = only(tmp_path, case.depth)
    truncate(file)
    check_one_is_lost(case, tmp_path, file)


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_of_another_size(name: str, tmp_path: Path) -> None:
    case = written(name, tmp_path)
    file = only(tmp_path, case.depth)
    crop(file)
    check_one_is_lost(case, tmp_path, file)


@pytest.mark.parametrize("name", WITH_IMAGE)
def test_image_that_went_away(name: str, tmp_path: Path) -> None:
    case = written(name, tmp_path)
    dataset = case.open(tmp_path)
    frame = dataset.frames(case.scene)[0]
    file = only(tmp_path, case.image)
    file.unlink()
    with pytest.raises(CorruptSample, match="no such file") as caught:
        dataset.load(case.scene, frame)
    assert caught.value.file == file


@pytest.mark.parametrize("name", WITH_POSES)
@pytest.mark.parametrize("damage", ["nan", "sheared"])
def test_pose_that_is_none(name: str, damage: str, tmp_path: Path) -> None:
    case = CASES[name]
    for module in case.needs:
        pytest.importorskip(module)
    frames = list(shots_of(name))
    bad = shots_of(name)[frames[0]].w2c.copy()
    if damage == "nan":
        bad[:3] = np.nan
    else:
        bad[0, 1] += 0.3
    if damage == "sheared" and name in _ONLY_ROTATIONS:
        pytest.skip("a quaternion, or a rotation vector, cannot say it")
    case.write(tmp_path, {**shots_of(name), frames[0]: replace(shots_of(name)[frames[0]], w2c=bad)})
    dataset = case.open(tmp_path)
    with pytest.raises(CorruptSample):
        dataset.load(case.scene, frames[0])
    dataset.load(case.scene, frames[-1])
    cameras = dataset.cameras(case.scene)
    assert np.isnan(cameras.extrinsics[0]).all() and np.isnan(cameras.intrinsics[0]).all()
    assert np.isfinite(cameras.extrinsics[1:]).all() and np.isfinite(cameras.intrinsics[1:]).all()
