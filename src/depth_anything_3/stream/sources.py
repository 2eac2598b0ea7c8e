"""What the frames of a long sequence come from: a folder of photos, with or without cameras, or a video."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.given import GivenViews, open_views
from depth_anything_3.io.images import image_size
from depth_anything_3.io.masks import MaskSource, as_mask_list, mask_files, mask_named
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
        masks: of the photos, or of the frames of a video by their names.
    """

    path: str
    photos: GivenViews | None
    video: VideoOptions
    total: int | None
    size: tuple[int, int]
    masks: Sequence[MaskSource | None] | dict[str, Path] | None = None

    def frames(self, start: int = 0) -> Iterator[StreamFrame]:
        """The frames from number ``start`` on, one at a time."""
        if self.photos is not None:
            return (self._photo(i) for i in range(start, len(self.photos.photos)))
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
        masks = self.masks if isinstance(self.masks, dict) else {}
        return (
            StreamFrame(image=f.image, timestamp=f.timestamp, name=f.name, mask=mask_named(masks, f.name))
            for f in islice(frames, start, None)
        )

    def listed(self) -> Sequence[StreamFrame]:
        """All frames, for what reads them in another order.

        Raises:
            InputError: of a video.
        """
        if self.photos is None:
            raise InputError("--unordered", f"the video {self.path}", "a folder of photos: the frames of videos follow")
        return [self._photo(i) for i in range(len(self.photos.photos))]

    def _photo(self, i: int) -> StreamFrame:
        views = self.photos
        assert views is not None and not isinstance(self.masks, dict)
        pose = None if views.extrinsics is None else views.extrinsics[i]
        return StreamFrame(
            image=views.images[i],
            timestamp=views.times[i] if views.times else None,
            intrinsics=None if views.intrinsics is None else views.intrinsics[i],
            intrinsics_origin=views.intrinsics_origin,
            extrinsics=None if pose is None or not math.isfinite(pose.sum()) else pose,
            mask=None if self.masks is None else self.masks[i],
            name=views.photos[i].name,
        )


def open_source(
    path: str | os.PathLike[str],
    *,
    folder: FolderOptions | None = None,
    video: VideoOptions | None = None,
    poses: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
) -> FrameSource:
    """Find out what a path is, and which frames it has.

    Args:
        path: a folder of photos, a folder with cameras (COLMAP, ``transforms.json``, ...), a photo, or a video.
        folder: which photos of a folder.
        video: which frames of a video.
        poses, intrinsics: of photos, see :func:`~depth_anything_3.io.cameras.given.open_views`.
        masks: folder of masks named like the photos, or like the frames of the video (``clip_000012``).

    Raises:
        InputError: nothing is there, or an option that does not fit what is.
    """
    video = video or VideoOptions()
    if not is_video(path):
        if video != VideoOptions():
            raise InputError("SOURCE", f"{path}, which is no video", "a video with --start, --end or --fps")
        views = open_views(path, poses=poses, intrinsics=intrinsics, options=folder, argument="SOURCE")
        count, size = len(views.photos), image_size(views.photos[0], index=0)
        given = None if masks is None else as_mask_list(masks, views.images)
        return FrameSource(path=os.fspath(path), photos=views, video=video, total=count, size=size, masks=given)
    if poses is not None or intrinsics is not None:
        name = "--poses" if poses is not None else "--intrinsics"
        raise InputError(name, f"a file beside the video {path}", "nothing, or the frames as a folder of photos")
    size = probe_video(path, argument="SOURCE").size
    named = None if masks is None else _masks_of_video(masks, path)
    return FrameSource(path=os.fspath(path), photos=None, video=video, total=video.max_frames, size=size, masks=named)


def _masks_of_video(masks: str | os.PathLike[str], video: str | os.PathLike[str]) -> dict[str, Path]:
    files, start = mask_files(masks), f"{Path(video).stem}_"
    if not any(name.startswith(start.casefold()) for name in files):
        raise InputError("masks", f"{os.fspath(masks)}, with no mask for frames of the video", f"{start}000012.png")
    return files
