"""Data sets as sources: right samples, damaged files passed over and counted, benchmark scenes refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.rgbd_rooms import damage, write_room
from support.training import RoomSource, any_view, log_of

from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.synth.held_out import HELD_OUT_SEEDS
from depth_anything_3.train.data import ProceduralSource, Source
from depth_anything_3.train.sources import (
    BENCHMARK_SCENES,
    DatasetSource,
    _stacked,
    frustum_overlap,
    refuse_benchmark_scenes,
)
from depth_anything_3.train.trainer import Trainer

ANY = (0.0, 1.0)


def source(root: Path, *, single: bool = False) -> DatasetSource:
    return DatasetSource(dataset="rgbd_folder", root=root, single=single)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Samples ---------------------------------------------------------------------------------------------------


def test_samples_are_views_of_the_folder(tmp_path: Path) -> None:
    write_room(tmp_path / "room", frames=5, seed=3)
    _, room = RoomSource(count=1).sample(rng(3), 5, ANY, 0)
    folder = source(tmp_path)
    folder.check()
    assert isinstance(folder, Source) and folder.metric
    name, pictures = folder.sample(rng(), 3, ANY, 0)
    assert name == "rgbd_folder/room"
    frames = [[np.array_equal(image, other) for other in room.images].index(True) for image in pictures.images]
    assert len(set(frames)) == 3
    np.testing.assert_array_equal(pictures.depth, room.depth[frames])
    np.testing.assert_array_equal(pictures.sky, room.sky[frames])
    np.testing.assert_allclose(pictures.intrinsics, room.intrinsics[frames])
    np.testing.assert_allclose(pictures.extrinsics, room.extrinsics[frames], atol=1e-5)
    assert pictures.sky_known and not folder.skipped


def test_a_sample_is_a_function_of_the_generator(tmp_path: Path) -> None:
    for scene in ("a", "b", "c"):
        write_room(tmp_path / scene, seed=ord(scene))
    drawn = [source(tmp_path).sample(rng(seed), 2, ANY, 0) for seed in (0, *range(12))]
    assert drawn[0][0] == drawn[1][0]
    np.testing.assert_array_equal(drawn[0][1].images, drawn[1][1].images)
    assert {name for name, _ in drawn} == {f"rgbd_folder/{scene}" for scene in "abc"}


def test_single_views_need_no_poses(tmp_path: Path) -> None:
    write_room(tmp_path / "room", sky=False, poses=False)
    _, one = source(tmp_path).sample(rng(), 1, ANY, 0)
    assert len(one.images) == 1 and not one.sky_known and not one.sky.any()
    np.testing.assert_array_equal(one.extrinsics[0], np.eye(3, 4))
    _, same = source(tmp_path, single=True).sample(rng(), 2, ANY, 0)
    np.testing.assert_array_equal(same.images[0], same.images[1])
    with pytest.raises(DA3Error, match="no poses"):
        source(tmp_path).sample(rng(), 2, ANY, 0)


def test_around_a_single_object_there_is_nothing() -> None:
    size = (20, 30)
    mask = np.zeros(size, dtype=bool)
    mask[5:15, 10:20] = True
    k = np.array([[30, 0, 15], [0, 30, 10], [0, 0, 1]], dtype=np.float32)
    plain = View(image=np.zeros((*size, 3), np.uint8), intrinsics=k, depth=mask.astype(np.float32))
    stacked = _stacked([dataclasses.replace(plain, mask=mask)] * 2)
    assert stacked.objects and stacked.sky_known
    np.testing.assert_array_equal(stacked.sky, np.stack([~mask] * 2))
    assert not _stacked([plain]).objects


def test_cameras_that_look_away_share_nothing() -> None:
    k = np.array([[40, 0, 32], [0, 40, 24], [0, 0, 1]], dtype=np.float32)
    poses = np.repeat(np.eye(3, 4, dtype=np.float32)[None], 3, 0)
    poses[1, 0, 3] = -0.8  # half a picture to the right, at distance 1
    poses[2, :, :3] = np.diag([-1, 1, -1])
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    shared = frustum_overlap(View(image=image, intrinsics=k), np.repeat(k[None], 3, 0), poses)
    np.testing.assert_allclose(shared, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], atol=0.03)
    far = View(image=image, intrinsics=k, depth=np.full((48, 64), 8.0, dtype=np.float32))
    assert frustum_overlap(far, np.repeat(k[None], 3, 0), poses)[0, 1] > 0.9


# Damage ----------------------------------------------------------------------------------------------------


def test_damaged_samples_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_room(tmp_path / "room", frames=4)
    damage(tmp_path / "room" / "images" / "001.png")
    folder = source(tmp_path)
    good = {folder.sample(rng(seed), 2, ANY, 0)[1].images.tobytes() for seed in range(12)}
    assert len(good) > 2
    assert folder.skipped.total() > 0
    assert all("001.png" in reason for reason in folder.skipped)


def test_nothing_but_damage_ends_the_run(tmp_path: Path) -> None:
    write_room(tmp_path / "room", frames=2)
    for file in (tmp_path / "room" / "depth").iterdir():
        damage(file)
    folder = source(tmp_path)
    with pytest.raises(DA3Error, match=r"20 damaged samples in a row, the last: .*\.npy"):
        folder.sample(rng(), 2, ANY, 0)
    assert folder.skipped.total() == 20


def test_too_few_frames(tmp_path: Path) -> None:
    write_room(tmp_path / "room", frames=2)
    folder = source(tmp_path)
    assert len(folder.sample(rng(), 2, ANY, 0)[1].images) == 2
    with pytest.raises(DA3Error, match="fewer than 3 frames"):
        folder.sample(rng(), 3, ANY, 0)


def test_depth_of_another_size_than_its_picture(tmp_path: Path) -> None:
    write_room(tmp_path / "room", frames=2)
    small = RoomSource(count=1, size=(28, 28)).sample(rng(), 1, ANY, 0)[1]
    write_room(tmp_path / "other", frames=2)
    np.save(tmp_path / "room" / "depth" / "000.npy", small.depth[0])
    folder = source(tmp_path)
    names = {folder.sample(rng(seed), 2, ANY, 0)[0] for seed in range(8)}
    assert names == {"rgbd_folder/other"}
    assert folder.skipped.total() > 0


def test_other_errors_are_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_room(tmp_path / "room")
    folder = source(tmp_path)

    def broken(scene: str, frame: str) -> View:
        raise ZeroDivisionError

    monkeypatch.setattr(folder._opened, "load", broken)
    with pytest.raises(ZeroDivisionError):
        folder.sample(rng(), 1, ANY, 0)
    assert not folder.skipped and issubclass(CorruptSample, DA3Error)


def test_the_log_counts_what_was_skipped(tmp_path: Path) -> None:
    write_room(tmp_path / "data" / "room", frames=4)
    damage(tmp_path / "data" / "room" / "depth" / "002.npy")
    trainer = Trainer(any_view(4, sources=((source(tmp_path / "data"), 1.0),)), tmp_path / "run")
    trainer.run()
    counts = [line["skipped"] for line in log_of(tmp_path / "run")]
    assert counts == sorted(counts) and counts[-1] > 0
    assert counts[-1] == trainer.skipped().total()
    assert all("002.npy" in reason for reason in trainer.skipped())


# What must not be trained on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scene",
    [
        "procedural/1000000000",
        "hiroom/20241230/828738/cam_sampled_06",
        "eth3d/courtyard",
        "7scenes/chess",
        "dtu/scan1",
        "scannetpp/09c1414f1b/iphone",
        "rgbd_folder/princeton_box50",
        "rgbd_folder/open3d_redwood5",
        "rgbd_folder/tum_fr1_rpy_micro",
    ],
)
def test_benchmark_scenes_are_refused_by_name(scene: str) -> None:
    with pytest.raises(InputError, match=rf"^sources: .*results are reported on: {scene}"):
        refuse_benchmark_scenes(("tartanair/office/Easy/P000", scene))


def test_other_scenes_are_not() -> None:
    refuse_benchmark_scenes(("procedural/999999999", "scannetpp/train/1", "rgbd_folder/my_room", "dl3dv/1K/abc"))
    assert len(set(BENCHMARK_SCENES)) == len(BENCHMARK_SCENES)


def test_a_run_on_a_benchmark_scene_does_not_begin(tmp_path: Path) -> None:
    write_room(tmp_path / "data" / "mine")
    write_room(tmp_path / "data" / "princeton_box50")
    config = any_view(sources=((RoomSource(), 1.0), (source(tmp_path / "data"), 1.0)))
    with pytest.raises(InputError, match="rgbd_folder/princeton_box50"):
        Trainer(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("first", "count", "most"),
    [
        (HELD_OUT_SEEDS.start, 1, 1),
        (HELD_OUT_SEEDS.start - 5, 3, 6),  # it grows into them
        (HELD_OUT_SEEDS.start - 5, 6, 1),
        (HELD_OUT_SEEDS.stop - 1, 1, 1),
    ],
)
def test_held_out_seeds_are_refused(first: int, count: int, most: int) -> None:
    with pytest.raises(InputError, match=f"seeds below {HELD_OUT_SEEDS.start}"):
        ProceduralSource(first=first, count=count, most=most).check()
    ProceduralSource(first=HELD_OUT_SEEDS.start - 5, count=5, most=5).check()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    with pytest.raises(InputError, match=r"layout|scene\.npz"):
        source(tmp_path).check()
