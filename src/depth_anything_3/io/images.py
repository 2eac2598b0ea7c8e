"""Photos as they come — files, bytes, Pillow images, arrays — to upright 8-bit RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from depth_anything_3.errors import ImageError
from depth_anything_3.types.options import AlphaMode

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[Any]
"""Everything that :func:`decode_image` reads."""

ACCEPTED_SOURCES = (
    "a path (str or os.PathLike)",
    "the bytes of an image file",
    "a binary file object",
    "a PIL image",
    "a numpy array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
)
"""The kinds of :data:`ImageSource`, in words."""

Pixels = npt.NDArray[np.uint8]

_ORIENTATION_TAG = 0x0112

# Not decoders of stills: EPS starts an external program (Ghostscript) on the file, FLI and MPEG are animations,
# the others are placeholders that never give pixels.
_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"})

# What Pillow's parsers raise on damaged files.
_PARSER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_GREY_16_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}

# One file object or lazily loaded Pillow image may stand in a list twice and be decoded by two threads.
_SHARED_SOURCE_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedImage:
    """One image, upright and in 8-bit RGB.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, read-only.
        name: the file name for paths, ``image_0007`` (by index) otherwise.
        exif_orientation: the EXIF orientation tag that was applied (1 = none).
    """

    pixels: Pixels
    name: str
    exif_orientation: int = 1


def decode_image(source: ImageSource, *, index: int, alpha: AlphaMode) -> DecodedImage:
    """Decode one image.

    Files and Pillow images are turned upright by their EXIF orientation; of files with several frames, the first is
    read. Grey becomes RGB. 16-bit grey files and uint16 arrays are scaled by 255/65535 and rounded; float arrays in
    [0, 1] by 255. Boolean arrays are black and white. uint8 (H, W, 3) arrays are taken as they are, as RGB.

    Args:
        source: one of :data:`ACCEPTED_SOURCES`. A seekable file object is put back where it was.
        index: position of the image in the caller's list; errors and the names of unnamed images carry it.
        alpha: ``"composite"`` lays transparent images over white; ``"drop"`` shows the colours as stored, also where
            they are hidden.

    Raises:
        ImageError: the source cannot be read as an image. The message holds ``image[index]``, the file, the reason.
    """
    label = f"image[{index}]"
    name, orientation = f"image_{index:04d}", 1
    if isinstance(source, np.ndarray):
        array = np.asarray(source)
        pixels = _array_pixels(array, label, f"an array of shape {array.shape}", alpha)
    elif isinstance(source, Image.Image):
        pixels, orientation = _given_pillow(source, label, alpha)
    elif isinstance(source, bytes):
        pixels, orientation = _encoded(source, label, "bytes", alpha)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        name = path.name
        pixels, orientation = _encoded(_read_path(path, label), label, str(path), alpha)
    elif hasattr(source, "read"):
        pixels, orientation = _encoded(_read_stream(source, label), label, "a file object", alpha)
    else:
        raise ImageError(label, describe_type(source), "an image", ACCEPTED_SOURCES)
    pixels = np.ascontiguousarray(pixels).view()
    pixels.flags.writeable = False
    return DecodedImage(pixels=pixels, name=name, exif_orientation=orientation)


def image_size(path: str | os.PathLike[str], *, index: int) -> tuple[int, int]:
    """Height and width of an image file once it is upright, from its header alone.

    Args:
        path: the file.
        index: position of the image in the caller's list, for errors.

    Raises:
        ImageError: the header cannot be read as an image. Damage further down is only found by decoding.
    """
    label, shown = f"image[{index}]", os.fspath(path)
    with _parser_errors(label, str(shown)), Image.open(path, formats=readable_formats()) as image:
        swapped = _orientation(image) >= 5
        return (image.width, image.height) if swapped else (image.height, image.width)


@cache
def readable_formats() -> tuple[str, ...]:
    """Names of the still-image formats that the installed Pillow decodes ("PNG", "JPEG", ...)."""
    Image.init()
    missing = set() if "AVIF" not in Image.ID or features.check("avif") else {"AVIF"}
    return tuple(name for name in Image.ID if name not in _REFUSED_FORMATS | missing)


def describe_type(value: object) -> str:
    """The type of a value that is not an image, for an error message."""
    return f"an object of type {type(value).__module__}.{type(value).__qualname__}"


# --- encoded files -----------------------------------------------------------------------------------------------


def _read_path(path: Path, label: str) -> bytes:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on names that are too long
        raise ImageError(label, f"{path} (a folder)", "an image file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(label, f"{path} (no such file)", "an image file") from None
    except OSError as error:
        raise ImageError(label, f"{path} ({error.strerror or error})", "a readable image file") from error
    except ValueError as error:  # a zero byte in the path
        raise ImageError(label, f"{str(path)!r} ({error})", "the path of an image file") from error


def _read_stream(stream: Any, label: str) -> bytes:
    try:
        with _SHARED_SOURCE_LOCK:
            start = stream.tell() if stream.seekable() else None
            content = stream.read()
            if start is not None:
                stream.seek(start)
    except (OSError, ValueError, AttributeError) as error:
        raise ImageError(label, f"a file object that cannot be read ({error})", "an open binary file") from error
    if not isinstance(content, bytes):
        raise ImageError(label, f"a file object that reads {type(content).__name__}", "a file opened in binary mode")
    return content


def _encoded(content: bytes, label: str, shown: str, alpha: AlphaMode) -> tuple[Pixels, int]:
    if not content:
        raise ImageError(label, f"{shown} (empty: 0 bytes)", "an image file")
    with (
        _parser_errors(label, shown),
        Image.open(io.BytesIO(content), formats=readable_formats()) as image,
    ):
        declared, remaining = _load(image)
        return _upright(_rgb(image, label, shown, alpha), remaining), declared


@contextmanager
def _parser_errors(label: str, shown: str) -> Iterator[None]:
    """Turn whatever Pillow raises on an unusable image into an :class:`ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            label, f"{shown} (not recognised as an image)", "an image file", sorted(readable_formats())
        ) from None
    except Image.DecompressionBombError as error:
        expected = "a smaller image; for files that you trust, raise PIL.Image.MAX_IMAGE_PIXELS"
        raise ImageError(label, f"{shown} ({error})", expected) from error
    except _PARSER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ImageError(label, f"{shown} ({reason})", "a complete, undamaged image") from error


# --- Pillow images -----------------------------------------------------------------------------------------------


def _given_pillow(image: Image.Image, label: str, alpha: AlphaMode) -> tuple[Pixels, int]:
    shown = f"a PIL image of {image.width}x{image.height} pixels, mode {image.mode}"
    if image.width == 0 or image.height == 0:
        raise ImageError(label, shown, "at least one pixel")
    with _parser_errors(label, shown):
        with _SHARED_SOURCE_LOCK:
            declared, remaining = _load(image)
        return _upright(_rgb(image, label, shown, alpha), remaining), declared


def _load(image: Image.Image) -> tuple[int, int]:
    """Decode; return the orientation that was declared, and what of it is still to be undone."""
    declared = _orientation(image)
    image.load()
    return declared, _orientation(image)  # Pillow itself turns TIFF files upright while it loads them


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _PARSER_ERRORS:  # damaged metadata does not make the pixels unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: 2 to 4 mirror or turn by 180 degrees, 5 to 8 also swap rows and columns."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _rgb(image: Image.Image, label: str, shown: str, alpha: AlphaMode) -> Pixels:
    if image.mode in _GREY_16_BIT_MODES:
        grey = np.asarray(image)
        low, high = int(grey.min()), int(grey.max())
        if low < 0 or high > 65535:
            raise ImageError(label, f"{shown}: values from {low} to {high}", "at most 16 bits per pixel (0..65535)")
        return _array_pixels(grey.astype(np.uint16), label, shown, alpha)
    if image.mode == "F":
        return _array_pixels(np.asarray(image), label, shown, alpha)
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    if image.has_transparency_data:
        return _without_alpha(np.asarray(image.convert("RGBA")), alpha)
    return np.asarray(image.convert("RGB"))


# --- arrays ------------------------------------------------------------------------------------------------------


def _array_pixels(array: npt.NDArray[Any], label: str, shown: str, alpha: AlphaMode) -> Pixels:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(label, shown, "shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels last")
    if array.size == 0:
        raise ImageError(label, shown, "at least one pixel")
    pixels = _to_uint8(array, label, shown)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return _without_alpha(pixels, alpha) if pixels.shape[2] == 4 else pixels


def _to_uint8(array: npt.NDArray[Any], label: str, shown: str) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        # 65535 = 257 * 255, and 257 is odd: integer rounding meets no ties
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also true where a NaN is among them
            got = f"{shown}: float values from {low:g} to {high:g}"
            raise ImageError(label, got, "floats in [0, 1], or uint8 in 0..255")
        return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    raise ImageError(
        label,
        f"{shown} and dtype {array.dtype}",
        "0..255 as uint8 (convert with .astype(numpy.uint8)) or another dtype with a known range",
        ("uint8", "uint16", "float in [0, 1]", "bool"),
    )


def _without_alpha(rgba: Pixels, alpha: AlphaMode) -> Pixels:
    if alpha == "drop":
        return rgba[:, :, :3]
    opacity = rgba[:, :, 3:].astype(np.uint16)
    white = 255 * (255 - opacity)  # with the colour added and 127 for rounding, at most 65152: fits 16 bits
    return ((rgba[:, :, :3] * opacity + white + 127) // 255).astype(np.uint8)
