"""PointOdyssey: what is left out, counts that differ, the mirrored cameras of version 1.0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.check import check
from datasets.writers.point_odyssey import write
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.point_odyssey import PointOdyssey

SHOTS = list(shots_of("point_odyssey").values())
SCENE = "point_odyssey/train/ani"


def test_sequences_that_are_left_out(tmp_path: Path) -> None:
    for place in ("train/animal2_s", "val/dancingroom3_3rd", "val/ani", "test/ani"):
        write(tmp_path / place, SHOTS)
    dataset = PointOdyssey(tmp_path)
    assert dataset.scenes() == ("point_odyssey/test/ani", "point_odyssey/val/ani")
    assert dataset.skipped() == {"cleaning: sequence animal2_s": 1, "cleaning: sequence dancingroom3_3rd": 1}
    assert len(PointOdyssey(tmp_path, clean=False).scenes()) == 4
    assert PointOdyssey(tmp_path / "val").scenes() == ("point_odyssey/val/ani",)


def test_the_other_name_of_the_annotations(tmp_path: Path) -> None:
    write(tmp_path / "train" / "ani", SHOTS, annotations="annot.npz")
    assert len(PointOdyssey(tmp_path).frames(SCENE)) == 3


def test_far_is_no_depth_and_no_sky(tmp_path: Path) -> None:
    z = SHOTS[0].z.copy()
    z[0, :3] = [999.9, 1000, 1]
    write(tmp_path / "train" / "ani", [replace(SHOTS[0], z=z), *SHOTS[1:]])
    view = PointOdyssey(tmp_path).load(SCENE, "00000")
    np.testing.assert_allclose(view.depth[0, :3], [999.9, 0, 1], atol=0.01)
    assert view.sky is None


@pytest.mark.parametrize("file", ["rgbs/rgb_00001.jpg", "depths/depth_00002.png"])
def test_counts_that_differ(file: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / "ani", SHOTS)
    (tmp_path / "train" / "ani" / file).unlink()
    with pytest.raises(CorruptSample, match="3 and 3 cameras do not belong together"):
        PointOdyssey(tmp_path).frames(SCENE)


def rewrite(place: Path, **changes: object) -> None:
    """Replace or, with None, remove entries of the annotations."""
    content = {**dict(np.load(place / "anno.npz")), **changes}
    np.savez(place / "anno.npz", **{key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"intrinsics": None}, "intrinsics"),
        ({"intrinsics": np.eye(3)}, r"intrinsics \(3, 3\)"),
        ({"extrinsics": np.zeros((2, 4, 4))}, "3 and 2 cameras"),
    ],
)
def test_annotations_that_do_not_fit(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / "ani", SHOTS)
    rewrite(tmp_path / "train" / "ani", **changes)
    with pytest.raises(CorruptSample, match=reason):
        PointOdyssey(tmp_path).frames(SCENE)


def test_version_one_is_refused(tmp_path: Path) -> None:
    """There, R2 E R1 is the pose."""
    first = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    second = np.diag([-1.0, -1, -1, 1])
    old = [replace(shot, w2c=np.linalg.inv(second) @ shot.w2c @ np.linalg.inv(first)) for shot in SHOTS]
    write(tmp_path / "train" / "ani", old, tracked=SHOTS)
    with pytest.raises(CorruptSample, match=r"version 1\.0"):
        PointOdyssey(tmp_path).frames(SCENE)


@pytest.mark.parametrize("missing", ["trajs_3d", "trajs_2d", "visibs"])
def test_annotations_without_points(missing: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / "ani", SHOTS)
    rewrite(tmp_path / "train" / "ani", **{missing: None})
    dataset = PointOdyssey(tmp_path)
    check({f"{i:05d}": dataset.load(SCENE, f"{i:05d}") for i in range(3)}, shots_of("point_odyssey"),
          depth_error=3e-3, image_error=6)  # fmt: skip


def test_points_out_of_sight_do_not_count(tmp_path: Path) -> None:
    place = tmp_path / "train" / "ani"
    write(place, SHOTS)
    content = dict(np.load(place / "anno.npz"))
    content["trajs_2d"][:, :40] += 8
    with_hidden = np.ones((3, 50), np.bool_)
    with_hidden[:, :40] = False
    rewrite(place, trajs_2d=content["trajs_2d"], visibs=with_hidden)
    assert len(PointOdyssey(tmp_path).frames(SCENE)) == 3
    rewrite(place, visibs=~with_hidden)
    with pytest.raises(CorruptSample):
        PointOdyssey(tmp_path).frames(SCENE)


def test_eight_bits_are_no_depth(tmp_path: Path) -> None:
    write(tmp_path / "train" / "ani", SHOTS)
    cv2.imwrite(str(tmp_path / "train" / "ani" / "depths" / "depth_00000.png"), np.zeros((48, 64), np.uint8))
    with pytest.raises(CorruptSample, match="mode L instead of 16-bit grey"):
        PointOdyssey(tmp_path).load(SCENE, "00000")
