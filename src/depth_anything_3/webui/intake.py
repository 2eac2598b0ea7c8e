"""From what a visitor uploaded to the inputs of a job. The names of uploads are only shown."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import ImageSource, decode_image
from depth_anything_3.serve.intake import IncomingImage
from depth_anything_3.serve.sandbox import safe_name

MOST_FRAMES = 200
_PREVIEWS = 24


@dataclass(frozen=True)
class Uploads:
    """Files in the folder that the page uploads to, and nowhere else.

    Attributes:
        folder: that folder.
    """

    folder: Path

    def check(self, path: str | os.PathLike[str]) -> Path:
        """The file, if it lies in the folder and is no link. Raises InputError, without saying what lies elsewhere."""
        given = Path(os.path.realpath(path))
        if not given.is_relative_to(self.folder.resolve()) or Path(path).is_symlink() or not given.is_file():
            raise InputError("upload", "something that was not uploaded here", "files chosen or dropped on this page")
        return given


def video_frames(video: Path, *, fps: float, most: int = MOST_FRAMES) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """Name and pixels of the frames that are taken from a video: at most ``fps`` per second, at most ``most``."""
    from depth_anything_3.io.video import iterate_video

    frames: list[tuple[str, npt.NDArray[np.uint8]]] = []
    for frame in iterate_video(video, fps=fps, argument="the video"):
        frames.append((f"{frame.timestamp:08.2f}s.png", frame.image))
        if len(frames) >= most:
            break
    return frames


def previews(frames: Sequence[tuple[str, npt.NDArray[np.uint8]]]) -> list[tuple[Image.Image, str]]:
    """Small pictures of some of the frames, with their times."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_PREVIEWS, len(frames))).round().astype(int))
    small = []
    for index in chosen.tolist():
        picture = Image.fromarray(frames[index][1])
        picture.thumbnail((240, 240))
        small.append((picture, frames[index][0].removesuffix(".png")))
    return small


def photos(paths: Sequence[Path]) -> list[IncomingImage]:
    """Uploaded photos as they are."""
    return [IncomingImage(path.name, lambda path=path: path.open("rb")) for path in paths]  # type: ignore[misc]


def pictures(frames: Sequence[tuple[str, npt.NDArray[np.uint8]]]) -> list[IncomingImage]:
    """Pixels as photos."""
    return [IncomingImage(name, lambda image=image: _png(image)) for name, image in frames]  # type: ignore[misc]


def with_cameras(
    images: Sequence[IncomingImage], poses: Path | None, intrinsics: Path | str | None
) -> tuple[list[IncomingImage], dict[str, Any]]:
    """The images free of lens distortion, and the options of a job that say what they are.

    Raises:
        InputError: the files cannot be read or do not name the photos.
    """
    if poses is None and not intrinsics:
        return list(images), {}
    from depth_anything_3.io.cameras.given import open_views

    with tempfile.TemporaryDirectory(prefix="da3-") as name:
        folder = Path(name)
        for image in images:
            if (folder / safe_name(image.name)).exists():
                raise InputError("photos", f"two called {image.name!r}", "a name for each, so that cameras find them")
            with image.stream() if callable(image.stream) else image.stream as stream:
                (folder / safe_name(image.name)).write_bytes(stream.read())
        views = open_views(folder, poses=poses, intrinsics=intrinsics or None)
        named = zip(views.photos, views.images, strict=True)
        taken = [_as_incoming(photo.name, image, index) for index, (photo, image) in enumerate(named)]
    options: dict[str, Any] = {}
    if views.extrinsics is not None:
        known = [bool(np.isfinite(pose).all()) for pose in views.extrinsics]
        options["extrinsics"] = [
            pose.tolist() if there else None for pose, there in zip(views.extrinsics, known, strict=True)
        ]
    if views.intrinsics is not None:
        options |= {"intrinsics": views.intrinsics.tolist(), "intrinsics_origin": views.intrinsics_origin}
    return taken, options


def _as_incoming(name: str, image: ImageSource, index: int) -> IncomingImage:
    """A file as it is; a photo through a lens freed from it."""
    if isinstance(image, str | Path):
        return IncomingImage(name, io.BytesIO(Path(image).read_bytes()))
    return IncomingImage(f"{name}.png", _png(decode_image(image, index=index, alpha="composite").pixels))


def _png(image: npt.NDArray[np.uint8]) -> io.BytesIO:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG", compress_level=1)
    data.seek(0)
    return data
