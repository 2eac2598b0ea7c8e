"""Videos: which frames, at which times, which side up, and what damage does."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.videos import SIZE, give_durations, give_rotation, number_of, red_corner, write_video

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.given import open_views
from depth_anything_3.io.images import decode_image
from depth_anything_3.io.sources import as_image_list, video_views
from depth_anything_3.io.video import iterate_video, probe_video, read_video
from depth_anything_3.types.options import FolderOptions, VideoOptions

REAL = Path(__file__).parents[3] / "shared" / "data" / "robot_video" / "robot_unitree.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at 10 frames per second."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 30)


def taken(path: Path, **options: Any) -> list[int]:
    frames = read_video(path, **options)
    assert [frame.index for frame in frames] == [number_of(frame.image) for frame in frames]
    return [frame.index for frame in frames]


# --- times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "FFV1")])
def test_constant_rate(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 12, fps=25.0, codec=codec)
    info = probe_video(path)
    assert (info.frames, info.size, info.rotation) == (12, SIZE, 0)
    assert info.fps == pytest.approx(25.0) and info.duration == pytest.approx(0.48)
    frames = read_video(path)
    np.testing.assert_allclose([frame.timestamp for frame in frames], np.arange(12) / 25, atol=6e-4)
    assert [frame.index for frame in frames] == [number_of(frame.image) for frame in frames] == list(range(12))
    assert frames[3].name == "a_000003" and frames[3].image.shape == (*SIZE, 3)
    assert not frames[3].image.flags.writeable
    red = frames[0].image[4, 4].astype(int)
    assert red[0] > 200 and red[1:].max() < 60, "RGB, not BGR"


def test_variable_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 6)
    give_durations(path, [40, 40, 500, 20, 1000, 40])
    frames = read_video(path)
    shown = [0.0, 0.04, 0.08, 0.58, 0.6, 1.6]
    np.testing.assert_allclose([frame.timestamp for frame in frames], shown, atol=1e-6)
    assert taken(path, fps=2) == [0, 3, 5], "by time, not by count"
    assert taken(path, start=0.5, end=0.6) == [3], "the end is not part of the span"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 10}, [0, 10, 20]),
        ({"start": 1.0, "end": 1.3}, [10, 11, 12]),
        ({"start": 0.95, "end": 1.3, "stride": 2}, [10, 12]),
        ({"fps": 2}, [0, 5, 10, 15, 20, 25]),
        ({"fps": 100, "end": 0.25}, [0, 1, 2]),
        ({"fps": 4, "end": 1}, [0, 3, 5, 8]),
        ({"max_frames": 4}, [0, 10, 19, 29]),
        ({"max_frames": 1}, [0]),
        ({"max_frames": 99, "start": 2.8}, [28, 29]),
        ({"start": 1, "fps": 5, "max_frames": 3}, [10, 18, 28]),
    ],
    ids=str,
)
def test_which_frames(clip: Path, options: dict[str, Any], expected: list[int]) -> None:
    assert taken(clip, **options) == expected


def test_frames_come_one_at_a_time(clip: Path) -> None:
    frames = iterate_video(clip)
    assert next(frames).index == 0 and next(frames).index == 1
    del frames


# --- rotation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "corner"), [(0, (False, False)), (1, (False, True)), (2, (True, True)), (3, (True, False))]
)
def test_rotation_is_applied_once(tmp_path: Path, turns: int, corner: tuple[bool, bool]) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    give_rotation(path, turns)
    info = probe_video(path)
    assert info.rotation == 90 * turns
    (frame, *_) = read_video(path)
    assert frame.image.shape[:2] == info.size == (SIZE if turns % 2 == 0 else SIZE[::-1])
    assert red_corner(frame.image) == corner


# --- damage ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.avi", 30, codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"cut\.avi can be read up to frame (\d+) of") as caught:
        frames = read_video(path)
    assert 1 < len(frames) < 25 and f"frame {len(frames)} of" in str(caught[0].message)
    assert [number_of(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"#EXTM3U\n/etc/passwd\n", "not recognised"), (b"\0\0\0\x18ftypmp42" + bytes(99), "damaged")],
)
def test_files_that_are_no_videos(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for read in (probe_video, iterate_video):
        with pytest.raises(InputError, match=reason) as caught:
            read(path)
        assert caught.value.argument == "video" and str(path) in str(caught.value)


def test_missing_files_and_empty_spans(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        probe_video(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="3 seconds") as caught:
        read_video(clip, start=7)
    assert caught.value.argument == "start"
    with pytest.raises(InputError, match="start"):
        read_video(clip, start=7, max_frames=3)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"start": -1}, "start"),
        ({"start": "1"}, "start"),
        ({"end": float("nan")}, "end"),
        ({"start": 2, "end": 1}, "end"),
        ({"fps": 0}, "fps"),
        ({"stride": 0}, "stride"),
        ({"max_frames": True}, "max_frames"),
        ({"fps": 1, "stride": 2}, "stride"),
    ],
    ids=str,
)
def test_wrong_options(clip: Path, options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InputError) as caught:
        iterate_video(clip, **options)
    assert caught.value.argument == argument


# --- views -------------------------------------------------------------------------------------------------------


def test_a_video_stands_for_its_frames(clip: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = as_image_list([clip, np.zeros((4, 4, 3), np.uint8)])
        assert len(frames) == 31, "no more than 32 frames: all of them"
    few = as_image_list(str(clip), VideoOptions(stride=20))
    decoded = decode_image(few[1], index=1, alpha="drop")
    assert (decoded.name, decoded.timestamp) == ("clip_000020", pytest.approx(2.0))
    with pytest.raises(InputError, match="no video"):
        as_image_list([np.zeros((4, 4, 3))], VideoOptions())
    with pytest.raises(InputError) as caught:
        as_image_list(["a.png", clip.with_name("missing.mp4")])
    assert caught.value.argument == "image[1]"


def test_long_videos_are_thinned_aloud(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.avi", 70, codec="MJPG", size=(16, 16))
    with pytest.warns(UserWarning, match=r"long\.avi: 32 frames"):
        frames = video_views(path)
    assert len(frames) == 32 and (frames[0].index, frames[-1].index) == (0, 69)


def test_cameras_of_a_video(clip: Path, tmp_path: Path) -> None:
    rows = [f"{t / 10:.1f} {t} 0 0 0 0 0 1" for t in range(30)]
    (tmp_path / "tum.txt").write_text("\n".join(rows))
    views = open_views(
        clip,
        poses=tmp_path / "tum.txt",
        intrinsics="90deg",
        options=FolderOptions(stride=2),
        video=VideoOptions(start=1),
    )
    assert len(views.images) == len(views.photos) == 10 and set(views.photos) == {clip}
    assert views.extrinsics is not None and views.intrinsics is not None
    np.testing.assert_allclose(views.extrinsics[:, 0, 3], -np.arange(10, 30, 2), atol=1e-9)
    np.testing.assert_allclose(views.intrinsics[0], [[32, 0, 32], [0, 32, 24], [0, 0, 1]])
    for options, video, argument in (
        (FolderOptions(recursive=True), None, "recursive"),
        (FolderOptions(limit=3), VideoOptions(max_frames=4), "max_frames"),
    ):
        with pytest.raises(InputError) as caught:
            open_views(clip, options=options, video=video)
        assert caught.value.argument == argument


def test_a_real_video() -> None:
    if not REAL.is_file():
        pytest.skip("shared data is not here")
    info = probe_video(REAL)
    assert (info.size, info.rotation) == ((576, 1024), 0)
    frames = read_video(REAL, fps=2)
    assert [round(frame.timestamp, 3) for frame in frames] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert dataclasses.asdict(VideoOptions(fps=2))["fps"] == 2
