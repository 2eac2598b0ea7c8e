"""Folders of one's own: every optional part, and real captures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.cases import SIZE, shots_of
from datasets.check import check
from datasets.world import Shot
from datasets.writers.rgbd_folder import write
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.rgbd_folder import RgbdFolder
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject

SHOTS = list(shots_of("rgbd_folder").values())


def load_all(dataset: RgbdFolder, scene: str) -> dict[str, Any]:
    return {frame: dataset.load(scene, frame) for frame in dataset.frames(scene)}


def named(shots: list[Shot], dataset: RgbdFolder, scene: str) -> dict[str, Shot]:
    return dict(zip(dataset.frames(scene), shots, strict=True))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"depth": "png"}, {"depth_error": 1e-3}),
        ({"K": SHOTS[0].k}, {}),
        ({"names": ["frame 1", "1305031230.997080", "b"]}, {}),
        ({"K": np.stack([s.k for s in SHOTS]) - np.array([[0, 0, 0.5]] * 2 + [[0, 0, 0]]), "pixel_centre": 0.0}, {}),
        ({"pixel_centre": 0.5}, {}),
    ],
)
def test_variants(options: dict[str, Any], tolerance: dict[str, float], tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS, **options)
    dataset = RgbdFolder(tmp_path / "one")
    assert dataset.scenes() == ("rgbd_folder/one",)
    views = load_all(dataset, "rgbd_folder/one")
    check(views, named(SHOTS, dataset, "rgbd_folder/one"), **tolerance)


def test_the_pixel_convention_matters_and_can_be_overruled(tmp_path: Path) -> None:
    k = np.stack([shot.k for shot in SHOTS]) - np.array([[0, 0, 0.5]] * 2 + [[0, 0, 0]])
    write(tmp_path / "one", SHOTS, K=k)
    for dataset, right in ((RgbdFolder(tmp_path), False), (RgbdFolder(tmp_path, pixel_centre=0.0), True)):
        views, shots = load_all(dataset, "rgbd_folder/one"), named(SHOTS, dataset, "rgbd_folder/one")
        if right:
            check(views, shots)
        else:
            with pytest.raises(AssertionError, match="pixels off"):
                check(views, shots)
    with pytest.raises(InputError, match="pixel_centre"):
        RgbdFolder(tmp_path, pixel_centre=1.0)


def test_without_poses(tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS, c2w=None)
    dataset = RgbdFolder(tmp_path)
    assert dataset.cameras("rgbd_folder/one").extrinsics is None
    views = load_all(dataset, "rgbd_folder/one")
    assert all(view.extrinsics is None for view in views.values())
    check(views, named(SHOTS, dataset, "rgbd_folder/one"))


def test_many_scenes_and_their_unit(tmp_path: Path) -> None:
    for place in ("b", "a/deep/one", "a/deep/two"):
        write(tmp_path / place, SHOTS[:1], units="m")
    (tmp_path / "a" / "empty").mkdir()
    dataset = RgbdFolder(tmp_path, real=False)
    assert dataset.scenes() == ("rgbd_folder/a/deep/one", "rgbd_folder/a/deep/two", "rgbd_folder/b")
    assert dataset.metric is True and dataset.real is False
    write(tmp_path / "c", SHOTS[:1], unit="sfm")
    assert RgbdFolder(tmp_path).metric is False


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS)
    for file in ("depth/0.5.npy", "sky/2.5.png", "mask/2.5.png", "images/1.5.png"):
        (tmp_path / "one" / file).unlink()
    dataset = RgbdFolder(tmp_path)
    assert dataset.frames("rgbd_folder/one") == ("0.5", "2.5")
    assert dataset.skipped() == {"no image": 1}
    first, second = load_all(dataset, "rgbd_folder/one").values()
    assert first.depth is None and first.sky.any() and first.mask.any()
    assert second.sky is None and second.mask is None and second.depth.any()
    np.testing.assert_allclose(second.extrinsics, SHOTS[2].w2c[:3], atol=1e-6)
    np.testing.assert_array_equal(second.image, SHOTS[2].image)


def test_depth_that_is_none(tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS[:1])
    file = tmp_path / "one" / "depth" / "0.5.npy"
    depth = np.load(file).astype(np.float64)
    depth[0, :5] = [np.nan, np.inf, -np.inf, -1, 1e300]
    np.save(file, depth[..., None])
    loaded = RgbdFolder(tmp_path).load("rgbd_folder/one", "0.5").depth
    assert not loaded[0, :5].any()
    np.testing.assert_allclose(loaded[1:], depth[1:], rtol=1e-6)


def test_photographs_that_their_tag_turns(tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS[:1])
    (tmp_path / "one" / "images" / "0.5.png").unlink()
    tag = Image.Exif()
    tag[0x0112] = 3
    Image.fromarray(SHOTS[0].image).save(tmp_path / "one" / "images" / "0.5.jpg", exif=tag)
    with pytest.raises(CorruptSample, match="orientation"):
        RgbdFolder(tmp_path).load("rgbd_folder/one", "0.5")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"K": np.zeros((2, 3, 3))}, r"K has shape \(2, 3, 3\) for 3 names"),
        ({"c2w": np.zeros((3, 3, 4))}, r"c2w has shape \(3, 3, 4\)"),
        ({"names": ["a", "b", "a"]}, "twice"),
        ({"K": None}, "KeyError"),
    ],
)
def test_descriptions_that_do_not_fit(fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS, **fields)
    with pytest.raises(CorruptSample, match=reason) as caught:
        RgbdFolder(tmp_path).frames("rgbd_folder/one")
    assert caught.value.file.name == "scene.npz"


def test_a_damaged_description(tmp_path: Path) -> None:
    write(tmp_path / "one", SHOTS)
    write(tmp_path / "two", SHOTS)
    (tmp_path / "one" / "scene.npz").write_bytes(b"PK\3\4 and no more")
    dataset = RgbdFolder(tmp_path)
    assert len(dataset.scenes()) == 2 and dataset.metric
    with pytest.raises(CorruptSample):
        dataset.cameras("rgbd_folder/one")
    assert len(dataset.frames("rgbd_folder/two")) == 3


@pytest.mark.parametrize("what", ["intrinsics", "sky", "depth"])
def test_frames_that_do_not_fit(what: str, tmp_path: Path) -> None:
    k = np.stack([shot.k for shot in SHOTS])
    k[0, 0, 0] = -50 if what == "intrinsics" else 50
    write(tmp_path / "one", SHOTS, K=k, depth="png")
    small = np.zeros((SIZE[0] - 1, SIZE[1]), np.uint8)
    if what == "sky":
        cv2.imwrite(str(tmp_path / "one" / "sky" / "0.5.png"), small)
    if what == "depth":
        cv2.imwrite(str(tmp_path / "one" / "depth" / "0.5.png"), np.zeros(SIZE, np.uint8))
    reason = {"intrinsics": "focal length", "sky": "47x64 and should be 48x64", "depth": "instead of 16-bit grey"}[what]
    with pytest.raises(CorruptSample, match=reason):
        RgbdFolder(tmp_path).load("rgbd_folder/one", "0.5")
    RgbdFolder(tmp_path).load("rgbd_folder/one", "1.5")


REAL = {"open3d_redwood5": 0.02, "redwood_livingroom1_micro": 0.02, "princeton_box50": 0.02}
"""Scene -> allowed median relative difference of the depth of two frames of the same place."""


@pytest.mark.parametrize("name", REAL)
def test_real_captures_agree_with_themselves(name: str, shared: Path) -> None:
    root = shared / "data"
    if not (root / name / "scene.npz").is_file():
        pytest.skip("these captures are not there")
    dataset = RgbdFolder(root, pixel_centre=None if name == "princeton_box50" else 0.0)
    scene = f"rgbd_folder/{name}"
    frames = dataset.frames(scene)
    first, second = (dataset.load(scene, frames[i]) for i in (0, min(len(frames) - 1, 8)))
    right = disagreement(first, second)
    assert right < REAL[name]
    wrong = [np.linalg.inv(np.vstack((view.extrinsics, [0, 0, 0, 1])))[:3] for view in (first, second)]
    first, second = (replace(v, extrinsics=e.astype(np.float32)) for v, e in zip((first, second), wrong, strict=True))
    assert disagreement(first, second) > 0.05


def disagreement(first: View, second: View) -> float:
    """Median relative difference of depth where the first view is seen in the second."""
    points = unproject(first.depth, first.intrinsics, first.extrinsics)[first.depth > 0]
    xy, z = project(points, second.intrinsics, second.extrinsics)
    height, width = second.depth.shape
    inside = (z > 0) & (xy >= 0).all(-1) & (xy < [width, height]).all(-1)
    columns, rows = xy[inside].astype(int).T
    there = second.depth[rows, columns]
    known = there > 0
    assert known.sum() > 1000
    return float(np.median(np.abs(z[inside][known] / there[known] - 1)))
