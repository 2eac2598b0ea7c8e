"""What a path or the argument ``image`` stands for: one photo, a folder of photos, a video, arrays."""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import (
    ACCEPTED_SOURCES,
    HEIF_EXTENSIONS,
    ImageSource,
    LensPhoto,
    describe_type,
    readable_formats,
)
from depth_anything_3.io.video import VIDEO_EXTENSIONS, VideoFrame, is_video, probe_video, read_video
from depth_anything_3.types.options import FolderOptions, VideoOptions

VIEWS_OF_A_VIDEO = 32
"""So many frames, spread over the whole, are the views of a video where nothing says which: a scene is one pass."""

_SUPPORTED = "a photo, or a folder of photos"

_USUAL = (".jpg", ".png", ".tif", ".webp", ".heic")

# PFM holds float maps (depth, disparity); beside photos it is not one of them.
_NOT_PHOTOS = frozenset({".pfm"})


@cache
def image_extensions() -> frozenset[str]:
    """Lower-case file name extensions (with the dot) that count as photos, as far as this Pillow decodes them.

    Those of HEIF always count: photos that cannot be read should be missed aloud.
    """
    formats = set(readable_formats())
    known = {ext for ext, name in Image.registered_extensions().items() if name in formats}
    return frozenset(known | HEIF_EXTENSIONS) - _NOT_PHOTOS


def _supported() -> str:
    """What is expected where a file is of another kind: the usual extensions; all of them would fill the screen."""
    usual = [extension for extension in _USUAL if extension in image_extensions()]
    return f"{_SUPPORTED} ({', '.join(usual)} and {len(image_extensions()) - len(usual)} more extensions)"


def list_images(path: str | os.PathLike[str], *, recursive: bool = False, argument: str = "INPUT") -> list[Path]:
    """The photos that a path stands for: the file itself, or the photos in the folder.

    Photos of a folder come in natural order (``img2`` before ``img10``, letter case ignored). They are recognised by
    extension, in any letter case; hidden files are left out.

    Args:
        path: an image file or a folder of them.
        recursive: also look into the folders below ``path`` (hidden ones excepted).
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        InputError: nothing is there, it holds no photos, or it is a video (see :func:`video_views`).
    """
    root = Path(path)
    if not os.fspath(path):  # would mean the current folder
        raise InputError(argument, "an empty path", _SUPPORTED)
    if _is_folder(root):
        return _images_in(root, recursive, argument)
    if not os.path.exists(root):  # noqa: PTH110 - see _is_folder
        raise InputError(argument, f"{root} (no such file or folder)", _SUPPORTED)
    if root.suffix.lower() in VIDEO_EXTENSIONS:
        raise InputError(argument, f"{root} (a video)", _SUPPORTED)
    if root.suffix.lower() not in image_extensions() and not _looks_like_image(root):
        raise InputError(argument, f"{root} (not an image)", _supported())
    return [root]


def take_photos(photos: Sequence[Path], options: FolderOptions) -> list[Path]:
    """Of the photos with ``options.extensions`` every ``options.stride``-th, at most ``options.limit`` of them.

    Raises:
        InputError: none has one of the extensions.
    """
    wanted = {f".{extension.lower().lstrip('.')}" for extension in options.extensions}
    of_kind = [photo for photo in photos if not wanted or photo.suffix.lower() in wanted]
    if not of_kind and photos:
        found = sorted({photo.suffix.lower() for photo in photos})
        raise InputError("extensions", ", ".join(sorted(wanted)), "extensions of photos that are there", found)
    return of_kind[:: options.stride][: options.limit]


def video_views(
    path: str | os.PathLike[str], options: VideoOptions | None = None, *, argument: str = "INPUT"
) -> tuple[VideoFrame, ...]:
    """The frames of a video that become the views of one scene.

    Args:
        path: the file.
        options: which frames; None takes :data:`VIEWS_OF_A_VIDEO` of them, spread evenly, and says so.
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        InputError: see :func:`~depth_anything_3.io.video.iterate_video`.
    """
    if options is None:
        options = VideoOptions(max_frames=VIEWS_OF_A_VIDEO)
        frames = probe_video(path, argument=argument).frames
        if frames is None or frames > VIEWS_OF_A_VIDEO:
            warnings.warn(
                f"{Path(path).name}: {VIEWS_OF_A_VIDEO} frames, spread over the video, are taken. Say which with "
                "fps, start, end, stride or max_frames.",
                UserWarning,
                stacklevel=3,
            )
    return read_video(path, **dataclasses.asdict(options), argument=argument)


