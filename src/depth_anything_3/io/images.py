"""Photos as they come — files, bytes, Pillow images, arrays — to upright 8-bit RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from depth_anything_3._optional import require
from depth_anything_3.errors import ImageError, MissingExtraError
from depth_anything_3.geometry.distortion import undistort_image
from depth_anything_3.io.video import VideoFrame, is_video, probe_video
from depth_anything_3.types.cameras import Lens
from depth_anything_3.types.options import AlphaMode


@dataclass(frozen=True, kw_only=True, eq=False)
class LensPhoto:
    """A photo that is to be freed from lens distortion when it is read.

    Attributes:
        photo: the file, or a frame of a video.
        intrinsics: (3, 3) camera matrix of the upright photo as taken.
        lens: what it was taken with.
        target: (3, 3) camera matrix of the photo without distortion; it keeps its size.
    """

    photo: Path | VideoFrame
    intrinsics: npt.NDArray[np.float64]
    lens: Lens
    target: npt.NDArray[np.float64]


ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[Any] | LensPhoto | VideoFrame
"""Everything that :func:`decode_image` reads."""

ACCEPTED_SOURCES = (
    "a path (str or os.PathLike)",
    "the bytes of an image file",
    "a binary file object",
    "a PIL image",
    "a numpy array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
    "a frame of a video (io.video)",
)
"""The kinds of :data:`ImageSource`, in words."""

HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})
"""Lower-case file name extensions of HEIF photos, which the extra ``heif`` reads."""

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_MOST_TOLD = 10
_ORIENTATION_TAG = 0x0112
_EXIF_BLOCK = 0x8769

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})

# Not decoders of stills: EPS starts an external program (Ghostscript) on the file, FLI and MPEG are animations,
# the others are placeholders that never give pixels.
_REFUSED_FORMATS = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"})

PARSER_ERRORS = (
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
"""What Pillow's parsers raise on damaged files."""

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
        mask: (H, W) bool, True where the image is at least half opaque, read-only; only with ``alpha="mask"``, and
            None where the image has no transparency.
        timestamp: seconds from the start of the video, for its frames.
    """

    pixels: Pixels
    name: str
    exif_orientation: int = 1
    mask: Mask | None = None
    timestamp: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageHeader:
    """What an image file says before its pixels.

    Attributes:
        size: height and width once it is upright.
        exif_orientation: the EXIF orientation tag (1 = none).
        exif: numeric EXIF tags of the camera (focal lengths and the like) by number.
    """

    size: tuple[int, int]
    exif_orientation: int
    exif: Mapping[int, float]


def decode_image(source: ImageSource, *, index: int, alpha: AlphaMode) -> DecodedImage:
    """Decode one image.

    Files and Pillow images are turned upright by their EXIF orientation; of files with several frames, the first is
    read. Grey becomes RGB. 16-bit grey files and uint16 arrays are scaled by 255/65535 and rounded; float arrays in
    [0, 1] by 255. Boolean arrays are black and white. uint8 (H, W, 3) arrays are taken as they are, as RGB.

    Args:
        source: one of :data:`ACCEPTED_SOURCES`. A seekable file object is put back where it was.
        index: position of the image in the caller's list; errors and the names of unnamed images carry it.
        alpha: ``"composite"`` lays transparent images over white; ``"mask"`` does too, and says where they are
            opaque; ``"drop"`` shows the colours as stored, also where they are hidden.

    Raises:
        ImageError: the source cannot be read as an image. The message holds ``image[index]``, the file, the reason.
        MissingExtraError: it is a HEIF image, and the package that reads those is not installed.
    """
    label = f"image[{index}]"
    if isinstance(source, VideoFrame):
        pixels = _array_pixels(np.asarray(source.image), label, f"a frame of shape {np.shape(source.image)}")
        return DecodedImage(
            pixels=_frozen(pixels[:, :, :3]), name=source.name or f"image_{index:04d}", timestamp=source.timestamp
        )
    if isinstance(source, LensPhoto):
        return _through_no_lens(source, decode_image(source.photo, index=index, alpha=alpha))
    name, orientation = f"image_{index:04d}", 1
    if isinstance(source, np.ndarray):
        array = np.asarray(source)
        pixels = _array_pixels(array, label, f"an array of shape {array.shape}")
    elif isinstance(source, Image.Image):
        pixels, orientation = _given_pillow(source, label)
    elif isinstance(source, bytes):
        pixels, orientation = _encoded(source, label, "bytes")
    elif isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        name = path.name
        pixels, orientation = _encoded(_read_path(path, label), label, str(path))
    elif hasattr(source, "read"):
        pixels, orientation = _encoded(_read_stream(source, label), label, "a file object")
    else:
        raise ImageError(label, describe_type(source), "an image", ACCEPTED_SOURCES)
    pixels, mask = _without_alpha(pixels, alpha)
    return DecodedImage(
        pixels=_frozen(pixels),
        name=name,
        exif_orientation=orientation,
        mask=None if mask is None else _frozen(mask),
    )


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _through_no_lens(photo: LensPhoto, image: DecodedImage) -> DecodedImage:
    pixels = undistort_image(image.pixels, photo.intrinsics, photo.lens, photo.target)
    mask = None if image.mask is None else _frozen(undistorted_mask(image.mask, photo))
    return replace(image, pixels=_frozen(pixels), mask=mask)


def undistorted_mask(mask: Mask, photo: LensPhoto) -> Mask:
    """A mask (H, W) of a photo as taken, on the photo without distortion."""
    shades = np.repeat(mask[:, :, None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    return np.asarray(undistort_image(shades, photo.intrinsics, photo.lens, photo.target)[:, :, 0] >= 128)


def raise_together(errors: Sequence[ImageError], count: int) -> None:
    """Raise what is wrong with some of ``count`` images as one error; nothing where there is none.

    Raises:
        ImageError: the error, or one that names each image and what is wrong with it; of many, the first ten.
    """
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    told = [f"{error.argument}: {error.got}" for error in errors[:_MOST_TOLD]]
    if len(errors) > len(told):
        told.append(f"and {len(errors) - len(told)} more")
    got = f"{len(errors)} of {count} that cannot be used ({'; '.join(told)})"
    expected = "; ".join(dict.fromkeys(error.expected for error in errors))
    alternatives = dict.fromkeys(name for error in errors for name in error.alternatives)
    raise ImageError("image", got, expected, alternatives) from errors[0]


def image_size(path: str | os.PathLike[str], *, index: int) -> tuple[int, int]:
    """Height and width of an image file once it is upright; see :func:`read_header`."""
    return read_header(path, index=index).size


def read_header(path: str | os.PathLike[str], *, index: int) -> ImageHeader:
    """What an image file says before its pixels.

    Args:
        path: the file. Of a video, what holds for each frame.
        index: position of the image in the caller's list, for errors.

    Raises:
        ImageError: the header cannot be read as an image. Damage further down is only found by decoding.
        MissingExtraError: see :func:`decode_image`.
    """
    label, shown = f"image[{index}]", str(os.fspath(path))
    if is_video(path):
        return ImageHeader(size=probe_video(path, argument=label).size, exif_orientation=1, exif={})
    with _parser_errors(label, shown):
        with open(path, "rb") as stream:  # noqa: PTH123 - a Path raises on names that are too long
            _need_heif(stream.read(64))
        with Image.open(path, formats=readable_formats()) as image:
            orientation = _orientation(image)
            size = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
            return ImageHeader(size=size, exif_orientation=orientation, exif=_numbers_of_exif(image))


def _numbers_of_exif(image: Image.Image) -> dict[int, float]:
    found: dict[int, float] = {}
    try:
        for tag, value in image.getexif().get_ifd(_EXIF_BLOCK).items():
            with suppress(*PARSER_ERRORS):  # a tag of text, or a fraction over zero
                found[tag] = float(value)
    except PARSER_ERRORS:  # damaged metadata does not make the pixels unreadable
        pass
    return found


@cache
def readable_formats() -> tuple[str, ...]:
    """Names of the still-image formats that the installed Pillow decodes ("PNG", "JPEG", ...).

    HEIF is one of them where the package pi-heif is installed; asking registers it with Pillow.
    """
    Image.init()
    with suppress(MissingExtraError):
        require("pi_heif", extra="heif").register_heif_opener()
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


def _encoded(content: bytes, label: str, shown: str) -> tuple[Pixels, int]:
    if not content:
        raise ImageError(label, f"{shown} (empty: 0 bytes)", "an image file")
    _need_heif(content[:64])
    with (
        _parser_errors(label, shown),
        Image.open(io.BytesIO(content), formats=readable_formats()) as image,
    ):
        declared, remaining = _load(image)
        return _upright(_colours(image, label, shown), remaining), declared


def _need_heif(start: bytes) -> None:
    """Say how to read a HEIF image where that is not possible; ``start`` are the first bytes of a file.

    They hold a size, ``ftyp``, the main brand, a version, and more brands. AVIF lies in the same container.
    """
    if start[4:8] == b"ftyp" and not _HEIF_BRANDS.isdisjoint({start[i : i + 4] for i in range(8, len(start), 4)}):
        require("pi_heif", extra="heif")


@contextmanager
def _parser_errors(label: str, shown: str) -> Iterator[None]:
    """Turn whatever Pillow raises on an unusable image into an :class:`ImageError`."""
    try:
        yield
    except (ImageError, MissingExtraError):
        raise
    except UnidentifiedImageError:
        raise ImageError(
            label, f"{shown} (not recognised as an image)", "an image file", sorted(readable_formats())
        ) from None
    except Image.DecompressionBombError as error:
        expected = "a smaller image; for files that you trust, raise PIL.Image.MAX_IMAGE_PIXELS"
        raise ImageError(label, f"{shown} ({error})", expected) from error
    except PARSER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ImageError(label, f"{shown} ({reason})", "a complete, undamaged image") from error


# --- Pillow images -----------------------------------------------------------------------------------------------


def _given_pillow(image: Image.Image, label: str) -> tuple[Pixels, int]:
    shown = f"a PIL image of {image.width}x{image.height} pixels, mode {image.mode}"
    if image.width == 0 or image.height == 0:
        raise ImageError(label, shown, "at least one pixel")
    with _parser_errors(label, shown):
        with _SHARED_SOURCE_LOCK:
            declared, remaining = _load(image)
        return _upright(_colours(image, label, shown), remaining), declared


def _load(image: Image.Image) -> tuple[int, int]:
    """Decode; return the orientation that was declared, and what of it is still to be undone."""
    declared = _orientation(image)
    image.load()
    return declared, _orientation(image)  # Pillow itself turns TIFF files upright while it loads them


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except PARSER_ERRORS:  # damaged metadata does not make the pixels unreadable
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


def _colours(image: Image.Image, label: str, shown: str) -> Pixels:
    """RGB, or RGBA where there is transparency."""
    if image.mode in _GREY_16_BIT_MODES:
        grey = np.asarray(image)
        low, high = int(grey.min()), int(grey.max())
        if low < 0 or high > 65535:
            raise ImageError(label, f"{shown}: values from {low} to {high}", "at most 16 bits per pixel (0..65535)")
        return _array_pixels(grey.astype(np.uint16), label, shown)
    if image.mode == "F":
        return _array_pixels(np.asarray(image), label, shown)
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


# --- arrays ------------------------------------------------------------------------------------------------------


def _array_pixels(array: npt.NDArray[Any], label: str, shown: str) -> Pixels:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(label, shown, "shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels last")
    if array.size == 0:
        raise ImageError(label, shown, "at least one pixel")
    pixels = _to_uint8(array, label, shown)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


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


def _without_alpha(pixels: Pixels, alpha: AlphaMode) -> tuple[Pixels, Mask | None]:
    """RGB of RGB or RGBA, and where it is opaque if that is asked for."""
    if pixels.shape[2] == 3:
        return pixels, None
    if alpha == "drop":
        return pixels[:, :, :3], None
    opacity = pixels[:, :, 3:].astype(np.uint16)
    white = 255 * (255 - opacity)  # with the colour added and 127 for rounding, at most 65152: fits 16 bits
    colours = ((pixels[:, :, :3] * opacity + white + 127) // 255).astype(np.uint8)
    return colours, pixels[:, :, 3] >= 128 if alpha == "mask" else None
