"""UnrealStereo4K: what is left out, the small variant, sky, cameras that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.check import check
from datasets.writers.unreal_stereo_4k import camera_text, write
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.unreal_stereo_4k import UnrealStereo4K

SHOTS = dict(shots_of("unreal_stereo_4k"))
PAIR = list(SHOTS.values())[:2]
SCENE = "unreal_stereo_4k/00000"


def test_scenes_that_are_left_out(tmp_path: Path) -> None:
    for scene in ("00002", "00003", "00004"):
        write(tmp_path / scene, PAIR)
    dataset = UnrealStereo4K(tmp_path)
    assert dataset.scenes() == ("unreal_stereo_4k/00002",)
    assert dataset.skipped() == {"cleaning: scene 00003": 1, "cleaning: scene 00004": 1}
    assert len(UnrealStereo4K(tmp_path, clean=False).scenes()) == 3


def test_frames_that_are_left_out(tmp_path: Path) -> None:
    published = "9-13 23-29 80-82 86-88 96-96 103-111 126-136 144-145 148-154 173-176 178-179 186-187 191-192 198-199"
    bad = {n for first, last in (r.split("-") for r in published.split()) for n in range(int(first), int(last) + 1)}
    write(tmp_path / "00008", PAIR)
    for kind, suffix in (("Image", "png"), ("Disp", "npy"), ("Extrinsics", "txt")):
        for side in "01":
            content = (tmp_path / "00008" / f"{kind}{side}" / f"00000.{suffix}").read_bytes()
            for number in range(200):
                (tmp_path / "00008" / f"{kind}{side}" / f"{number:05d}.{suffix}").write_bytes(content)
    dataset = UnrealStereo4K(tmp_path)
    frames = dataset.frames("unreal_stereo_4k/00008")
    assert frames == tuple(f"{n:05d}-{side}" for n in range(200) if n not in bad for side in ("left", "right"))
    assert dataset.skipped()["cleaning: frames of a scene"] == 2 * len(bad)
    assert len(UnrealStereo4K(tmp_path, clean=False).frames("unreal_stereo_4k/00008")) == 400


@pytest.mark.parametrize(
    "options", [{"k_factor": 4}, {"suffix": ".jpg"}, {"k_factor": 4, "suffix": ".jpg"}, {"half": True}]
)
def test_variants(options: dict[str, object], tmp_path: Path) -> None:
    stored = dict(options)
    half = [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]] if stored.pop("half", False) else np.zeros((3, 3))
    write(tmp_path / "00000", [replace(shot, k=shot.k - half) for shot in SHOTS.values()], **stored)
    dataset = UnrealStereo4K(tmp_path)
    views = {frame: dataset.load(SCENE, frame) for frame in dataset.frames(SCENE)}
    check(views, SHOTS, image_error=6 if "suffix" in options else 0)


def test_sky_and_what_is_unknown(tmp_path: Path) -> None:
    z = PAIR[0].z.copy()
    z[0, :4] = [999, 1001, 20000, np.inf]
    write(tmp_path / "00000", [replace(PAIR[0], z=z), PAIR[1]])
    view = UnrealStereo4K(tmp_path).load(SCENE, "00000-left")
    np.testing.assert_allclose(view.depth[0, :4], [999, 0, 0, 0], rtol=1e-4)
    np.testing.assert_array_equal(view.sky[0, :4], [False, True, True, False])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (camera_text(PAIR[0], 2.0), "cx is 96 in an image 96 pixels wide"),
        (camera_text(PAIR[0]).replace("\n", " 1\n", 1), "22 numbers instead of 21"),
        ("", "0 numbers instead of 21"),
        ("one " * 21, "ValueError"),
        (camera_text(replace(PAIR[0], w2c=PAIR[0].w2c @ np.diag([1.0, -1, 1, 1]))), "reflection"),
    ],
)
def test_cameras_that_do_not_fit(text: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "00000", list(SHOTS.values()))
    (tmp_path / "00000" / "Extrinsics0" / "00000.txt").write_text(text)
    dataset = UnrealStereo4K(tmp_path)
    with pytest.raises(CorruptSample, match=reason):
        dataset.load(SCENE, "00000-left")
    dataset.load(SCENE, "00001-left")
    assert np.isfinite(dataset.cameras(SCENE).extrinsics).all((1, 2)).tolist() == [False, True, True, True]


def test_frames_that_lack_something(tmp_path: Path) -> None:
    write(tmp_path / "00000", list(SHOTS.values()))
    (tmp_path / "00000" / "Disp1" / "00000.npy").unlink()
    (tmp_path / "00000" / "Extrinsics0" / "00001.txt").unlink()
    dataset = UnrealStereo4K(tmp_path)
    assert dataset.frames(SCENE) == ("00000-left",)
    assert dataset.skipped()["no disparity or no camera"] == 3
    (tmp_path / "00000" / "Disp0" / "00000.npy").unlink()
    with pytest.raises(CorruptSample, match="no frame"):
        UnrealStereo4K(tmp_path).frames(SCENE)


def test_scenes_without_a_readable_picture(tmp_path: Path) -> None:
    write(tmp_path / "00000", PAIR)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(CorruptSample):
        UnrealStereo4K(tmp_path).frames(SCENE)