def _is_folder(path: str | os.PathLike[str]) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises on names that are too long


def _images_in(folder: Path, recursive: bool, argument: str) -> list[Path]:
    if (folder / "images").is_dir() and (folder / "sparse").is_dir():
        expected = f"{_SUPPORTED}; its photos are in {folder / 'images'}"
        raise InputError(argument, f"{folder} (a COLMAP reconstruction)", expected)
    files = [file for file in folder.glob("**/*" if recursive else "*") if _is_visible_file(file, folder)]
    images = [file for file in files if file.suffix.lower() in image_extensions()]
    if not images:
        raise InputError(argument, f"{folder} ({_what_is_there(folder, files)})", _supported() if files else _SUPPORTED)
    return sorted(images, key=lambda file: natural_key(file.relative_to(folder)))


def _is_visible_file(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts) and file.is_file()


def _what_is_there(folder: Path, files: list[Path]) -> str:
    if any(file.suffix.lower() in VIDEO_EXTENSIONS for file in files):
        return "a folder with videos and no photos; a video can be given by itself"
    if files:
        return f"a folder with {len(files)} files, none of them a photo, for example {min(files).name}"
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        return str(error.strerror)
    if (folder / "images").is_dir():
        return f"a folder with nothing but folders; the photos in {folder / 'images'} can be given"
    return "a folder with nothing but folders" if any(entry.is_dir() for entry in entries) else "an empty folder"


def natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    """The key to sort paths by.

    Runs of digits compare as numbers; names that are equal but for case or leading zeros compare as they are.
    """
    parts: list[list[str | int]] = [
        [int(run) if run.isdecimal() else run for run in re.split(r"(\d+)", part.casefold())] for part in path.parts
    ]
    return parts, str(path)


def _looks_like_image(file: Path) -> bool:
    try:
        with Image.open(file, formats=readable_formats()):
            return True
    except (OSError, ValueError, SyntaxError):
        return False


def as_image_list(image: object, video: VideoOptions | None = None) -> list[ImageSource]:
    """The argument ``image`` of the Python API as a list with one entry per view.

    Args:
        image: a list or tuple of sources, one source (see :data:`~depth_anything_3.io.images.ACCEPTED_SOURCES`), the
            path of a folder of photos, or an array of shape (N, H, W, C) with C of 1, 3 or 4. The path of a video,
            alone or in a list, stands for its frames.
        video: which frames; see :func:`video_views`.

    Raises:
        InputError: there is no image, or something in it is no image source, or a video cannot be read, or ``video``
            came without one. Files of photos are not opened here.
    """
    if isinstance(image, (list, tuple)):
        given = [_checked(source, f"image[{index}]") for index, source in enumerate(image)]
    elif isinstance(image, np.ndarray):
        given = _views(image)
    elif isinstance(image, (str, os.PathLike)) and _is_folder(image):
        given = list(list_images(os.fsdecode(image), argument="image"))
    else:
        given = [_checked(image, "image")]
    videos = [isinstance(source, (str, os.PathLike)) and is_video(source) for source in given]
    if video is not None and not any(videos):
        raise InputError("video", "options", "None, because no video is among the images")
    sources: list[ImageSource] = []
    for index, source in enumerate(given):
        if videos[index]:
            sources += video_views(cast(str, source), video, argument=f"image[{index}]")
        else:
            sources.append(source)
    if not sources:
        raise InputError("image", "no images", "at least one image")
    return sources


def _views(array: npt.NDArray[Any]) -> list[ImageSource]:
    if array.ndim == 4:
        return list(array)
    if array.ndim in (2, 3):
        return [array]
    raise InputError("image", f"an array of shape {array.shape}", "shape (H, W), (H, W, 3) or (N, H, W, 3)")


def _checked(source: object, argument: str) -> ImageSource:
    kinds = (str, os.PathLike, bytes, Image.Image, np.ndarray, LensPhoto, VideoFrame)
    known = isinstance(source, kinds) or hasattr(source, "read")
    if not known:
        raise InputError(argument, describe_type(source), "an image, or a list or tuple of them", ACCEPTED_SOURCES)
    return cast(ImageSource, source)
