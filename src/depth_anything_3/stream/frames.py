"""One frame of a sequence as bytes: what came in, and what the network said about it.

Depth is stored as the logarithm in 65 534 steps between the least and the largest of the frame, or in steps of 1e-4
where these are coarser than that, so that it comes back to 0.03 % in all but absurd frames; confidence in 255 steps of
its logarithm; the picture as JPEG. A frame of 504 x 378 pixels takes less than 1 MB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import ImageSource
from depth_anything_3.io.masks import MaskSource
from depth_anything_3.stream.store import pack, unpack
from depth_anything_3.types.options import IntrinsicsOrigin

Array = npt.NDArray[np.float64]

JPEG_QUALITY = 95
_FINEST = 1e-4  # step of the log depth; noise below it is not worth its bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamFrame:
    """A frame as it comes.

    Attributes:
        image: anything that :meth:`depth_anything_3.api.DepthAnything3.inference` reads.
        timestamp: seconds; None where not known.
        intrinsics: (3, 3) in pixels of the upright image; None where not known.
        intrinsics_origin: where they come from; refinement keeps those of a calibration (``given``) as they are.
        extrinsics: (3, 4) or (4, 4) world-to-camera pose, OpenCV axes; None where not known.
        mask: of the size of the upright image, an array or a file, see :data:`~depth_anything_3.io.masks.MaskSource`;
            black or False where depth is not wanted (what moves, the bonnet of a car): such pixels have no depth and
            align nothing. None for the whole picture.
        name: for files and messages.
    """

    image: ImageSource
    timestamp: float | None = None
    intrinsics: npt.ArrayLike | None = None
    intrinsics_origin: IntrinsicsOrigin = "given"
    extrinsics: npt.ArrayLike | None = None
    mask: MaskSource | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A frame at the size in which it is given to the network.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        source_hw: height and width of the frame as it came.
        scale_xy, offset_xy: pixels of ``pixels`` are scale times those of the frame plus offset.
        timestamp, intrinsics, intrinsics_origin, extrinsics: as they came; the pose (4, 4).
        mask: (H, W) of ``pixels``, or None.
        name: of the frame.
    """

    pixels: npt.NDArray[np.uint8]
    source_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    timestamp: float | None
    intrinsics: Array | None
    intrinsics_origin: IntrinsicsOrigin
    extrinsics: Array | None
    mask: npt.NDArray[np.bool_] | None
    name: str

    @property
    def from_source(self) -> Array:
        """(3, 3): from pixels of the frame to those of ``pixels``."""
        (sx, sy), (ox, oy) = self.scale_xy, self.offset_xy
        return np.array([[sx, 0, ox], [0, sy, oy], [0, 0, 1.0]])


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameDepth:
    """What the network said about a frame, in the unit of its window.

    Attributes:
        depth: (H, W) float32 z-depth; NaN where unknown, masked out or sky.
        conf: (H, W) float32, or None.
    """

    depth: npt.NDArray[np.float32]
    conf: npt.NDArray[np.float32] | None


def encode_picture(picture: Picture) -> bytes:
    """Bytes of a picture."""
    facts = {
        "source_hw": picture.source_hw,
        "scale_xy": picture.scale_xy,
        "offset_xy": picture.offset_xy,
        "timestamp": picture.timestamp,
        "intrinsics_origin": picture.intrinsics_origin,
        "name": picture.name,
    }
    arrays: dict[str, Any] = {
        "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        "jpeg": _jpeg(picture.pixels),
        "intrinsics": picture.intrinsics,
        "extrinsics": picture.extrinsics,
        "mask": picture.mask,
    }
    return pack(**{name: value for name, value in arrays.items() if value is not None})


def decode_picture(content: bytes, *, pixels: bool = True) -> Picture:
    """The picture again, but for what JPEG loses.

    Args:
        content: from :func:`encode_picture`.
        pixels: False leaves the pixels out (0 x 0 of them), for who only wants to know the rest.
    """
    arrays = unpack(content)
    facts = json.loads(arrays["facts"].tobytes())
    return Picture(
        pixels=_from_jpeg(arrays["jpeg"]) if pixels else np.zeros((0, 0, 3), np.uint8),
        source_hw=tuple(facts["source_hw"]),
        scale_xy=tuple(facts["scale_xy"]),
        offset_xy=tuple(facts["offset_xy"]),
        timestamp=facts["timestamp"],
        intrinsics=arrays.get("intrinsics"),
        intrinsics_origin=facts["intrinsics_origin"],
        extrinsics=arrays.get("extrinsics"),
        mask=arrays.get("mask"),
        name=facts["name"],
    )


def encode_depth(frame: FrameDepth) -> bytes:
    """Bytes of depth and confidence."""
    known = np.isfinite(frame.depth) & (frame.depth > 0)
    log = np.log(np.where(known, frame.depth, 1.0).astype(np.float64))
    low, high = (float(log[known].min()), float(log[known].max())) if known.any() else (0.0, 0.0)
    step = max(_FINEST, (high - low) / 65534)
    code = np.where(known, np.rint((log - low) / step) + 1, 0).astype(np.uint16)
    # Neighbours differ by little: the differences, high bytes first, are what a compressor makes small.
    difference = np.diff(code, axis=1, prepend=np.uint16(0))
    split = np.stack([difference >> 8, difference & 255]).astype(np.uint8)
    arrays: dict[str, Any] = {"depth": split, "depth_range": [low, step]}
    if frame.conf is not None:
        log = np.log(np.maximum(frame.conf.astype(np.float64), 1e-6))
        low, high = float(log.min()), float(log.max())
        step = (high - low) / 255 or 1.0
        arrays |= {"conf": np.rint((log - low) / step).astype(np.uint8), "conf_range": [low, step]}
    return pack(**arrays)


def decode_depth(content: bytes) -> FrameDepth:
    """Depth and confidence again, to the steps of the module's docstring."""
    arrays = unpack(content)
    high, low_byte = arrays["depth"].astype(np.uint16)
    code = np.cumsum((high << 8) | low_byte, axis=1, dtype=np.uint16)
    low, step = arrays["depth_range"]
    depth = np.where(code > 0, np.exp(low + step * (code.astype(np.float64) - 1)), np.nan).astype(np.float32)
    conf = None
    if "conf" in arrays:
        low, step = arrays["conf_range"]
        conf = np.exp(low + step * arrays["conf"]).astype(np.float32)
    return FrameDepth(depth=depth, conf=conf)


def _jpeg(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    done, coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return np.asarray(coded, np.uint8).reshape(-1)


def _from_jpeg(coded: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    pixels = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError("store", "a picture that cannot be read", "an undamaged store")
    return np.ascontiguousarray(pixels[..., ::-1]).astype(np.uint8, copy=False)
