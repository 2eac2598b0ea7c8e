"""The views of a job, from the files that came with it; this runs in the worker, where decoders may fail."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3.errors import InputError
from depth_anything_3.infer.preprocess import plan_resize
from depth_anything_3.io.cameras.given import GivenViews, open_views, says_intrinsics
from depth_anything_3.io.sources import VIEWS_OF_A_VIDEO, video_views
from depth_anything_3.io.video import is_video, probe_video
from depth_anything_3.serve.intake import TooLargeError
from depth_anything_3.serve.requests import JobRequest
from depth_anything_3.serve.settings import Limits
from depth_anything_3.types.options import VideoOptions

if TYPE_CHECKING:
    from depth_anything_3.io.images import ImageSource


def open_scene(
    images: Sequence[Path], files: Mapping[str, Sequence[Path]], request: JobRequest, limits: Limits
) -> tuple[list[ImageSource], dict[str, Any]]:
    """What ``DepthAnything3.inference`` is given: the views, and the arguments ``masks``, ``extrinsics``,
    ``intrinsics`` and ``intrinsics_origin`` as far as files say what they are.

    Args:
        images: photos, or one video.
        files: kind of :data:`~depth_anything_3.serve.intake.SCENE_FILES` -> files.
        request: the options; with a video, ``video`` says which frames.
        limits: of the server.

    Raises:
        InputError: a file cannot be read, or belongs to other photos.
        TooLargeError: the video has too many frames or pixels.
    """
    video = _frames_within(images[0], request, limits) if is_video(images[0]) else None
    known: dict[str, Any] = {}
    views: list[ImageSource] = list(images)
    poses, intrinsics = (next(iter(files.get(kind, ())), None) for kind in ("poses", "intrinsics"))
    if poses is not None or intrinsics is not None:
        path = _in_one_folder(images) if video is None else images[0]
        given = open_views(path, poses=poses, intrinsics=_stated(intrinsics), video=video, argument="images")
        views, known = _in_order(given, images)
    elif video is not None:
        views = list(video_views(images[0], video, argument="images"))
    if video is not None and len(views) > limits.images:
        raise TooLargeError(f"images: the video gives more than {limits.images} frames, the most of one job")
    if masks := files.get("masks"):
        known["masks"] = list(masks)
    return views, known


def _stated(intrinsics: Path | None) -> Path | str | None:
    """What stands in a file of intrinsics in the place of cameras: a field of view, or ``exif``; else the file."""
    if intrinsics is None:
        return None
    with intrinsics.open("rb") as file:
        text = file.read(100).decode(errors="replace").strip()
    return text if says_intrinsics(text) else intrinsics


def _frames_within(path: Path, request: JobRequest, limits: Limits) -> VideoOptions:
    """Which frames of a video to take, at most one more than may be: so many fit into memory."""
    info = probe_video(path, argument="images")
    options = request.video or VideoOptions(max_frames=VIEWS_OF_A_VIDEO)
    most = min(options.max_frames or limits.images + 1, limits.images + 1)
    if info.size[0] * info.size[1] > limits.image_pixels:
        raise TooLargeError(f"images: a video of {info.size[1]} x {info.size[0]} pixels; at most {limits.image_pixels}")
    height, width = plan_resize(info.size, request.preprocess, index=0, name=path.name).processed_hw
    frames = min(most, info.frames or most, limits.images)
    if frames * height * width > limits.processed_pixels:
        raise TooLargeError(
            f"images: {frames} frames at process_res {request.preprocess.process_res} are {frames * height * width} "
            f"pixels; at most {limits.processed_pixels} in one job"
        )
    return replace(options, max_frames=most)


def _in_one_folder(images: Sequence[Path]) -> Path:
    """A folder beside the inputs with all photos under their names, which camera files go by; it goes with the job."""
    folder = Path(tempfile.mkdtemp(dir=images[0].parents[2], prefix="named-"))
    for image in images:
        if (folder / image.name).exists():
            raise InputError("images", f"two called {image.name!r}", "a name for each, so that cameras find them")
        os.link(image, folder / image.name)
    return folder


def _in_order(given: GivenViews, images: Sequence[Path]) -> tuple[list[ImageSource], dict[str, Any]]:
    """The views in the order in which the client named them; a folder has its own."""
    order = list(range(len(given.photos)))
    if not is_video(images[0]):
        place = {image.name: index for index, image in enumerate(images)}
        order.sort(key=lambda index: place[given.photos[index].name])
    matrices = {"extrinsics": given.extrinsics, "intrinsics": given.intrinsics}
    known: dict[str, Any] = {name: values[order] for name, values in matrices.items() if values is not None}
    if "intrinsics" in known:
        known["intrinsics_origin"] = given.intrinsics_origin
    return [given.images[index] for index in order], known
