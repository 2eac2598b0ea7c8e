"""Virtual KITTI 2, MVS-Synth, BlendedMVS, ScanNet++, ARKitScenes, CO3D, dense MegaDepth: what only one of them has."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import SHA, SIZE, shots_of
from datasets.check import check
from datasets.damage import only
from datasets.world import POSES, ROOM, camera_matrix, ray_lengths, shoot, shoot_through
from datasets.writers import arkitscenes, blended_mvs, co3d, megadepth_dense, mvs_synth, scannetpp, virtual_kitti_2
from depth_anything_3.datasets.arkitscenes import ArkitScenes
from depth_anything_3.datasets.base import CorruptSample, Dataset, View
from depth_anything_3.datasets.blended_mvs import BlendedMvs
from depth_anything_3.datasets.co3d import Co3d
from depth_anything_3.datasets.megadepth_dense import MegaDepthDense, undistorted_matrix
from depth_anything_3.datasets.mvs_synth import MvsSynth
from depth_anything_3.datasets.scannetpp import ScanNetPP
from depth_anything_3.datasets.virtual_kitti_2 import VirtualKitti2
from depth_anything_3.errors import InputError
from depth_anything_3.train.sources import refuse_benchmark_scenes


def views_of(dataset: Dataset) -> dict[str, View]:
    (scene,) = dataset.scenes()
    return {frame: dataset.load(scene, frame) for frame in dataset.frames(scene)}


# Virtual KITTI 2, MVS-Synth --------------------------------------------------------------------------------


def test_centres_from_the_middle_of_a_pixel_are_moved(tmp_path: Path) -> None:
    """620.5 in a picture of 1242 pixels is its middle, counted from the middle of the first pixel."""
    k = camera_matrix(50, *SIZE[::-1])
    shots = {"00000-0": shoot(k - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], POSES[0], SIZE)}
    virtual_kitti_2.write(tmp_path / "k", shots)
    mvs_synth.write(tmp_path / "m" / "0000", {"0000": shots["00000-0"]})
    for dataset in (VirtualKitti2(tmp_path / "k"), MvsSynth(tmp_path / "m")):
        (view,) = views_of(dataset).values()
        np.testing.assert_allclose(view.intrinsics, k)


def test_one_archive_and_cameras_without_depth(tmp_path: Path) -> None:
    virtual_kitti_2.write(tmp_path, shots_of("virtual_kitti_2"))
    only(tmp_path, "Camera_1/depth_00000.png").unlink()
    dataset = VirtualKitti2(tmp_path)
    assert dataset.frames("virtual_kitti_2/Scene01/clone") == ("00000-0", "00001-0")
    assert dataset.skipped() == {"no depth": 1}


def test_far_values_of_the_game_are_neither_depth_nor_sky(tmp_path: Path) -> None:
    shot = shots_of("mvs_synth")["0000"]
    far = shot.z.copy()
    far[:5] = 1500.0
    mvs_synth.write(tmp_path / "0000", {"0000": type(shot)(shot.k, shot.w2c, far, shot.image)})
    view = MvsSynth(tmp_path).load("mvs_synth/0000", "0000")
    assert view.depth is not None and view.sky is not None
    assert not view.depth[:5].any() and not view.sky[:5].any() and view.sky[5:].any()
    unclean = MvsSynth(tmp_path, clean=False).load("mvs_synth/0000", "0000").depth
    assert unclean is not None and unclean[:5] == pytest.approx(1500)


def test_another_size_of_the_same_sequences_is_a_copy(tmp_path: Path) -> None:
    for size in ("GTAV_540", "GTAV_720"):
        mvs_synth.write(tmp_path / size / "0000", shots_of("mvs_synth"))
    dataset = MvsSynth(tmp_path)
    assert dataset.scenes() == ("mvs_synth/0000",)
    assert dataset.skipped() == {"a second copy of a scene": 1}


# BlendedMVS ------------------------------------------------------------------------------------------------


def test_lonely_pictures_are_left_out(tmp_path: Path) -> None:
    blended_mvs.write(tmp_path / SHA[:24], shots_of("blended_mvs"), neighbours=(10, 9, 30), order=">")
    dataset = BlendedMvs(tmp_path)
    assert list(views_of(dataset)) == ["00000000", "00000002"]
    assert dataset.skipped() == {"cleaning: neighbours": 1}
    assert len(views_of(BlendedMvs(tmp_path, clean=False))) == 3


def test_renderings_without_anything(tmp_path: Path) -> None:
    shots = shots_of("blended_mvs")
    first = shots["00000000"]
    empty = type(first)(first.k, first.w2c, np.full_like(first.z, np.inf), first.image)
    blended_mvs.write(tmp_path / "a", {**shots, "00000000": empty})
    with pytest.raises(CorruptSample, match="an empty rendering"):
        BlendedMvs(tmp_path).load("blended_mvs/a", "00000000")
    blended_mvs.write(tmp_path / "b", shots, nearest=-1.0)
    with pytest.raises(CorruptSample, match="nearest depth is -1"):
        BlendedMvs(tmp_path).load("blended_mvs/b", "00000000")


# ScanNet++ -------------------------------------------------------------------------------------------------


def test_lens_of_pictures_and_depth_is_undone(tmp_path: Path) -> None:
    size, k, lens = (96, 128), camera_matrix(100, 128, 96), (-0.12, 0.03, 0.0, 0.0)
    taken = {f"DSC0000{i}": shoot_through(lens, k, w2c, size, ROOM) for i, w2c in enumerate(POSES)}
    scannetpp.write(tmp_path / "0a5c013435", taken, lens=lens)
    for view, w2c, crooked in zip(views_of(ScanNetPP(tmp_path)).values(), POSES, taken.values(), strict=True):
        ideal = shoot(view.intrinsics.astype(float), w2c, size, ROOM)
        assert view.depth is not None
        near, far = (f(ideal.z, np.ones((3, 3))) for f in (cv2.erode, cv2.dilate))  # the nearest pixel is a neighbour
        shares = [((z > near - 2e-3) & (z < far + 2e-3))[2:-2, 2:-2].mean() for z in (view.depth, crooked.z)]
        assert shares[0] > 0.99 > 0.98 > shares[1]
        assert np.abs(view.image.astype(float) - ideal.image).mean() < 3


def test_depth_of_the_phone_is_that_of_its_sensor_where_none_is_rendered(tmp_path: Path) -> None:
    shots = {f"frame_00000{i}": shot for i, shot in enumerate(shots_of("scannetpp").values())}
    scannetpp.write(tmp_path / "data/0a5c013435", shots, device="iphone", depth="depth", smaller=4)
    dataset = ScanNetPP(tmp_path)
    assert dataset.scenes() == ("scannetpp/0a5c013435/iphone",)
    for view, shot in zip(views_of(dataset).values(), shots.values(), strict=True):
        assert view.depth is not None
        assert np.median(np.abs(view.depth / shot.z - 1)) < 0.02


def test_people_and_bad_pictures_are_left_out(tmp_path: Path) -> None:
    scannetpp.write(tmp_path / "0a5c013435", shots_of("scannetpp"), hidden=slice(10, 20), bad=("DSC00002",))
    dataset = ScanNetPP(tmp_path)
    views = views_of(dataset)
    assert list(views) == ["DSC00001", "DSC00003"] and dataset.skipped() == {"cleaning: bad": 1}
    for view in views.values():
        assert view.depth is not None
        assert not view.depth[:, 10:20].any() and (view.depth[:, 20:] > 0).all()


def test_the_published_evaluation_is_kept_out_of_training(tmp_path: Path) -> None:
    scannetpp.write(tmp_path / "09c1414f1b", shots_of("scannetpp"))
    assert ScanNetPP(tmp_path).scenes() == ()
    for scene in ("scannetpp/09c1414f1b/dslr", "megadepth_dense/5003/0"):
        with pytest.raises(InputError, match=scene):
            refuse_benchmark_scenes((scene,))
    refuse_benchmark_scenes(("scannetpp/0a5c013435/dslr", "megadepth_dense/0022/0"))


# ARKitScenes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(4))
def test_every_way_to_hold_the_tablet(turns: int, tmp_path: Path) -> None:
    arkitscenes.write(tmp_path, shots_of("arkitscenes"), turns=turns, pictures="lowres_wide", late=1)
    check(views_of(ArkitScenes(tmp_path)), shots_of("arkitscenes"))


def test_poses_between_two_of_the_trajectory(tmp_path: Path) -> None:
    shots = dict(shots_of("arkitscenes"))
    arkitscenes.write(tmp_path, shots, around=0.05)
    check(views_of(ArkitScenes(tmp_path)), shots)
    file = only(tmp_path, "lowres_wide.traj")
    rows = np.loadtxt(file)
    np.savetxt(file, rows[[0, 2, 3, 4, 5]])  # a gap around the first picture
    dataset = ArkitScenes(tmp_path)
    assert list(views_of(dataset)) == ["2000", "2500"] and dataset.skipped() == {"no pose": 1}
    rows[1, 4:] = rows[1, 4:] + [0.02, 0.04, -0.06]
    np.savetxt(file, rows)
    moved = ArkitScenes(tmp_path).cameras(dataset.scenes()[0]).extrinsics
    one, other = (row[4:] for row in rows[:2])  # of the same rotation: the place is half-way
    roll = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert moved is not None
    np.testing.assert_allclose(moved[0][:, 3], roll @ (one + other) / 2, atol=1e-5)


def test_doubtful_depth_is_left_out(tmp_path: Path) -> None:
    arkitscenes.write(tmp_path, shots_of("arkitscenes"), turns=0, doubtful=slice(5, 9))
    for clean in (True, False):
        for view in views_of(ArkitScenes(tmp_path, clean=clean)).values():
            assert view.depth is not None
            assert (view.depth[:, 5:9] > 0).any() != clean and (view.depth[:, 9:] > 0).all()


# CO3D ------------------------------------------------------------------------------------------------------


def test_depth_has_a_factor(tmp_path: Path) -> None:
    co3d.write(tmp_path / "apple", shots_of("co3d"), factor=0.25)
    check(views_of(Co3d(tmp_path)), shots_of("co3d"), image_error=6)


def test_sequences_with_doubtful_cameras_are_corrupt(tmp_path: Path) -> None:
    co3d.write(tmp_path / "apple", shots_of("co3d"), quality=0.3)
    with pytest.raises(CorruptSample, match=r"quality of its cameras is 0\.3"):
        views_of(Co3d(tmp_path))
    assert len(views_of(Co3d(tmp_path, clean=False))) == 3


def test_the_first_version_has_other_cameras(tmp_path: Path) -> None:
    co3d.write(tmp_path / "apple", shots_of("co3d"), intrinsics_format="ndc_norm_image_bounds")
    with pytest.raises(CorruptSample, match="ndc_norm_image_bounds"):
        views_of(Co3d(tmp_path))


def test_tall_pictures(tmp_path: Path) -> None:
    shots = {f"frame00000{i}": shoot(camera_matrix(50, 48, 64, (1, 2)), w2c, (64, 48)) for i, w2c in enumerate(POSES)}
    co3d.write(tmp_path / "apple", shots)
    check(views_of(Co3d(tmp_path)), shots, image_error=6)


# MegaDepth -------------------------------------------------------------------------------------------------


def test_ordinal_depth_is_no_depth(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    megadepth_dense.write(tmp_path, shots_of("megadepth_dense"))
    with h5py.File(only(tmp_path, "1_a.h5"), "r+") as stream:
        stream["depth"][3, 3] = -1
    with pytest.raises(CorruptSample, match="ordinal"):
        MegaDepthDense(tmp_path).load("megadepth_dense/0022/0", "1_a")


def test_no_pixel_is_from_outside_the_picture_as_taken() -> None:
    """The corners of the new picture, bent by the lens, lie in the old one; one side touches; the centre is central."""
    taken, size = (480, 640), (470, 620)
    k, bend = camera_matrix(500, 640, 480, (9, -6)), np.array([-0.15, 0.02, 0, 0])
    new = undistorted_matrix(k, bend, taken, size)
    np.testing.assert_allclose(new[:2, 2], (size[1] / 2, size[0] / 2), atol=1e-6)
    y, x = (v.ravel() for v in np.mgrid[: size[0], : size[1]] + 0.5)
    rays = np.stack(((x - new[0, 2]) / new[0, 0], (y - new[1, 2]) / new[1, 1], np.ones_like(x)), -1)
    old = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), k, bend)[0][:, 0]
    room = np.concatenate((old, [taken[1], taken[0]] - old), 1).min(0)
    assert room.min() > -0.5 and room.min() < 3
    assert ray_lengths(new, size).max() < ray_lengths(k, taken).max()
