"""DL3DV-10K: lenses, sparse depth, variants of the layout, defects."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.cases import SHA, SIZE, shots_of
from datasets.check import check
from datasets.world import POSES, Shot, camera_matrix, shoot, shoot_through
from datasets.writers import colmap
from datasets.writers.dl3dv import APPLIED, Lens, grid, registered, write
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.dl3dv import Dl3dv
from depth_anything_3.errors import InputError

SHOTS = list(shots_of("dl3dv").values())
SCENE = f"dl3dv/{SHA}"
NEWER = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])


def load_all(root: Path, **options: Any) -> dict[str, View]:
    dataset = Dl3dv(root, **{"clean": False, **options})
    return {frame: dataset.load(SCENE, frame) for frame in dataset.frames(SCENE)}


@pytest.mark.parametrize(
    "options",
    [
        {"sparse": "txt"},
        {"images": "images_8", "factor": 8},
        {"images": "images", "factor": 1},
        {"applied": None},
        {"applied": NEWER},
    ],
)
def test_variants(options: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "3K" / SHA, SHOTS, **options)
    check(load_all(tmp_path), shots_of("dl3dv"), sparse=True)


def test_the_layout_of_the_benchmark(tmp_path: Path) -> None:
    write(tmp_path / SHA / "nerfstudio", SHOTS)
    assert Dl3dv(tmp_path).scenes() == (SCENE,)
    check(load_all(tmp_path), shots_of("dl3dv"), sparse=True)


def test_without_a_reconstruction(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS, sparse=None)
    views = load_all(tmp_path)
    assert all(view.depth is None for view in views.values())
    check(views, shots_of("dl3dv"))


def test_choice_of_pictures(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS)
    small = [shoot(camera_matrix(25, 32, 24, (1.15, -0.7)), w2c, (24, 32)) for w2c in POSES]
    write(tmp_path / "other", small, images="images_8", factor=8)
    (tmp_path / "other" / "images_8").rename(tmp_path / SHA / "images_8")
    assert load_all(tmp_path)["frame_00001"].image.shape == (*SIZE, 3)
    views = load_all(tmp_path, images="images_8")
    np.testing.assert_allclose(views["frame_00001"].intrinsics, small[0].k, rtol=1e-6)
    np.testing.assert_array_equal(views["frame_00001"].image, small[0].image)
    with pytest.raises(InputError, match="images_4, images_8"):
        Dl3dv(tmp_path, images="images_3")


# --- lenses ----------------------------------------------------------------------------------------------------------

LENSES: dict[str, Lens] = {
    "barrel": (-0.12, 0.03, 0.002, -0.001),
    "pincushion": (0.08, 0.01, -0.001, 0.002),
    "drone": (-0.06, 0.01, 0.0005, -0.0005),
}


@pytest.mark.parametrize("name", LENSES)
def test_lenses(name: str, tmp_path: Path) -> None:
    size, k, lens = (96, 128), camera_matrix(100, 128, 96, (2.3, -1.4)), LENSES[name]
    taken = [shoot_through(lens, k, w2c, size) for w2c in POSES]
    straight = [shoot(k, w2c, size) for w2c in POSES]
    write(tmp_path / SHA, taken, lens=lens, points=[grid(shot) for shot in straight])
    views = load_all(tmp_path)
    for view, w2c, crooked in zip(views.values(), POSES, taken, strict=True):
        ideal = shoot(view.intrinsics.astype(float), w2c, size)
        # Same centre, one factor for both focal lengths, and the picture of an ideal camera that has them.
        np.testing.assert_allclose(view.intrinsics[:2, 2], k[:2, 2], rtol=1e-6)
        np.testing.assert_allclose(view.intrinsics[0, 0], view.intrinsics[1, 1], rtol=1e-6)
        inner = ideal.hit & ~edges(ideal)
        difference = np.abs(view.image.astype(float) - ideal.image)[inner].mean()
        assert difference < 1, difference
        assert np.abs(crooked.image.astype(float) - ideal.image)[inner].mean() > 2 * difference
        known = (view.depth > 0) & inner
        assert known.sum() > 300
        near, far = (f(ideal.z, np.ones((3, 3))) for f in (cv2.erode, cv2.dilate))  # points anywhere in their pixels
        between = (view.depth > near - 1e-4) & (view.depth < far + 1e-4)
        assert between[1:-1, 1:-1][known[1:-1, 1:-1]].mean() > 0.99  # but for the outline of the ball


def edges(shot: Shot) -> np.ndarray:
    """Where depth jumps, and the neighbours."""
    z = np.where(shot.hit, shot.z, 100)
    jump = np.maximum(np.abs(np.gradient(z, axis=0)), np.abs(np.gradient(z, axis=1))) > 0.4
    return cv2.dilate(jump.astype(np.uint8), np.ones((5, 5))) > 0


def test_no_border_and_not_more_cut_than_needed(tmp_path: Path) -> None:
    size, k, lens = (96, 128), camera_matrix(100, 128, 96, (2.3, -1.4)), LENSES["barrel"]
    white = Shot(k, POSES[0], np.full(size, 5.0), np.full((*size, 3), 255, np.uint8))
    write(tmp_path / SHA, [white], lens=lens, sparse=None)
    view = load_all(tmp_path)["frame_00001"]
    assert (view.image == 255).all()
    k_cv = [camera - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]] for camera in (k, view.intrinsics.astype(float))]
    x, y = cv2.initUndistortRectifyMap(k_cv[0], np.array(lens), None, k_cv[1], (128, 96), cv2.CV_32FC1)
    outside = [-(x.min() + 0.5), x.max() + 0.5 - 128, -(y.min() + 0.5), y.max() + 0.5 - 96]
    assert -1 < max(outside) < 0.01  # the tightest side is at the edge of the picture


def test_lenses_that_cannot_be_undone(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS, lens=(-3, 0, 0, 0))
    with pytest.raises(CorruptSample, match="camera matrix is not finite"):
        load_all(tmp_path)


# --- sparse depth ----------------------------------------------------------------------------------------------------


def test_weak_points_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS)
    images, points = registered(SHOTS, [grid(shot) for shot in SHOTS])
    quality = [(0.5, 3), (2.5, 3), (0.5, 2)]
    changed = [
        colmap.Point(p.number, p.xyz, quality[i % 3][0], [*p.track] * quality[i % 3][1]) for i, p in enumerate(points)
    ]
    rewrite_model(tmp_path, images, changed)
    some, everything = load_all(tmp_path, clean=True), load_all(tmp_path)
    for frame, view in some.items():
        count, total = (view.depth > 0).sum(), (everything[frame].depth > 0).sum()
        assert abs(3 * count - total) <= 3
        np.testing.assert_array_equal(view.depth[view.depth > 0], everything[frame].depth[view.depth > 0])


def test_of_two_points_in_one_pixel_the_nearest(tmp_path: Path) -> None:
    shot = shoot(camera_matrix(50, 64, 48), np.eye(4), SIZE)
    points = [(0.15, 0.15, 5.0), (0.15, 0.15, 5.1), (0.1, 0.1, -5.0), (50.0, 0.1, 5.0)]  # behind, and outside
    write(tmp_path / SHA, [shot], points=[points])
    depth = load_all(tmp_path)["frame_00001"].depth
    assert np.argwhere(depth).tolist() == [[25, 33]]
    assert depth[25, 33] == 5


@pytest.mark.parametrize("names", ["the same", "others"])
def test_frames_that_were_not_registered_there(names: str, tmp_path: Path) -> None:
    """Images are found by name; by id where no name is the same. The second frame is left out of the model."""
    write(tmp_path / SHA, SHOTS)
    images, points = registered(SHOTS, [grid(shot) for shot in SHOTS])
    first, third = images[2], images[0]
    if names == "the same":  # the ids, 1 and 2, are those of other frames
        kept = [colmap.Registered(f"deep/{image.name}", image.shot, image.features) for image in (third, first)]
    else:
        kept = [colmap.Registered("0001.jpg", first.shot, first.features)]
    rewrite_model(tmp_path, kept, points)
    views = load_all(tmp_path)
    assert views["frame_00001"].depth.any()
    assert views["frame_00002"].depth is None
    assert (views["frame_00003"].depth is None) == (names == "others")


def rewrite_model(root: Path, images: list[colmap.Registered], points: list[colmap.Point]) -> None:
    model = next(root.rglob("points3D.bin")).parent
    shutil.rmtree(model)
    colmap.write_binary(model, images, points, (0, 0, 0, 0))


def test_another_world_than_that_of_the_reconstruction(tmp_path: Path) -> None:
    write(tmp_path / "a" / SHA, SHOTS)
    _, points = registered(SHOTS, [grid(shot) for shot in SHOTS])
    larger = [replace(shot, w2c=shot.w2c * np.array([[1, 1, 1, 2.0]] * 3 + [[1, 1, 1, 1]])) for shot in SHOTS]
    rewrite_model(tmp_path, registered(larger, [grid(shot) for shot in SHOTS])[0], points)
    dataset = Dl3dv(tmp_path / "a")
    dataset.load(SCENE, "frame_00001")  # at the origin in both
    with pytest.raises(CorruptSample, match="frame_00002 stands elsewhere in COLMAP"):
        dataset.load(SCENE, "frame_00002")
    write(tmp_path / "b" / SHA, SHOTS, applied_transform=NEWER.tolist())
    with pytest.raises(CorruptSample, match="frame_00001 stands elsewhere in COLMAP"):
        load_all(tmp_path / "b")
    write(tmp_path / "c" / SHA, SHOTS, applied_transform=NEWER.tolist(), sparse=None)
    load_all(tmp_path / "c")  # nothing to tell by


# --- defects ---------------------------------------------------------------------------------------------------------


def test_portrait_videos(tmp_path: Path) -> None:
    tall = [shoot(camera_matrix(50, 48, 64), w2c, (64, 48)) for w2c in POSES]
    write(tmp_path / SHA, tall)
    with pytest.raises(CorruptSample, match="portrait"):
        Dl3dv(tmp_path).frames(SCENE)
    views = load_all(tmp_path)
    check(views, dict(zip(views, tall, strict=True)), sparse=True)


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS)
    (tmp_path / SHA / "images_4" / "frame_00001.png").unlink()
    dataset = Dl3dv(tmp_path)
    assert dataset.frames(SCENE) == ("frame_00002", "frame_00003")
    assert dataset.skipped() == {"no image": 1}
    np.testing.assert_allclose(dataset.cameras(SCENE).extrinsics[0], POSES[1][:3], atol=1e-6)
    for file in (tmp_path / SHA / "images_4").iterdir():
        file.unlink()
    with pytest.raises(CorruptSample, match="none of the pictures"):
        Dl3dv(tmp_path).frames(SCENE)


def test_folders_without_pictures_are_no_scenes(tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS)
    (tmp_path / ("f" * 64) / "images_4").mkdir(parents=True)
    assert Dl3dv(tmp_path).scenes() == (SCENE,)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model is OPENCV_FISHEYE"),
        ({"w": 1000}, "width and height do not fit: 1000x192 in it, 64x48"),
        ({"fl_x": None}, "TypeError"),
        ({"frames": []}, "none of the pictures"),
        ({"applied_transform": [[1, 0]]}, "ValueError"),
    ],
)
def test_descriptions_that_do_not_fit(fields: dict[str, object], reason: str, tmp_path: Path) -> None:
    write(tmp_path / SHA, SHOTS, **fields)
    with pytest.raises(CorruptSample, match=reason):
        Dl3dv(tmp_path).frames(SCENE)


def test_a_turned_world_is_undone() -> None:
    """What the writer applies is a rotation, so that the check above would see it left in place."""
    np.testing.assert_allclose(APPLIED[:, :3] @ APPLIED[:, :3].T, np.eye(3))
    assert np.linalg.det(APPLIED[:, :3]) == 1
