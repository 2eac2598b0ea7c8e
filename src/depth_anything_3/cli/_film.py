"""Frames of a video as what a command works on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.types.options import VideoOptions
from depth_anything_3.types.progress import Progress

if TYPE_CHECKING:
    from depth_anything_3.cli._material import Size
    from depth_anything_3.cli._options import KnownCameras
    from depth_anything_3.io.cameras.given import GivenViews
    from depth_anything_3.io.video import VideoFrame, VideoInfo
    from depth_anything_3.types.progress import ProgressCallback

FOLDER = "input_images"
"""Where the frames are kept, as published: what COLMAP and others need beside the cameras."""

DEFAULT_FPS = 1.0


@dataclass(frozen=True)
class Film:
    """A video file, and which of its frames are taken."""

    origin: Path
    options: VideoOptions
    cameras: KnownCameras
    info: VideoInfo

    @property
    def inputs(self) -> list[str]:
        return [str(self.origin)]

    @property
    def given(self) -> list[str]:
        return [name for name in ("intrinsics", "poses") if getattr(self, f"with_{name}")]

    @property
    def with_poses(self) -> bool:
        return self.cameras.poses is not None

    @property
    def with_intrinsics(self) -> bool:
        return self.with_poses or self.cameras.intrinsics is not None

    def sizes(self) -> list[Size]:
        return [self.info.size] * len(self)

    def __len__(self) -> int:
        """How many frames, as far as the file tells; at least 1."""
        rate, duration = self.info.fps or 30.0, self.info.duration
        if duration is None:
            duration = (self.info.frames or 1) / rate
        span = max(min(self.options.end or math.inf, duration) - (self.options.start or 0.0), 0.0)
        count = math.ceil(span * min(rate, self.options.fps or rate) / (self.options.stride or 1) - 1e-3)
        return max(1, min(count, self.options.max_frames or count))

    def own_files(self, count: int) -> list[str]:
        return [f"{FOLDER}/{i:06d}.png" for i in range(count)]

    def load(self, folder: Path, progress: ProgressCallback | None) -> GivenViews:
        """Decode the frames, and write them as pictures."""
        views = self.views(progress)
        for image in views.images:
            frame: Any = getattr(image, "photo", image)
            _write(frame, folder)
        return views

    def views(self, progress: ProgressCallback | None) -> GivenViews:
        """The frames, and what is known of their cameras."""
        from depth_anything_3.io.cameras.given import GivenViews, open_views

        if self.with_intrinsics:
            cameras = {name: value for name, value in asdict(self.cameras).items() if value is not None}
            views = open_views(self.origin, video=self.options, **cameras)
            return replace(views, images=tuple(_renamed(image, i) for i, image in enumerate(views.images)))
        images = self.decoded(progress)
        return GivenViews(photos=(self.origin,) * len(images), images=tuple(images))

    def decoded(self, progress: ProgressCallback | None) -> list[Any]:
        """The frames alone, in memory."""
        from depth_anything_3.io.video import iterate_video

        frames: list[Any] = []
        for frame in iterate_video(self.origin, **asdict(self.options), argument="INPUT"):
            frames.append(_renamed(frame, len(frames)))
            if progress is not None:
                progress(Progress("decode", len(frames), max(len(self), len(frames))))
        return frames


def film_of(path: Path, options: VideoOptions, cameras: KnownCameras) -> Film:
    """The video at a path.

    Raises:
        InputError: no such file, no video, or a start behind its end.
    """
    from depth_anything_3.io.video import probe_video

    if options.fps is None and options.stride is None:
        options = replace(options, fps=DEFAULT_FPS)
    info = probe_video(path, argument="INPUT")
    if options.start is not None and info.duration is not None and options.start >= info.duration:
        raise InputError("--start", f"{options.start:g}", f"a time within the video ({info.duration:.2f} seconds)")
    return Film(path, options, cameras, info)


def _renamed(image: Any, number: int) -> Any:
    """The frame, or the frame through a lens, under the name of the file that it is kept in."""
    if hasattr(image, "photo"):
        return replace(image, photo=_renamed(image.photo, number))
    return replace(image, name=f"{number:06d}.png")


def _write(frame: VideoFrame, folder: Path) -> None:
    from PIL import Image

    with atomic_path(folder / FOLDER / frame.name) as temporary:
        Image.fromarray(frame.image).save(temporary, compress_level=1)
