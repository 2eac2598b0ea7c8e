"""One frame of colour and depth as bytes. Both travel together, so that they cannot come apart.

Little-endian, 64 bytes and then a JPEG and the depth:

======  ==========================================================================================================
bytes   content
======  ==========================================================================================================
0-3     ``DA3V``
4-7     version (1) and flags (bit 0: metres), 16 bits each
8-15    number of the frame, and how many seeks came before it, 32 bits each
16-23   time in the video in seconds, float64
24-27   width and height, 16 bits each
28-43   fx, fy, cx, cy in pixels (the first pixel's centre is at 0.5), float32
44-51   nearest and farthest depth, float32
52-59   length of the JPEG and of the depth in bytes, 32 bits each
60-63   zero
======  ==========================================================================================================

Depth is 16 bits per pixel, row by row: 0 where it is unknown, else 1 + 65534 (1/z - 1/far) / (1/near - 1/far): even
steps of inverse depth, like a disparity, so that what is near is finest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

MAGIC, VERSION = b"DA3V", 1
HEADER = struct.Struct("<4sHHIIdHHffffffIIxxxx")
_STEPS = 65534
_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class DepthFrame:
    """A frame of a video with its depth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 z-depth; not positive or not finite where unknown.
        intrinsics: (3, 3) in pixels of the image.
        timestamp: in seconds from the start of the video.
        sequence: number of the frame.
        generation: how many seeks came before it.
        metric: whether depth is in metres.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: npt.NDArray[np.float32]
    timestamp: float
    sequence: int = 0
    generation: int = 0
    metric: bool = False


def pack(frame: DepthFrame) -> bytes:
    """The frame as bytes, see the module."""
    codes, near, far = encode_depth(frame.depth)
    height, width = frame.depth.shape
    done, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert done
    k = frame.intrinsics
    lens = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    numbers = (frame.sequence, frame.generation, frame.timestamp, width, height, *lens, near, far)
    header = HEADER.pack(MAGIC, VERSION, int(frame.metric), *numbers, jpeg.nbytes, codes.nbytes)
    return b"".join((header, jpeg.tobytes(), codes.tobytes()))


def encode_depth(depth: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Codes (H, W) of the depth, and the nearest and the farthest; 1 and 2 where no depth is known."""
    valid = np.isfinite(depth) & (depth > 0)
    codes = np.zeros(depth.shape, "<u2")
    if not valid.any():
        return codes, 1.0, 2.0
    near, far = float(depth[valid].min()), float(depth[valid].max())
    span = 1 / near - 1 / far
    share = (1 / depth[valid] - 1 / far) / span if span > 0 else np.ones(int(valid.sum()), np.float32)
    codes[valid] = np.round(1 + _STEPS * share.clip(0, 1))
    return codes, near, far


def decode_depth(codes: npt.NDArray[np.uint16], near: float, far: float) -> npt.NDArray[np.float32]:
    """What :func:`encode_depth` encoded, as the page decodes it; 0 where it is unknown."""
    inverse = 1 / far + (codes.astype(np.float64) - 1) / _STEPS * (1 / near - 1 / far)
    return np.where(codes > 0, 1 / inverse, 0).astype(np.float32)
