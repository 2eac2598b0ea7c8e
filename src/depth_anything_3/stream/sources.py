"""What the frames of a long sequence come from: a folder of photos, with or without cameras, or a video."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.given import GivenViews, open_views
from depth_anything_3.io.images import LensPhoto, image_size
from depth_anything_3.io.masks import MaskSource, as_mask_list, mask_files, mask_named
from depth_anything_3.io.video import VideoFrame, is_video, iterate_video, probe_video
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.types.options import FolderOptions, VideoOptions


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames, from any one on.

    Attributes:
        path: where they come from.
        views: the photos of a folder, or of a video what is known of its frames, without their pictures; None for a
            video of which nothing is known.
        video: which frames of a video; None for photos.
        total: how many frames there are; None where a video does not say, or says it roughly.
        size: height and width of the first frame.
        masks: of the photos, or of the frames of a video by their names.
    """

    path: str
    views: GivenViews | None
    video: VideoOptions | None
    total: int | None
    size: tuple[int, int]
    masks: Sequence[MaskSource | None] | dict[str, Path] | None = None

    def frames(self, start: int = 0) -> Iterator[StreamFrame]:
        """The frames from number ``start`` on, one at a time."""
        if self.video is None:
            assert self.views is not None
            return (self._photo(i) for i in range(start, len(self.views.photos)))
        frames = iterate_video(self.path, **asdict(self.video), argument="SOURCE")
        return (self._frame(start + i, frame) for i, frame in enumerate(islice(frames, start, None)))

    def listed(self) -> Sequence[StreamFrame]:
        """All frames, for what reads them in another order.

        Raises:
            InputError: of a video.
        """
        if self.video is not None:
            raise InputError("--unordered", f"the video {self.path}", "a folder of photos: the frames of videos follow")
        return list(self.frames())

    def _photo(self, i: int) -> StreamFrame:
        views = self.views
        assert views is not None and not isinstance(self.masks, dict)
        mask = None if self.masks is None else self.masks[i]
        return self._known(i, StreamFrame(image=views.images[i], mask=mask, name=views.photos[i].name))

    def _frame(self, i: int, frame: VideoFrame) -> StreamFrame:
        masks = self.masks if isinstance(self.masks, dict) else {}
        plain = StreamFrame(
            image=frame.image, timestamp=frame.timestamp, name=frame.name, mask=mask_named(masks, frame.name)
        )
        if self.views is None:
            return plain
        lens = self.views.images[i]
        return self._known(
            i, replace(plain, image=replace(lens, photo=frame)) if isinstance(lens, LensPhoto) else plain
        )

    def _known(self, i: int, frame: StreamFrame) -> StreamFrame:
        """The frame with its camera and time, where they are known."""
        views = self.views
        assert views is not None
        pose = None if views.extrinsics is None else views.extrinsics[i]
        return replace(
            frame,
            timestamp=views.times[i] if views.times else None,
            intrinsics=None if views.intrinsics is None else views.intrinsics[i],
            intrinsics_origin=views.intrinsics_origin,
            extrinsics=None if pose is None or not math.isfinite(pose.sum()) else pose,
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
        poses, intrinsics: see :func:`~depth_anything_3.io.cameras.given.open_views`. For a video they are laid out
            beforehand, for which it is decoded once more.
        masks: folder of masks named like the photos, or like the frames of the video (``clip_000012``).

    Raises:
        InputError: nothing is there, or an option that does not fit what is.
    """
    if not is_video(path):
        if video not in (None, VideoOptions()):
            raise InputError("SOURCE", f"{path}, which is no video", "a video with --start, --end or --fps")
        views = open_views(path, poses=poses, intrinsics=intrinsics, options=folder, argument="SOURCE")
        count, size = len(views.photos), image_size(views.photos[0], index=0)
        given = None if masks is None else as_mask_list(masks, views.images)
        return FrameSource(path=os.fspath(path), views=views, video=None, total=count, size=size, masks=given)
    chosen = video or VideoOptions()
    source = FrameSource(
        path=os.fspath(path),
        views=None,
        video=chosen,
        total=chosen.max_frames,
        size=probe_video(path, argument="SOURCE").size,
        masks=None if masks is None else _masks_of_video(masks, path),
    )
    if poses is None and intrinsics is None:
        return source
    known = open_views(path, poses=poses, intrinsics=intrinsics, video=chosen, pixels=False, argument="SOURCE")
    return replace(source, views=known, total=len(known.photos))


def _masks_of_video(masks: str | os.PathLike[str], video: str | os.PathLike[str]) -> dict[str, Path]:
    files, start = mask_files(masks), f"{Path(video).stem}_"
    if not any(name.startswith(start.casefold()) for name in files):
        raise InputError("masks", f"{os.fspath(masks)}, with no mask for frames of the video", f"{start}000012.png")
    return files
