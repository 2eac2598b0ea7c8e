"""IRS: names of files, lists, limits, the comparison of edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import shots_of
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.irs import Irs, edge_overlap
from depth_anything_3.errors import InputError

pytest.importorskip("OpenEXR")

from datasets.writers.exr import write_exr
from datasets.writers.irs import write

PAIR = list(shots_of("irs").values())


def touch(folder: Path, index: str) -> None:
    """The names of a pair; nothing in the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"l_{index}.png", f"r_{index}.png", f"d_{index}.exr", f"n_{index}.exr"):
        (folder / name).touch()


def test_names(tmp_path: Path) -> None:
    touch(tmp_path / "IRSDataset" / "Home" / "ArchVizInterior03Data", "00001")
    touch(tmp_path / "IRSDataset" / "Restaurant" / "SCLRestaurant001_NightFall", "377")
    touch(tmp_path / "IRSDataset" / "Supermarket", "00002")
    touch(tmp_path / "IRSDataset" / "IRS_small" / "a" / "b", "1")
    expected = (
        "irs/Home/ArchVizInterior03Data/00001",
        "irs/IRS_small/a/b/1",
        "irs/Restaurant/SCLRestaurant001_NightFall/377",
        "irs/Supermarket/00002",
    )
    assert Irs(tmp_path).scenes() == Irs(tmp_path / "IRSDataset").scenes() == expected
    inside = Irs(tmp_path / "IRSDataset" / "Home" / "ArchVizInterior03Data")
    assert inside.scenes() == expected[:1]


def test_only_what_a_list_names(tmp_path: Path) -> None:
    for index in ("00001", "2"):
        touch(tmp_path / "Home" / "Loft", index)
    names = [
        f"Home/Loft/{kind}_2.{suffix}" for kind, suffix in (("l", "png"), ("r", "png"), ("d", "exr"), ("n", "exr"))
    ]
    (tmp_path / "train.list").write_text(" ".join(names) + "\n")
    assert Irs(tmp_path, list_file=tmp_path / "train.list").scenes() == ("irs/Home/Loft/2",)
    with pytest.raises(InputError, match="list_file"):
        Irs(tmp_path, list_file=tmp_path / "missing.list")


def test_without_the_right_picture(tmp_path: Path) -> None:
    touch(tmp_path / "Home" / "Loft", "1")
    (tmp_path / "Home" / "Loft" / "r_1.png").unlink()
    assert Irs(tmp_path).frames("irs/Home/Loft/1") == ("left",)


@pytest.mark.parametrize(("clean", "kept"), [(True, [0, 199, 0, 0]), (False, [0, 199, 201, 0])])
def test_limits(clean: bool, kept: list[float], tmp_path: Path) -> None:
    write(tmp_path / "Office" / "A", PAIR)
    disparity = (48 / PAIR[0].z).astype(np.float32)
    disparity[0, :4] = [-1, 48 / 199, 48 / 201, 0]
    colours = {"R": disparity, "G": np.zeros_like(disparity), "B": np.zeros_like(disparity)}
    write_exr(tmp_path / "Office" / "A" / "d_00001.exr", colours)
    view = Irs(tmp_path, clean=clean).load("irs/Office/A/00001", "left")
    np.testing.assert_allclose(view.depth[0, :4], kept, rtol=1e-5)
    assert not view.sky.any()


def test_channels_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "Office" / "A", PAIR)
    write_exr(tmp_path / "Office" / "A" / "d_00001.exr", {"disp.X": np.ones((540, 960), np.float32)})
    with pytest.raises(CorruptSample, match=r"channels disp\.X and none of"):
        Irs(tmp_path).load("irs/Office/A/00001", "left")


def test_pictures_of_another_size(tmp_path: Path) -> None:
    write(tmp_path / "Office" / "A", PAIR)
    cv2.imwrite(str(tmp_path / "Office" / "A" / "l_00001.png"), np.zeros((270, 480, 4), np.uint8))
    with pytest.raises(CorruptSample, match="270x480 and should be 540x960"):
        Irs(tmp_path).load("irs/Office/A/00001", "left")


def test_edges() -> None:
    depth = np.full((60, 80), 4, np.float32)
    depth[20:40, 20:50] = 2
    image = np.repeat((depth * 50).astype(np.uint8)[..., None], 3, 2)
    assert edge_overlap(image, depth) == 1
    assert edge_overlap(np.roll(image, 12, axis=(0, 1)), depth) < 0.5
    assert edge_overlap(np.zeros_like(image), depth) == 0
    assert edge_overlap(image, np.full_like(depth, 3)) == 1
    assert edge_overlap(image, np.zeros_like(depth)) == 1


def test_frames_whose_edges_differ_are_left_out(tmp_path: Path) -> None:
    shifted = np.ascontiguousarray(np.roll(PAIR[0].image, 200, axis=(0, 1)))
    write(tmp_path / "Office" / "A", PAIR, "1")
    write(tmp_path / "Office" / "A", [replace(PAIR[0], image=shifted), PAIR[1]], "2")
    dataset = Irs(tmp_path, min_edge_overlap=0.6)
    dataset.load("irs/Office/A/1", "left")
    with pytest.raises(CorruptSample, match="of the edges of its depth"):
        dataset.load("irs/Office/A/2", "left")
    Irs(tmp_path).load("irs/Office/A/2", "left")
    Irs(tmp_path, clean=False, min_edge_overlap=0.6).load("irs/Office/A/2", "left")
