"""Videos, frame by frame: upright RGB pixels and the time at which each frame is shown.

Files are read through OpenCV, whose wheels carry FFmpeg under the LGPL. Frames come in the order in which they are
shown; nothing but the current one is held. Times are those of the file, so that a variable frame rate stays what it is.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.types.options import VideoOptions

VIDEO_EXTENSIONS = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Lower-case file name extensions that are taken for videos."""

_EXPECTED = "a complete, undamaged video"
_KINDS = ("MP4", "MOV", "MKV", "WebM", "AVI", "MPEG", "TS", "FLV", "WMV", "OGV")

# How containers begin: offset and bytes. What begins otherwise may be a playlist, which would name other files.
_SIGNATURES = (
    *((4, name) for name in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")),
    (8, b"AVI "),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\0\0\1\xba"),
    (0, b"\0\0\1\xb3"),
    (0, b"\x47"),
    (4, b"\x47"),
    (0, b"FLV\1"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"OggS"),
)

_TIME_TOLERANCE = 1e-3
"""Seconds; many containers round times to milliseconds."""

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright, read-only.
        timestamp: when it is shown, in seconds from the start of the video.
        index: its number among all frames of the file, from 0.
        name: the file name without extension, and the number: ``clip_000012``.
    """

    image: npt.NDArray[np.uint8]
    timestamp: float
    index: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file says of itself; None where it does not say.

    Attributes:
        frames: number of frames. Some containers only estimate it.
        fps: frames per second in the mean.
        duration: in seconds.
        size: height and width of the upright frames in pixels.
        rotation: degrees clockwise by which stored frames are turned to be upright: 0, 90, 180 or 270.
    """

    frames: int | None
    fps: float | None
    duration: float | None
    size: tuple[int, int]
    rotation: int


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the extension of a video, in any letter case."""
    return Path(os.fsdecode(path)).suffix.lower() in VIDEO_EXTENSIONS


def probe_video(path: str | os.PathLike[str], *, argument: str = "video") -> VideoInfo:
    """What a video says of itself. Damage further down is only found by reading it.

    Args:
        path: the file.
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        InputError: no such file, or no video that can be opened.
    """
    file = _checked_file(path, argument)
    with _opened(file, argument) as capture:
        return _described(capture, file, argument)


def iterate_video(
    path: str | os.PathLike[str],
    *,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    stride: int | None = None,
    max_frames: int | None = None,
    argument: str = "video",
) -> Iterator[VideoFrame]:
    """The frames of a video, one at a time, in the order in which they are shown.

    Frames are decoded from the first on, because seeking is not exact in every container; frames that are left out
    are not converted. With ``max_frames`` the file is decoded twice: first to see what there is.

    Args:
        path: the file.
        start, end, fps, stride, max_frames: see :class:`~depth_anything_3.types.options.VideoOptions`.
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        InputError: a wrong option, no such file, no video that can be opened (all before this function returns), or no
            frame in the span (when the iterator comes to its end).

    Warns:
        UserWarning: the file ends before its end, or a frame cannot be decoded; the message says where. The frames up
            to there have been given.
    """
    options = VideoOptions(start=start, end=end, fps=fps, stride=stride, max_frames=max_frames)
    file = _checked_file(path, argument)
    info = probe_video(file, argument=argument)
    return _frames(file, info, options, argument)


def read_video(
    path: str | os.PathLike[str],
    *,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    stride: int | None = None,
    max_frames: int | None = None,
    argument: str = "video",
) -> tuple[VideoFrame, ...]:
    """All frames that :func:`iterate_video` gives, in memory."""
    frames = iterate_video(path, start=start, end=end, fps=fps, stride=stride, max_frames=max_frames, argument=argument)
    return tuple(frames)


# --- opening -----------------------------------------------------------------------------------------------------


def _checked_file(path: str | os.PathLike[str], argument: str) -> Path:
    file = Path(os.fsdecode(path))
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - a Path raises on names that are too long
            beginning = stream.read(16)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(argument, f"{file} ({reason})", "a readable video file") from None
    if not beginning:
        raise InputError(argument, f"{file} (empty: 0 bytes)", "a video file")
    if not any(beginning[at : at + len(mark)] == mark for at, mark in _SIGNATURES):
        raise InputError(argument, f"{file} (not recognised as a video)", "a video file", _KINDS)
    # An absolute path cannot be taken for a protocol or a pattern of numbered files.
    return file.resolve()


@contextmanager
def _opened(file: Path, argument: str) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            reason = "no video stream that can be decoded; damaged, cut off, or of a codec that is not built in"
            raise InputError(argument, f"{file} ({reason})", _EXPECTED, _KINDS)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # turned here, and nowhere else
        yield capture
    finally:
        capture.release()


def _described(capture: cv2.VideoCapture, file: Path, argument: str) -> VideoInfo:
    width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width < 1 or height < 1:
        raise InputError(argument, f"{file} (frames of {width}x{height} pixels)", _EXPECTED)
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        expected = "smaller frames; for files that you trust, raise PIL.Image.MAX_IMAGE_PIXELS"
        raise InputError(argument, f"{file} (frames of {width}x{height} pixels)", expected)
    rotation = round(capture.get(cv2.CAP_PROP_ORIENTATION_META) / 90) % 4 * 90
    frames, fps = _positive(capture.get(cv2.CAP_PROP_FRAME_COUNT)), _positive(capture.get(cv2.CAP_PROP_FPS))
    return VideoInfo(
        frames=None if frames is None else int(frames),
        fps=fps,
        duration=None if frames is None or fps is None else frames / fps,
        size=(height, width) if rotation % 180 == 0 else (width, height),
        rotation=rotation,
    )


def _positive(value: float) -> float | None:
    """OpenCV writes 0, or something negative, for what it does not know."""
    return value if 0 < value < 1e15 else None


# --- reading -----------------------------------------------------------------------------------------------------


def _frames(file: Path, info: VideoInfo, options: VideoOptions, argument: str) -> Iterator[VideoFrame]:
    chosen: set[int] | None = None
    if options.max_frames is not None:
        with _opened(file, argument) as capture:
            chosen = _spread([index for index, _ in _wanted(capture, file, info, options)], options.max_frames)
    last = -1
    with _opened(file, argument) as capture:
        for index, time in _wanted(capture, file, info, options) if chosen is None or chosen else ():
            if chosen is not None and index not in chosen:
                continue
            picture = _picture(capture, info.rotation)
            if picture is None:
                _warn_of_end(file, index, info)
                break
            yield VideoFrame(image=picture, timestamp=time, index=index, name=f"{file.stem}_{index:06d}")
            last = index
            if chosen is not None and last == max(chosen):
                break
    if last < 0:
        raise _nothing_there(file, info, options, argument)


def _nothing_there(file: Path, info: VideoInfo, options: VideoOptions, argument: str) -> InputError:
    if options.start is None and options.end is None:
        return InputError(argument, f"{file} (no frame can be decoded)", _EXPECTED)
    length = "unknown length" if info.duration is None else f"{info.duration:g} seconds"
    span = f"start {options.start or 0:g}, end {'open' if options.end is None else format(options.end, 'g')}"
    return InputError("start", f"{span}: no frame of {file}", f"a span within the video ({length})")


def _spread(indices: list[int], count: int) -> set[int]:
    """At most ``count`` of the indices, the first and the last among them, as evenly as they come."""
    if len(indices) <= count:
        return set(indices)
    return {indices[round(place)] for place in np.linspace(0, len(indices) - 1, count)}


def _wanted(
    capture: cv2.VideoCapture, file: Path, info: VideoInfo, options: VideoOptions
) -> Iterator[tuple[int, float]]:
    """Number and time of each frame in the span that stride or rate choose; it waits to be retrieved."""
    begin = -math.inf if options.start is None else options.start - _TIME_TOLERANCE
    end = math.inf if options.end is None else options.end - _TIME_TOLERANCE
    position, origin, ticks = 0, 0.0, 0
    for index, time in _grabbed(capture, file, info):
        if time < begin:
            continue
        if time >= end:
            return
        if position == 0:
            origin = time if options.start is None else options.start
        if options.fps is not None:
            if position and time < origin + ticks / options.fps - _TIME_TOLERANCE:
                continue
            ticks = math.floor((time - origin + _TIME_TOLERANCE) * options.fps) + 1
        if options.stride is None or position % options.stride == 0:
            yield index, time
        position += 1


def _grabbed(capture: cv2.VideoCapture, file: Path, info: VideoInfo) -> Iterator[tuple[int, float]]:
    """Number and time of each frame; where the file has no time that goes forward, the mean rate gives one."""
    index, time = 0, -math.inf
    while capture.grab():
        told = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not (math.isfinite(told) and told > time):
            told = time + 1 / (info.fps or 25.0) if index else 0.0
        yield index, (time := told)
        index += 1
    declared = info.frames or 0
    if declared - index > max(2, declared // 50):  # edit lists and estimates are off by a frame or two
        _warn_of_end(file, index, info)


def _warn_of_end(file: Path, index: int, info: VideoInfo) -> None:
    declared = "an unknown number" if info.frames is None else str(info.frames)
    warnings.warn(
        f"{file.name} can be read up to frame {index} of {declared}: it is cut off or damaged there. The frames "
        "before are used.",
        UserWarning,
        stacklevel=4,
    )


def _picture(capture: cv2.VideoCapture, rotation: int) -> npt.NDArray[np.uint8] | None:
    """The frame that was grabbed, upright, RGB; None where it cannot be decoded."""
    try:
        there, picture = capture.retrieve()
        if not there or picture.size == 0:
            return None
        if rotation:
            picture = cv2.rotate(picture, _TURNS[rotation])
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.ndim == 3 else cv2.COLOR_GRAY2RGB)
    except cv2.error:
        return None
    rgb = np.asarray(picture, np.uint8)
    rgb.flags.writeable = False
    return rgb
