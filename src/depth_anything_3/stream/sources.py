"""What the frames of a long sequence come from: a folder of photos, with or without cameras, or a video."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.given import GivenViews, open_views
from depth_anything_3.io.images import image_size
from depth_anything_3.io.video import is_video, iterate_video, probe_video
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.types.options import FolderOptions, VideoOptions


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames, from any one on.

    Attributes:
        path: where they come from.
        photos: what is known of the photos of a folder; None for a video.
        video: which frames of a video.
        total: how many frames there are; None where a video does not say, or says it roughly.
        size: height and width of the first frame.
    """

    path: str
    photos: GivenViews | None
    video: VideoOptions
    total: int | None
    size: tuple[int, int]

    def frames(self, start: int = 0) -> Iterator[StreamFrame]:
        """The frames from number ``start`` on, one at a time."""
        if self.photos is not None:
            return (_photo(self.photos, i) for i in range(start, len(self.photos.photos)))
        options = self.video
        frames = iterate_video(
            self.path,
            start=options.start,
            end=options.end,
            fps=options.fps,
            stride=options.stride,
            max_frames=options.max_frames,
            argument="SOURCE",
        )
        found = (StreamFrame(image=f.image, timestamp=f.timestamp, name=f.name) for f in frames)
        return islice(found, start, None)

    def listed(self) -> Sequence[StreamFrame]:
        """All frames, for what reads them in another order.

        Raises:
            InputError: of a video.
        """
        if self.photos is None:
            raise InputError("--unordered", f"the video {self.path}", "a folder of photos: the frames of videos follow")
        return [_photo(self.photos, i) for i in range(len(self.photos.photos))]


def open_source(
    path: str | os.PathLike[str],
    *,
    folder: FolderOptions | None = None,
    video: VideoOptions | None = None,
    poses: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | None = None,
) -> FrameSource:
    """Find out what a path is, and which frames it has.

    Args:
        path: a folder of photos, a folder with cameras (COLMAP, ``transforms.json``, ...), a photo, or a video.
        folder: which photos of a folder.
        video: which frames of a video.
        poses, intrinsics: of photos, see :func:`~depth_anything_3.io.cameras.given.open_views`.

    Raises:
        InputError: nothing is there, or an option that does not fit what is.
    """
    video = video or VideoOptions()
    if not is_video(path):
        if video != VideoOptions():
            raise InputError("SOURCE", f"{path}, which is no video", "a video with --start, --end or --fps")
        views = open_views(path, poses=poses, intrinsics=intrinsics, options=folder, argument="SOURCE")
        count, size = len(views.photos), image_size(views.photos[0], index=0)
        return FrameSource(path=os.fspath(path), photos=views, video=video, total=count, size=size)
    if poses is not None or intrinsics is not None:
        name = "--poses" if poses is not None else "--intrinsics"
        raise InputError(name, f"a file beside the video {path}", "nothing, or the frames as a folder of photos")
    size = probe_video(path, argument="SOURCE").size
    return FrameSource(path=os.fspath(path), photos=None, video=video, total=video.max_frames, size=size)


def _photo(views: GivenViews, i: int) -> StreamFrame:
    pose = None if views.extrinsics is None else views.extrinsics[i]
    return StreamFrame(
        image=views.images[i],
        intrinsics=None if views.intrinsics is None else views.intrinsics[i],
        extrinsics=None if pose is None or not math.isfinite(pose.sum()) else pose,
        name=views.photos[i].name,
    )
