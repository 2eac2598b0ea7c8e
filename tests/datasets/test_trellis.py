"""TRELLIS renders: types of assets, parts that may be missing, pictures without a mask."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.check import check
from datasets.writers.trellis import write, write_metadata
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.trellis import Trellis

SHOTS = list(shots_of("trellis").values())


def test_assets_that_are_left_out(tmp_path: Path) -> None:
    files = {
        "a" * 64: "https://host/owner/repo/blob/1234/part.STL?raw=true",
        "b" * 64: "https://host/3d-models/deadbeef",
        "c" * 64: "models/scan.ply",
        "d" * 64: "models/chair.glb",
        "e" * 64: "anim.abc",
    }
    for sha in [*files, "f" * 64]:
        write(tmp_path / "github" / "renders" / sha, SHOTS[:1])
    write_metadata(tmp_path / "github", files)
    dataset = Trellis(tmp_path)
    assert [scene[-1] for scene in dataset.scenes()] == ["b", "d", "f"]
    assert dataset.skipped() == {f"cleaning: asset from a file .{kind}": 1 for kind in ("stl", "ply", "abc")}
    assert len(Trellis(tmp_path, clean=False).scenes()) == 6


def test_cleaning_without_a_table_says_so(tmp_path: Path) -> None:
    write(tmp_path / "ABO" / "renders" / "a", SHOTS[:1])
    with pytest.warns(UserWarning, match=r"clean=True has no effect in .*ABO: there is no metadata\.csv"):
        assert Trellis(tmp_path).scenes() == ("trellis/ABO/a",)


def test_the_other_renders_have_no_depth(tmp_path: Path) -> None:
    write(tmp_path / "ABO" / "renders" / "a", SHOTS)
    write(tmp_path / "ABO" / "renders_cond" / "b", SHOTS, depth=False)
    dataset = Trellis(tmp_path, clean=False, renders="renders_cond")
    assert dataset.scenes() == ("trellis/ABO/b",)
    views = {frame: dataset.load("trellis/ABO/b", frame) for frame in dataset.frames("trellis/ABO/b")}
    assert all(view.depth is None and view.mask.any() for view in views.values())
    check(views, shots_of("trellis"))
    assert Trellis(tmp_path / "ABO", clean=False).scenes() == ("trellis/ABO/a",)


def test_edges_that_are_half_transparent(tmp_path: Path) -> None:
    place = tmp_path / "ABO" / "renders" / "a"
    write(place, SHOTS[:1])
    rgba = cv2.imread(str(place / "000.png"), cv2.IMREAD_UNCHANGED)
    rgba[0, :3] = [[10, 20, 30, 127], [10, 20, 30, 128], [10, 20, 30, 255]]
    cv2.imwrite(str(place / "000.png"), rgba)
    depth = cv2.imread(str(place / "000_depth.png"), cv2.IMREAD_UNCHANGED)
    depth[0, :3] = [0, 65535, 65534]
    cv2.imwrite(str(place / "000_depth.png"), depth)
    view = Trellis(tmp_path, clean=False).load("trellis/ABO/a", "000")
    np.testing.assert_array_equal(view.mask[0, :3], [False, True, True])
    np.testing.assert_allclose(view.depth[0, :3], [0, 0, 2 + 3**0.5 / 2], rtol=1e-4)
    np.testing.assert_array_equal(view.image[0, 2], [30, 20, 10])
    np.testing.assert_array_equal(view.image[0, 0], [143, 138, 133])  # half white


def test_frames_that_lack_something(tmp_path: Path) -> None:
    place = tmp_path / "ABO" / "renders" / "a"
    write(place, SHOTS)
    (place / "001.png").unlink()
    dataset = Trellis(tmp_path, clean=False)
    assert dataset.frames("trellis/ABO/a") == ("000", "002")
    assert dataset.skipped() == {"no image": 1}
    np.testing.assert_allclose(dataset.load("trellis/ABO/a", "002").extrinsics, SHOTS[2].w2c[:3], atol=1e-6)
    for file in place.glob("*.png"):
        file.unlink()
    with pytest.raises(CorruptSample, match="no picture"):
        Trellis(tmp_path, clean=False).frames("trellis/ABO/a")


def test_pictures_without_a_mask(tmp_path: Path) -> None:
    write(tmp_path / "ABO" / "renders" / "a", SHOTS)
    cv2.imwrite(str(tmp_path / "ABO" / "renders" / "a" / "000.png"), SHOTS[0].image)
    with pytest.raises(CorruptSample, match="no alpha"):
        Trellis(tmp_path, clean=False).load("trellis/ABO/a", "000")


@pytest.mark.parametrize(
    ("key", "value"), [("camera_angle_x", None), ("camera_angle_x", 4), ("transform_matrix", [[1]]), ("depth", {})]
)
def test_descriptions_that_do_not_fit(key: str, value: object, tmp_path: Path) -> None:
    place = tmp_path / "ABO" / "renders" / "a"
    write(place, SHOTS)
    content = json.loads((place / "transforms.json").read_text())
    content["frames"][0][key] = value
    (place / "transforms.json").write_text(json.dumps(content))
    dataset = Trellis(tmp_path, clean=False)
    with pytest.raises(CorruptSample):
        dataset.load("trellis/ABO/a", "000")
    dataset.load("trellis/ABO/a", "001")
