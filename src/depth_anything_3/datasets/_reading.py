"""Files of data sets to arrays; whatever is wrong with one becomes a :class:`CorruptSample` that names it."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8, UInt16
from PIL import Image

from depth_anything_3._optional import require
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.errors import CameraFileError, ImageError
from depth_anything_3.io.images import decode_image, image_size

DEPTH_CHANNELS = ("R", "V", "Y", "Z", "G")
"""Names of the channel of an EXR file that holds depth, the best first: of RGB files all three are alike."""

_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@contextmanager
def damage_in(file: Path) -> Iterator[None]:
    """Turn what parsers raise on damaged files into a :class:`CorruptSample` about ``file``."""
    try:
        yield
    except CorruptSample:
        raise
    except CameraFileError as error:
        raise CorruptSample(error.file, error.reason) from error
    except FileNotFoundError:
        raise CorruptSample(file, "no such file") from None
    except _DAMAGE as error:
        raise CorruptSample(file, f"{type(error).__name__}: {error}") from error


def _corrupt(file: Path, error: ImageError) -> CorruptSample:
    if not file.exists():
        return CorruptSample(file, "no such file")
    return CorruptSample(file, error.got.removeprefix(f"{file} ").strip("()"))


def read_image(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of an image file; an alpha channel is dropped."""
    try:
        decoded = decode_image(file, index=0, alpha="drop")
    except ImageError as error:
        raise _corrupt(file, error) from error
    if decoded.exif_orientation != 1:
        raise CorruptSample(file, "its orientation tag turns it, so that depth and camera do not fit")
    return decoded.pixels


def read_rgba(file: Path) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """RGB pixels over white, and the alpha channel (None where the file has none)."""
    with damage_in(file), Image.open(file) as opened:
        if not opened.has_transparency_data:
            return read_image(file), None
        rgba = np.asarray(opened.convert("RGBA"))
    return decode_image(rgba, index=0, alpha="composite").pixels, rgba[..., 3]


def read_image_bytes(content: bytes, file: Path, what: str) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of an encoded image that is kept inside another file."""
    try:
        return decode_image(content, index=0, alpha="drop").pixels
    except ImageError as error:
        raise CorruptSample(file, f"{what}: {error.got}") from error


def read_image_size(file: Path) -> tuple[int, int]:
    """Height and width from the header of an image file."""
    try:
        return image_size(file, index=0)
    except ImageError as error:
        raise _corrupt(file, error) from error


def read_grey_16(file: Path) -> UInt16[np.ndarray, "h w"]:
    """The numbers of a 16-bit grey PNG."""
    with damage_in(file), Image.open(file) as opened:
        if not opened.mode.startswith("I"):
            raise CorruptSample(file, f"mode {opened.mode} instead of 16-bit grey")
        return np.asarray(opened).astype(np.uint16)


def millimetres(file: Path, *, invalid: int | None = None) -> Float32[np.ndarray, "h w"]:
    """Metres from a 16-bit PNG of millimetres; 0, and ``invalid``, mean that there is none."""
    stored = read_grey_16(file)
    metres = stored.astype(np.float32) / np.float32(1000)
    return metres if invalid is None else np.where(stored == invalid, np.float32(0), metres)


def read_mask(file: Path) -> UInt8[np.ndarray, "h w"]:
    """An 8-bit grey image."""
    with damage_in(file), Image.open(file) as opened:
        return np.asarray(opened.convert("L"))


def read_npy(file: Path) -> Shaped[np.ndarray, "h w"]:
    """A map of numbers of any type; a last axis of length 1 is dropped."""
    with damage_in(file):
        array = np.load(file, allow_pickle=False)
    if isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        raise CorruptSample(file, "not a map of numbers")
    return array


def read_exr(file: Path, channels: Sequence[str] = DEPTH_CHANNELS) -> Float32[np.ndarray, "h w"]:
    """One channel of an OpenEXR file: the first of ``channels`` that is there.

    Raises:
        MissingExtraError: the package OpenEXR is not installed.
    """
    module = require("OpenEXR", extra="train")
    with damage_in(file):
        if not file.is_file():
            raise FileNotFoundError
        found = module.File(str(file), separate_channels=True).channels()
    for name in channels:
        if name in found:
            return np.asarray(found[name].pixels, np.float32)
    raise CorruptSample(file, f"channels {', '.join(found)} and none of {', '.join(channels)}")


def read_hdf5(file: Path, name: str) -> Shaped[np.ndarray, ...]:
    """One array of an HDF5 file.

    Raises:
        MissingExtraError: the package h5py is not installed.
    """
    module = require("h5py", extra="train")
    with damage_in(file):
        if not file.is_file():
            raise FileNotFoundError
        with module.File(file, "r") as opened:
            array = np.asarray(opened[name])
    if array.dtype.kind not in "fiub":
        raise CorruptSample(file, f"{name} holds no numbers")
    return array


def read_pfm(file: Path) -> Float32[np.ndarray, "h w"]:
    """A grey PFM file; its rows go from the bottom up, and a negative scale says that the low byte comes first."""
    with damage_in(file):
        kind, size, scale, content = file.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        order = "<f4" if float(scale) < 0 else ">f4"
        if kind.strip() != b"Pf" or len(content) != 4 * width * height:
            raise CorruptSample(file, f"{kind!r} with {len(content)} bytes of pixels; a grey PFM has 4 for each")
        return np.frombuffer(content, order).reshape(height, width)[::-1].astype(np.float32)


def read_mvsnet_camera(file: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """Camera matrix and world-to-camera pose of a file as MVSNet has it."""
    with damage_in(file):
        return mvsnet_camera(file.read_text().split())


def mvsnet_camera(words: list[str]) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """Camera matrix and world-to-camera pose of the words of such a file: ``extrinsic``, 4 rows, ``intrinsic``, 3."""
    at, then = words.index("extrinsic"), words.index("intrinsic")
    pose = np.array(words[at + 1 : at + 17], np.float64).reshape(4, 4)
    return np.array(words[then + 1 : then + 10], np.float64).reshape(3, 3), pose[:3]


def read_numbers(file: Path, *, count: int | None = None) -> Float64[np.ndarray, " n"]:
    """All numbers of a text file, whatever its lines; ``count`` of them where given."""
    with damage_in(file):
        numbers = np.array(file.read_text().split(), np.float64)
    if count is not None and len(numbers) != count:
        raise CorruptSample(file, f"{len(numbers)} numbers instead of {count}")
    return numbers


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds one object."""
    with damage_in(file):
        content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CorruptSample(file, "not a JSON object")
    return content


def valid_depth(
    raw: Shaped[np.ndarray, "h w"], *, far: float = np.inf
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Depth with 0 where there is none, and where the file says ``far`` or more.

    Args:
        raw: as in the file; values that are not positive or not finite mean that there is no depth.
        far: what is as far as this or farther has no depth either.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        values = raw.astype(np.float32)
        beyond = values >= far
        good = (values > 0) & np.isfinite(values) & ~beyond
    return np.where(good, values, np.float32(0)), beyond
