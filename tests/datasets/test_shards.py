"""WebDataset shards: they hold what the data set holds, other programs read them, and damage costs one frame."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.rgbd_rooms import damage, write_room

from depth_anything_3.datasets.base import CorruptSample, Dataset
from depth_anything_3.datasets.rgbd_folder import RgbdFolder
from depth_anything_3.datasets.shards import Shards, write_shards
from depth_anything_3.errors import InputError
from depth_anything_3.train.sources import DatasetSource

SMALL = 100_000
"""Bytes of a shard; a frame of the rooms has about 15 000."""


@pytest.fixture
def rooms(tmp_path: Path) -> RgbdFolder:
    for name in ("a", "b.c"):
        write_room(tmp_path / "rooms" / name, frames=6, seed=ord(name[0]))
    return RgbdFolder(tmp_path / "rooms")


def check_same(one: Dataset, other: Dataset, scene: str, frame: str, number: str) -> None:
    first, second = one.load(scene, frame), other.load(scene, number)
    for name in ("image", "depth", "sky", "intrinsics", "extrinsics"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.mask is None and second.mask is None


def test_shards_hold_what_the_data_set_holds(rooms: RgbdFolder, tmp_path: Path) -> None:
    written, skipped = write_shards(rooms, tmp_path / "shards", shard_bytes=SMALL)
    assert (written, skipped.total()) == (12, 0)
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 1
    shards = Shards(tmp_path / "shards")
    assert shards.scenes() == rooms.scenes() == ("rgbd_folder/a", "rgbd_folder/b.c")
    assert (shards.metric, shards.real) == (rooms.metric, rooms.real)
    for scene in rooms.scenes():
        cameras, expected = shards.cameras(scene), rooms.cameras(scene)
        np.testing.assert_array_equal(cameras.intrinsics, expected.intrinsics)
        np.testing.assert_array_equal(cameras.extrinsics, expected.extrinsics)
        for frame, number in zip(rooms.frames(scene), shards.frames(scene), strict=True):
            check_same(rooms, shards, scene, frame, number)


def test_the_same_frames_are_the_same_bytes(rooms: RgbdFolder, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(rooms, tmp_path / name, shard_bytes=SMALL)
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_other_programs_read_them(rooms: RgbdFolder, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write_shards(rooms, tmp_path / "shards", shard_bytes=SMALL)
    files = [str(file) for file in sorted((tmp_path / "shards").iterdir())]
    samples = list(webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples[5:7]] == ["rgbd_folder/a/000005", "rgbd_folder/b.c/000000"]
    for sample, frame in zip(samples, rooms.frames("rgbd_folder/a"), strict=False):
        view = rooms.load("rgbd_folder/a", frame)
        np.testing.assert_array_equal(sample["png"], view.image)
        np.testing.assert_array_equal(sample["depth.npy"], view.depth)
        np.testing.assert_allclose(sample["json"]["intrinsics"], view.intrinsics)
        assert sample["json"]["frame"] == frame


def test_shards_of_other_programs_are_read(tmp_path: Path) -> None:
    """Written with nothing but tarfile; a JPEG, and no depth."""
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(stream, "JPEG")
    about = {"metric": False, "real": True, "intrinsics": [[9, 0, 15], [0, 9, 10], [0, 0, 1]], "extrinsics": None}
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for extension, content in (("jpg", stream.getvalue()), ("json", json.dumps(about).encode())):
            header = tarfile.TarInfo(f"mine/scene/000007.{extension}")
            header.size = len(content)
            shard.addfile(header, io.BytesIO(content))
    shards = Shards(tmp_path)
    view = shards.load("mine/scene", "000007")
    assert not shards.metric and shards.real and view.depth is None and shards.cameras("mine/scene").extrinsics is None
    assert np.abs(view.image.astype(int) - 90).max() <= 1


def test_damaged_frames_are_left_out_and_counted(rooms: RgbdFolder, tmp_path: Path) -> None:
    damage(tmp_path / "rooms/a/images/001.png")
    written, skipped = write_shards(rooms, tmp_path / "shards")
    assert written == 11 and skipped.total() == 1 and "001.png" in next(iter(skipped))
    assert "000001" not in Shards(tmp_path / "shards").frames("rgbd_folder/a")


def test_damage_in_a_shard_costs_a_frame(rooms: RgbdFolder, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    write_shards(rooms, folder)
    (file,) = folder.iterdir()
    with tarfile.open(file) as shard:
        places = {m.name: m.offset_data for m in shard}
    content = bytearray(file.read_bytes())
    for name in ("rgbd_folder/a/000001.png", "rgbd_folder/a/000002.json"):
        content[places[name] : places[name] + 12] = b"\0" * 12
    cut = places["rgbd_folder/b.c/000004.depth.npy"] + 100
    file.write_bytes(content[:cut])
    shards = Shards(folder)
    for frame in ("000001", "000002"):
        with pytest.raises(CorruptSample, match=r"000000\.tar"):
            shards.load("rgbd_folder/a", frame)
    with pytest.raises(CorruptSample, match="cut off"):
        shards.load("rgbd_folder/b.c", "000004")
    assert shards.load("rgbd_folder/b.c", "000003").depth is not None
    assert np.isnan(shards.cameras("rgbd_folder/a").intrinsics[2]).all()
    source = DatasetSource(dataset="shards", root=folder)
    drawn = [source.sample(np.random.default_rng(seed), 2, (0, 1), 0)[0] for seed in range(12)]
    assert set(drawn) == {"rgbd_folder/a", "rgbd_folder/b.c"} and source.skipped.total() > 0


def test_training_draws_the_same_from_shards(rooms: RgbdFolder, tmp_path: Path) -> None:
    """A function of the generator, in any process, whatever was drawn before: runs resume exactly."""
    write_shards(rooms, tmp_path / "shards", shard_bytes=SMALL)
    plain = DatasetSource(dataset="rgbd_folder", root=tmp_path / "rooms")
    packed = DatasetSource(dataset="shards", root=tmp_path / "shards")
    packed.check()
    assert packed.metric
    for seed in (3, 1, 3):
        (name, one), (other_name, other) = (
            s.sample(np.random.default_rng(seed), 3, (0, 1), 0) for s in (plain, packed)
        )
        assert name == other_name
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.depth, other.depth)


def test_benchmark_scenes_are_refused_in_shards_too(tmp_path: Path) -> None:
    write_room(tmp_path / "rooms" / "princeton_box50")
    write_shards(RgbdFolder(tmp_path / "rooms"), tmp_path / "shards")
    with pytest.raises(InputError, match="rgbd_folder/princeton_box50"):
        DatasetSource(dataset="shards", root=tmp_path / "shards").check()


def test_shards_are_not_replaced_unasked(rooms: RgbdFolder, tmp_path: Path) -> None:
    write_shards(rooms, tmp_path / "shards", shard_bytes=SMALL)
    before = len(list((tmp_path / "shards").iterdir()))
    with pytest.raises(InputError, match=r"folder: .*has shards"):
        write_shards(rooms, tmp_path / "shards")
    write_shards(rooms, tmp_path / "shards", jpeg_quality=95, overwrite=True)
    assert before > 1 and len(list((tmp_path / "shards").iterdir())) == 1
    view = Shards(tmp_path / "shards").load("rgbd_folder/a", "000000")
    assert np.abs(view.image.astype(float) - rooms.load("rgbd_folder/a", "000").image).mean() < 8


@pytest.mark.parametrize(("options", "name"), [({"jpeg_quality": 0}, "jpeg_quality"), ({"shard_bytes": 0}, "shard")])
def test_bad_options(rooms: RgbdFolder, tmp_path: Path, options: dict[str, int], name: str) -> None:
    with pytest.raises(InputError, match=name):
        write_shards(rooms, tmp_path / "shards", **options)
    for root in (tmp_path / "missing", tmp_path / "rooms"):
        with pytest.raises(InputError, match="root"):
            Shards(root)
