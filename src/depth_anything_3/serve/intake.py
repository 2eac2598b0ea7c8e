"""From what a client sent to files in the folder of a job, with every limit checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from depth_anything_3.errors import DA3Error, ImageError, InputError
from depth_anything_3.infer.preprocess import plan_resize
from depth_anything_3.io.images import PARSER_ERRORS, read_header, readable_formats
from depth_anything_3.io.video import is_video
from depth_anything_3.serve.sandbox import safe_name
from depth_anything_3.serve.settings import Limits
from depth_anything_3.types.options import PreprocessOptions

FORMATS = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
"""Formats that clients may send; every further decoder would be one more to attack."""

SCENE_FILES = {"masks": None, "poses": 1, "intrinsics": 1}
"""What may come beside the images, and how many files of it; masks: one for each image, in order. ``poses`` and
``intrinsics`` are camera files of the formats that the command line reads; intrinsics may also be a text file that says
``exif`` or a field of view, such as ``60deg``."""

_PIECE = 1 << 20


class TooLargeError(DA3Error):
    """More than the limits of the server allow; the message says which."""


@dataclass(frozen=True)
class IncomingImage:
    """A file of a client: mostly an image.

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
        sizes: (height, width) of each, upright; none of a video, which only the worker opens.
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
    if is_film(images):
        return _receive_film(images[0], folder, limits)
    names, total = _store(images, folder, limits.file_bytes, "image")
    files = zip(received_files(folder), names, strict=True)
    sizes = [_checked_size(path, index, name, limits.image_pixels) for index, (path, name) in enumerate(files)]
    return Received(names, total, tuple(sizes))


def is_film(images: Sequence[IncomingImage]) -> bool:
    """Whether a video stands in the place of the images. Raises InputError if there are others beside it."""
    films = [image.name for image in images if is_video(image.name)]
    if films and len(images) > 1:
        raise InputError("images", f"the video {safe_name(films[0])} and others", "photos, or one video alone")
    return bool(films)


def _receive_film(film: IncomingImage, folder: Path, limits: Limits) -> Received:
    names, total = _store([film], folder, limits.video_bytes, "images")
    return Received(names, total, ())


def receive_files(
    files: Mapping[str, Sequence[IncomingImage]], folder: Path, limits: Limits, images: int | None
) -> int:
    """Copy what comes beside the images to ``folder/<kind>/0000/<name>``; their bytes together.

    Args:
        files: kind of :data:`SCENE_FILES` -> files.
        folder: of the job.
        limits: of the server.
        images: number of images, or None for a video.

    Raises:
        InputError: an unknown kind, or a wrong number of files. TooLargeError, ImageError: as :func:`receive`.
    """
    total = 0
    for kind, given in files.items():
        if kind not in SCENE_FILES:
            raise InputError(kind, "files", "files beside the images", sorted(SCENE_FILES))
        most = SCENE_FILES[kind] or images or limits.images
        if len(given) > most or (kind == "masks" and images is not None and given and len(given) != images):
            raise InputError(kind, f"{len(given)} files", "one for each image" if kind == "masks" else "one file")
        _, count = _store(given, folder / kind, limits.file_bytes, kind)
        total += count
    for index, mask in enumerate(received_files(folder / "masks")):
        _checked_size(mask, index, mask.name, limits.image_pixels, "masks")
    return total


def _store(given: Sequence[IncomingImage], folder: Path, most: int, label: str) -> tuple[tuple[str, ...], int]:
    names, total = [], 0
    for index, file in enumerate(given):
        names.append(safe_name(file.name))
        path = folder / f"{index:04d}" / names[-1]
        path.parent.mkdir(parents=True)
        with file.stream() if callable(file.stream) else nullcontext(file.stream) as stream:
            total += _copy(stream, path, most, f"{label}[{index}]")
    return tuple(names), total


def received_files(folder: Path) -> list[Path]:
    """The files that :func:`receive` or :func:`receive_files` wrote to a folder, in order; none if it did not."""
    return [next(entry.iterdir()) for entry in sorted(folder.iterdir())] if folder.is_dir() else []


def _copy(stream: BinaryIO, path: Path, most: int, label: str) -> int:
    count = 0
    with path.open("xb") as target:
        while piece := stream.read(_PIECE):
            count += len(piece)
            if count > most:
                raise TooLargeError(f"{label}: more than {most} bytes, which is the most for one file")
            target.write(piece)
    return count


def _checked_size(path: Path, index: int, name: str, most_pixels: int, called: str = "image") -> tuple[int, int]:
    label, formats = f"{called}[{index}]", FORMATS & set(readable_formats())
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
    """Pixels of all images at network size, and the size of the first one; zeros for a video.

    Raises:
        TooLargeError: more than the limit.
        ImageError: an image that cannot be brought to network size.
    """
    if not received.sizes:
        return 0, (0, 0)
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
