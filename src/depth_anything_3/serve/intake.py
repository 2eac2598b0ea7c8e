"""From what a client sent to files in the folder of a job, with every limit checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from depth_anything_3.errors import DA3Error, ImageError, InputError
from depth_anything_3.infer.preprocess import plan_resize
from depth_anything_3.io.images import PARSER_ERRORS, read_header, readable_formats
from depth_anything_3.serve.sandbox import safe_name
from depth_anything_3.serve.settings import Limits
from depth_anything_3.types.options import PreprocessOptions

FORMATS = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
"""Formats that clients may send; every further decoder would be one more to attack."""

_PIECE = 1 << 20


class TooLargeError(DA3Error):
    """More than the limits of the server allow; the message says which."""


@dataclass(frozen=True)
class IncomingImage:
    """An image of a client.

    Attributes:
        name: as the client calls it; only shown, never used as a path.
        stream: its bytes, or what opens them; what was opened so is closed again.
    """

    name: str
    stream: BinaryIO | Callable[[], BinaryIO]


@dataclass(frozen=True)
class Received:
    """Images that lie in the folder of a job.

    Attributes:
        names: display names.
        bytes: of all files.
        sizes: (height, width) of each, upright.
    """

    names: tuple[str, ...]
    bytes: int
    sizes: tuple[tuple[int, int], ...]


def receive(images: Sequence[IncomingImage], folder: Path, limits: Limits) -> Received:
    """Copy images to ``folder/0000/<name>``, ``folder/0001/<name>``, ... and read their headers.

    Raises:
        TooLargeError: too many images, bytes or pixels.
        ImageError: not an image of one of :data:`FORMATS`, or a damaged header.
    """
    if not images:
        raise InputError("images", "none", "at least one image")
    if len(images) > limits.images:
        raise TooLargeError(f"images: got {len(images)}; at most {limits.images} in one job")
    names, sizes, total = [], [], 0
    for index, image in enumerate(images):
        name = safe_name(image.name)
        path = folder / f"{index:04d}" / name
        path.parent.mkdir(parents=True)
        if callable(image.stream):
            with image.stream() as stream:
                total += _copy(stream, path, limits.file_bytes, f"image[{index}]")
        else:
            total += _copy(image.stream, path, limits.file_bytes, f"image[{index}]")
        sizes.append(_checked_size(path, index, name, limits.image_pixels))
        names.append(name)
    return Received(tuple(names), total, tuple(sizes))


def received_files(folder: Path) -> list[Path]:
    """The files that :func:`receive` wrote, in order."""
    return [next(entry.iterdir()) for entry in sorted(folder.iterdir())]


def _copy(stream: BinaryIO, path: Path, most: int, label: str) -> int:
    count = 0
    with path.open("xb") as target:
        while piece := stream.read(_PIECE):
            count += len(piece)
            if count > most:
                raise TooLargeError(f"{label}: more than {most} bytes, which is the most for one file")
            target.write(piece)
    return count


def _checked_size(path: Path, index: int, name: str, most_pixels: int) -> tuple[int, int]:
    label, formats = f"image[{index}]", FORMATS & set(readable_formats())
    try:
        with Image.open(path, formats=sorted(formats)) as image:
            kind = image.format
        with Image.open(path, formats=readable_formats()) as image:
            if image.format != kind:  # the worker would take it for something else
                raise ValueError(f"{kind} and {image.format} at once")
        header = read_header(path, index=index)
    except ImageError as error:
        raise ImageError(label, error.got.replace(str(path), name), error.expected, error.alternatives) from None
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"{label}: {error}") from None
    except PARSER_ERRORS:
        raise ImageError(label, f"{name} (not recognised as an image)", "an image file", sorted(formats)) from None
    height, width = header.size
    if height * width > most_pixels:
        raise TooLargeError(f"{label}: {width} x {height} pixels; at most {most_pixels} pixels in one image")
    return header.size


def plan_pixels(received: Received, options: PreprocessOptions, limits: Limits) -> tuple[int, tuple[int, int]]:
    """Pixels of all images at network size, and the size of the first one.

    Raises:
        TooLargeError: more than the limit.
        ImageError: an image that cannot be brought to network size.
    """
    plans = [
        plan_resize(size, options, index=index, name=name).processed_hw
        for index, (size, name) in enumerate(zip(received.sizes, received.names, strict=True))
    ]
    pixels = sum(height * width for height, width in plans)
    if pixels > limits.processed_pixels:
        raise TooLargeError(
            f"{len(plans)} images at process_res {options.process_res} ({options.process_res_method}) are {pixels} "
            f"pixels; at most {limits.processed_pixels} in one job"
        )
    return pixels, plans[0]
