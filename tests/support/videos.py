"""Small videos whose frames say which they are, and MP4 files whose times and rotation are rewritten."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZE = (48, 64)
"""Height and width."""

_STEP = 8
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def write_video(
    path: Path, count: int, *, fps: float = 10.0, size: tuple[int, int] = SIZE, codec: str = "mp4v"
) -> Path:
    """Frame i is grey of value 8 i, with a red top-left quarter."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for i in range(count):
        frame = np.full((*size, 3), min(255, i * _STEP), np.uint8)
        frame[: size[0] // 2, : size[1] // 2] = (0, 0, 255)  # BGR
        writer.write(frame)
    writer.release()
    return path


def number_of(image: np.ndarray) -> int:
    """Which frame of :func:`write_video` an unrotated picture is."""
    height, width = image.shape[:2]
    return round(float(image[height // 2 + 4 :, width // 2 + 4 :].mean()) / _STEP)


def red_corner(image: np.ndarray) -> tuple[bool, bool]:
    """Whether the red quarter is at the bottom, and whether it is at the right."""
    height, width = image.shape[:2]
    quarters = image[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2].astype(int)
    bottom, right = np.unravel_index(np.argmax(quarters[..., 0] - quarters[..., 1]), (2, 2))
    return bool(bottom), bool(right)


def give_durations(path: Path, milliseconds: Sequence[int]) -> None:
    """Let each frame of an MP4 be shown for a time of its own (ISO 14496-12: ``stts``, ``mdhd``)."""

    def rewritten(kind: bytes, body: bytes) -> bytes | None:
        if kind == b"stts":
            entries = b"".join(struct.pack(">II", 1, value) for value in milliseconds)
            return bytes(4) + struct.pack(">I", len(milliseconds)) + entries
        if kind == b"mdhd":
            return body[:12] + struct.pack(">II", 1000, sum(milliseconds)) + body[20:]
        return None

    _rewrite(path, rewritten)


def give_rotation(path: Path, quarter_turns: int) -> None:
    """Say that an MP4 is to be turned clockwise when it is shown.

    By the matrix in ``tkhd``: x' = a x + c y + tx, y' = b x + d y + ty.
    """
    a, b, c, d = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))[quarter_turns % 4]
    one = 1 << 16
    numbers = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)

    def rewritten(kind: bytes, body: bytes) -> bytes | None:
        return body[:40] + struct.pack(">9i", *numbers) + body[76:] if kind == b"tkhd" else None

    _rewrite(path, rewritten)


def _rewrite(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov"), "or else offsets of samples would have to move"
    path.write_bytes(_boxes(content, change))


def _boxes(content: bytes, change) -> bytes:  # type: ignore[no-untyped-def]
    parts, place = [], 0
    while place < len(content):
        (length,), kind = struct.unpack(">I", content[place : place + 4]), content[place + 4 : place + 8]
        body = content[place + 8 : place + length]
        if kind == b"edts":  # edit lists would cut the new times
            kind = b"free"
        new = _boxes(body, change) if kind in _CONTAINERS else change(kind, body)
        body = body if new is None else new
        parts.append(struct.pack(">I", len(body) + 8) + kind + body)
        place += length
    return b"".join(parts)
