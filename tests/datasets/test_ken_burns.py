"""3D Ken Burns: samples as scenes, limits, doubled folders, defects."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import SIZE, shots_of
from datasets.check import check
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.ken_burns import KenBurns

pytest.importorskip("OpenEXR")

from datasets.writers.ken_burns import write

SHOTS = dict(shots_of("ken_burns"))
SCENE = "ken_burns/fort-walking/00003"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one sample."""
    write(tmp_path, "fort-walking", "00003", SHOTS)
    return tmp_path


def test_samples_are_scenes(root: Path) -> None:
    write(root, "fort-walking", "00010", SHOTS)
    write(root, "asdf-flying", "00003", SHOTS)
    dataset = KenBurns(root)
    assert dataset.scenes() == ("ken_burns/asdf-flying/00003", SCENE, "ken_burns/fort-walking/00010")
    assert dataset.frames(SCENE) == ("bl", "br", "tl", "tr")


@pytest.mark.parametrize("below", ["", "3dkb"])
def test_doubled_folders(below: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    write(inner, "fort-walking", "00003", SHOTS)
    for name in ("fort-walking", "fort-walking-depth"):
        target = tmp_path / "out" / below / name / name
        target.parent.mkdir(parents=True)
        shutil.move(inner / name, target)
    dataset = KenBurns(tmp_path / "out")
    check({frame: dataset.load(SCENE, frame) for frame in dataset.frames(SCENE)}, SHOTS)


def test_frames_that_lack_something(root: Path) -> None:
    (root / "fort-walking" / "00003-br-image.png").unlink()
    (root / "fort-walking-depth" / "00003-tl-depth.exr").unlink()
    dataset = KenBurns(root)
    assert dataset.frames(SCENE) == ("bl", "tr")
    assert dataset.skipped() == {"no image or no depth": 2}
    np.testing.assert_array_equal(dataset.load(SCENE, "tr").extrinsics[:, 3], [-20, 20, 0])


@pytest.mark.parametrize(("clean", "kept"), [(True, [49000, 0, 0, 0]), (False, [49000, 51000, 0, 0])])
def test_limits(clean: bool, kept: list[float], tmp_path: Path) -> None:
    z = SHOTS["bl"].z.copy()
    z[0, :4] = [49000, 51000, np.inf, -1]
    write(tmp_path, "fort-walking", "00003", {**SHOTS, "bl": replace(SHOTS["bl"], z=z)}, far=np.inf)
    view = KenBurns(tmp_path, clean=clean).load(SCENE, "bl")
    np.testing.assert_array_equal(view.depth[0, :4], kept)
    np.testing.assert_array_equal(view.sky[0, :4], [False, clean, True, False])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"fltFov": null}', '{"fltFov": 0}', '{"fltFov": NaN}', "\x80"])
def test_a_damaged_description_costs_its_sample(content: str, root: Path) -> None:
    write(root, "fort-walking", "00004", SHOTS)
    (root / "fort-walking" / "00003-meta.json").write_bytes(content.encode("latin1"))
    dataset = KenBurns(root)
    with pytest.raises(CorruptSample, match="00003"):
        dataset.load(SCENE, "bl")
    assert np.isnan(dataset.cameras(SCENE).intrinsics).all()
    dataset.load("ken_burns/fort-walking/00004", "bl")


def test_pictures_of_another_size(root: Path) -> None:
    cv2.imwrite(str(root / "fort-walking" / "00003-tr-image.png"), np.zeros((SIZE[0], SIZE[1] + 1, 3), np.uint8))
    with pytest.raises(CorruptSample, match="48x65 and should be 48x64"):
        KenBurns(root).load(SCENE, "tr")


def test_the_field_of_view_spans_the_longer_side(tmp_path: Path) -> None:
    tall = {corner: replace(s, z=s.z.T, image=s.image.transpose(1, 0, 2)) for corner, s in SHOTS.items()}
    write(tmp_path, "fort-walking", "00003", tall)
    np.testing.assert_allclose(
        KenBurns(tmp_path).cameras(SCENE).intrinsics[0], [[50, 0, 24], [0, 50, 32], [0, 0, 1]], rtol=1e-6
    )
