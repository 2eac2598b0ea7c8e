"""From what a visitor uploaded to the inputs of a job. The names of uploads are only shown."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.given import says_intrinsics
from depth_anything_3.serve.intake import IncomingImage

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


def camera_files(poses: Path | None, lens: Path | None, field_of_view: str) -> dict[str, list[IncomingImage]]:
    """Uploaded files of cameras as files of a job; a field of view, or ``exif``, stands in the place of one of lenses.

    Raises:
        InputError: the field of view is none.
    """
    files = {kind: photos([path]) for kind, path in (("poses", poses), ("intrinsics", lens)) if path is not None}
    if field_of_view and lens is None:
        if not says_intrinsics(field_of_view):
            raise InputError("field of view", repr(field_of_view), "degrees, such as 60deg, or exif")
        files["intrinsics"] = [IncomingImage("field_of_view.txt", io.BytesIO(field_of_view.encode()))]
    return files


def _png(image: npt.NDArray[np.uint8]) -> io.BytesIO:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG", compress_level=1)
    data.seek(0)
    return data
