"""TartanAir: environments, limits of depth, sky, doubled folders, defects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.damage import truncate
from datasets.writers.tartanair import write
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.tartanair import TartanAir

SHOT = shots_of("tartanair")["000000"]


def with_depth(*values: float) -> np.ndarray:
    """The depth of the shot, with these values in the first row."""
    z = np.where(SHOT.hit, SHOT.z, 10000)
    z[0, : len(values)] = values
    return z


@pytest.mark.parametrize(
    ("environment", "clean", "kept", "sky"),
    [
        ("oldtown", True, (29.0, 31.0, 81.0, 999.0), True),
        ("ocean", True, (29.0, 31.0, 81.0, 999.0), True),
        ("carwelding", True, (29.0, 31.0), False),
        ("hospital", True, (29.0,), False),
        ("office", True, (29.0,), False),
        ("office2", True, (29.0,), False),
        ("office2", False, (29.0, 31.0, 81.0, 999.0), False),
    ],
)
def test_limits(environment: str, clean: bool, kept: tuple[float, ...], sky: bool, tmp_path: Path) -> None:
    write(tmp_path / environment / "Hard" / "P012", [replace(SHOT, z=with_depth(29, 31, 81, 999, 1000, 10000))])
    dataset = TartanAir(tmp_path, clean=clean)
    scene = f"tartanair/{environment}/Hard/P012"
    view = dataset.load(scene, "000000")
    np.testing.assert_array_equal(view.depth[0, :6], [*kept, *[0] * (6 - len(kept))])
    assert view.depth.max() == max(kept)
    np.testing.assert_array_equal(view.sky[0, :6], [False] * 4 + [sky] * 2)
    assert view.sky[1:].any() == sky


def test_numbers_that_are_no_depth(tmp_path: Path) -> None:
    write(tmp_path / "gascola" / "Easy" / "P000", [replace(SHOT, z=with_depth(1, -1, 0, 5))])
    file = next(tmp_path.rglob("*.npy"))
    depth = np.load(file)
    depth[0, [0, 4]] = np.nan, np.inf
    np.save(file, depth.astype(np.float16))  # as the read-me says; most copies have 32 bits
    view = TartanAir(tmp_path).load("tartanair/gascola/Easy/P000", "000000")
    np.testing.assert_array_equal(view.depth[0, :5], [0, 0, 0, 5, 0])
    np.testing.assert_array_equal(view.sky[0, :5], [False, False, False, False, True])
    assert view.depth.dtype == np.float32


def test_environments_that_are_left_out(tmp_path: Path) -> None:
    for environment in ("amusement", "amusement/amusement", "oldtown"):
        write(tmp_path / environment / "Easy" / "P001", [])
    dataset = TartanAir(tmp_path)
    assert dataset.scenes() == ("tartanair/oldtown/Easy/P001",)
    assert dataset.skipped() == {"cleaning: environment amusement": 2}
    everything = TartanAir(tmp_path, clean=False)
    assert everything.scenes() == ("tartanair/amusement/Easy/P001", "tartanair/oldtown/Easy/P001")
    assert everything.skipped() == {"a second copy of a scene": 1}


@pytest.mark.parametrize("below", ["", "TartanAir", "TartanAir/office", "TartanAir/office/office/Easy/P003"])
def test_ids_do_not_depend_on_the_root(below: str, tmp_path: Path) -> None:
    place = tmp_path / "TartanAir" / "office" / "office" / "Easy" / "P003"
    write(place, [SHOT])
    dataset = TartanAir(tmp_path / below)
    assert dataset.scenes() == ("tartanair/office/Easy/P003",)
    assert not dataset.load("tartanair/office/Easy/P003", "000000").sky.any()


def test_frames_that_lack_something(tmp_path: Path) -> None:
    place = tmp_path / "ocean" / "Easy" / "P000"
    write(place, list(shots_of("tartanair").values()))
    (place / "depth_left" / "000000_left_depth.npy").unlink()
    pose_file = place / "pose_left.txt"
    pose_file.write_text("\n".join(pose_file.read_text().splitlines()[:2]))
    (place / "image_left" / "notes.txt").write_text("")
    dataset = TartanAir(tmp_path)
    scene = "tartanair/ocean/Easy/P000"
    assert dataset.skipped() == {}
    assert dataset.frames(scene) == ("000001",)
    assert dataset.skipped() == {"no image or no depth": 1, "no pose": 1}
    np.testing.assert_allclose(
        dataset.load(scene, "000001").extrinsics[:, 3], dataset.cameras(scene).extrinsics[0, :, 3]
    )


@pytest.mark.parametrize("content", ["1 2 3 4 5 6\n", "1 2 3 0 0 0 1\n1 2\n", "a b c d e f g\n"])
def test_poses_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    place = tmp_path / "ocean" / "Easy" / "P000"
    write(place, [SHOT])
    (place / "pose_left.txt").write_text(content)
    with pytest.raises(CorruptSample) as caught:
        TartanAir(tmp_path).frames("tartanair/ocean/Easy/P000")
    assert caught.value.file.name == "pose_left.txt"


def test_a_quaternion_of_zeros(tmp_path: Path) -> None:
    place = tmp_path / "ocean" / "Easy" / "P000"
    write(place, [SHOT])
    (place / "pose_left.txt").write_text("1 2 3 0 0 0 0\n")
    with pytest.raises(CorruptSample, match="pose is not finite"):
        TartanAir(tmp_path).load("tartanair/ocean/Easy/P000", "000000")


def test_only_the_last_scenes_are_remembered(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "ocean" / "Easy" / f"P{i:03d}", [])
        (tmp_path / "ocean" / "Easy" / f"P{i:03d}" / "pose_left.txt").write_text("0 0 0 0 0 0 1\n")
    dataset = TartanAir(tmp_path)
    for scene in dataset.scenes():
        assert dataset.frames(scene) == ()
    truncate(tmp_path / "ocean" / "Easy" / "P000" / "pose_left.txt")
    (tmp_path / "ocean" / "Easy" / "P019" / "pose_left.txt").unlink()
    assert dataset.frames("tartanair/ocean/Easy/P019") == ()  # still known
    with pytest.raises(CorruptSample):
        dataset.frames("tartanair/ocean/Easy/P000")  # read again
