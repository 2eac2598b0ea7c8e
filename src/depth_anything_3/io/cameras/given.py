"""What a command is given: a path of photos, perhaps with cameras in it, and perhaps files of cameras beside it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import CameraFileError, InputError
from depth_anything_3.geometry.distortion import pinhole_intrinsics
from depth_anything_3.io.cameras.base import find_reader, read_cameras
from depth_anything_3.io.cameras.fields_of_view import intrinsics_from_exif, intrinsics_from_fov
from depth_anything_3.io.cameras.fitting import at_sizes_of, cameras_of, read_headers
from depth_anything_3.io.images import ImageHeader, ImageSource, LensPhoto
from depth_anything_3.io.sources import list_images, natural_key, take_photos, video_views
from depth_anything_3.io.video import VideoFrame, is_video, iterate_video
from depth_anything_3.types.cameras import Cameras
from depth_anything_3.types.options import FolderOptions, IntrinsicsOrigin, VideoOptions

_FIELD_OF_VIEW = re.compile(r"[0-9]+(?:\.[0-9]+)? ?deg")


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenViews:
    """The photos of one scene, and what is known of their cameras.

    Attributes:
        photos: N files; of a video, N times that file.
        images: what to give to :meth:`depth_anything_3.api.DepthAnything3.inference`: the files, or files through a
            lens, which come out as a pinhole would have taken them.
        intrinsics: (N, 3, 3) in pixels of the upright photos without distortion; None where not known.
        intrinsics_origin: whether these come from a file, a field of view or the tags of the photos.
        extrinsics: (N, 3, 4) world-to-camera, OpenCV axes, in the world of the file; None where not known.
        times: N times in seconds: of the frames of a video, or those of the trajectory that the poses came from; empty
            where not known.
    """

    photos: tuple[Path, ...]
    images: tuple[ImageSource, ...]
    intrinsics: npt.NDArray[np.float64] | None = None
    intrinsics_origin: IntrinsicsOrigin = "given"
    extrinsics: npt.NDArray[np.float64] | None = None
    times: tuple[float, ...] = ()


def open_views(
    path: str | os.PathLike[str],
    *,
    poses: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | None = None,
    options: FolderOptions | None = None,
    video: VideoOptions | None = None,
    model: str | os.PathLike[str] | None = None,
    pixels: bool = True,
    argument: str = "INPUT",
) -> GivenViews:
    """Photos with the cameras that came with them.

    Args:
        path: a photo, a folder of photos, a video, or a folder with a COLMAP model, ``transforms.json`` or
            ``cameras.json``: of that one, the photos that have a camera.
        poses: a file with poses, see :func:`~depth_anything_3.io.cameras.base.read_cameras`; its intrinsics and lenses
            are taken too, where it has any.
        intrinsics: a file with intrinsics, a horizontal field of view such as ``60deg``, or ``exif``. It wins over
            what comes with the poses.
        options: which photos of a folder to take. Of a video, ``stride`` and ``limit`` stand for the ``stride`` and
            ``max_frames`` of ``video``.
        video: which frames of a video to take; see :func:`~depth_anything_3.io.sources.video_views`.
        model: which cameras lie in the folder ``path`` with their photos, where there are several.
        pixels: False leaves the pictures of a video's frames empty, for those who decode it again, frame by frame.
        argument: the name by which the caller knows ``path``, for errors; the other two are called ``--poses`` and
            ``--intrinsics``.

    Raises:
        InputError: no photos, no camera for a photo, cameras of other photos, or poses without intrinsics.
    """
    options = FolderOptions() if options is None else options
    folder = Path(path)
    known: Cameras | None = None
    if is_video(folder) and folder.is_file():
        taken = _frames_of(folder, _of_a_video(options, video), argument, pixels=pixels)
    else:
        if video is not None:
            raise InputError("video", "options", f"None, because {folder} is no video")
        known, every = _scene_in(folder, options, argument, model)
        photos = take_photos(every, options)
        taken = _Taken(sources=tuple(photos), files=tuple(photos), names=tuple(photos), every=tuple(every))
    if known is None and poses is None and intrinsics is None:
        return GivenViews(photos=taken.files, images=taken.sources, times=taken.times or ())
    headers = read_headers(taken.files)
    cameras = Cameras()
    if known is not None:
        place = {photo: i for i, photo in enumerate(taken.every)}
        cameras = at_sizes_of(known.take([place[name] for name in taken.names]), headers, argument=argument)
    if poses is not None:
        cameras = _read(poses, taken, headers, "--poses")
        if cameras.extrinsics is None:
            raise CameraFileError("--poses", cameras.source, "no poses in it", "a file with poses, or --intrinsics")
    if intrinsics is not None:
        cameras = _with_intrinsics(cameras, str(intrinsics), taken, headers)
    if cameras.intrinsics is None:
        raise InputError("--intrinsics", f"nothing, and {cameras.source} has none", "intrinsics beside poses", _WAYS)
    return replace(_through_lenses(taken, cameras), intrinsics_origin=_origin(intrinsics))


_WAYS = ("a file", "a field of view such as 60deg", "exif")


def says_intrinsics(text: str) -> bool:
    """Whether ``intrinsics`` of :func:`open_views` is no file: a field of view, or ``exif``."""
    return _origin(text) != "given"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Taken:
    """N views: what is decoded, the files it is in, the names cameras go by, all names among which order counts."""

    sources: tuple[Path | VideoFrame, ...]
    files: tuple[Path, ...]
    names: tuple[Path, ...]
    every: tuple[Path, ...]
    times: tuple[float, ...] | None = None


def _frames_of(file: Path, video: VideoOptions | None, argument: str, *, pixels: bool) -> _Taken:
    if pixels:
        frames = video_views(file, video, argument=argument)
    else:
        empty = np.zeros((0, 0, 3), np.uint8)
        every = iterate_video(file, **asdict(video or VideoOptions()), argument=argument)
        frames = tuple(replace(frame, image=empty) for frame in every)
    names = tuple(Path(f"{frame.name}.png") for frame in frames)
    times = tuple(frame.timestamp for frame in frames)
    return _Taken(sources=frames, files=(file,) * len(frames), names=names, every=names, times=times)


def _of_a_video(folder: FolderOptions, video: VideoOptions | None) -> VideoOptions | None:
    """The options of a video, where those of a folder may stand in their place."""
    if folder.recursive:
        raise InputError("recursive", "True for a video", "False")
    asked: dict[str, int] = {} if folder.stride == 1 else {"stride": folder.stride}
    asked |= {} if folder.limit is None else {"max_frames": folder.limit}
    for name, value in asked.items():
        if video is not None and getattr(video, name) not in (None, value):
            raise InputError(name, f"{getattr(video, name)} and {value}", "one of the two")
    return replace(video or VideoOptions(), **asked) if asked else video


def _read(path: str | os.PathLike[str], taken: _Taken, headers: Sequence[ImageHeader], argument: str) -> Cameras:
    cameras = read_cameras(path, argument=argument)
    cameras = cameras_of(cameras, taken.names, among=taken.every, times=taken.times, argument=argument)
    return at_sizes_of(cameras, headers, argument=argument)


def _with_intrinsics(cameras: Cameras, given: str, taken: _Taken, headers: Sequence[ImageHeader]) -> Cameras:
    origin = _origin(given)
    if origin == "exif":
        found = Cameras(source=given, intrinsics=intrinsics_from_exif(taken.files, headers))
    elif origin == "fov":
        degrees = float(given.removesuffix("deg"))
        found = Cameras(source=given, intrinsics=intrinsics_from_fov(degrees, [h.size for h in headers]))
    elif not os.path.exists(given):  # noqa: PTH110 - see sources
        raise InputError("--intrinsics", f"{given} (no such file)", "one of", _WAYS)
    else:
        found = _read(given, taken, headers, "--intrinsics")
    if found.intrinsics is None:
        raise CameraFileError("--intrinsics", found.source, "no intrinsics in it", "one of", _WAYS)
    return replace(found, extrinsics=cameras.extrinsics, times=cameras.times)


def _origin(intrinsics: str | os.PathLike[str] | None) -> IntrinsicsOrigin:
    """What was typed: a field of view, the tags of the photos, or else a file, or nothing."""
    if _FIELD_OF_VIEW.fullmatch(str(intrinsics)):
        return "fov"
    return "exif" if str(intrinsics) == "exif" else "given"


def _through_lenses(taken: _Taken, cameras: Cameras) -> GivenViews:
    """The views as pinholes would have taken them, with the intrinsics of those."""
    assert cameras.intrinsics is not None
    images: list[ImageSource] = []
    matrices = []
    for i, source in enumerate(taken.sources):
        intrinsics, lens = cameras.intrinsics[i], cameras.lenses[i]
        if lens.is_pinhole:
            images.append(source)
            matrices.append(intrinsics)
            continue
        assert cameras.sizes is not None
        target = pinhole_intrinsics(intrinsics, lens, *map(int, cameras.sizes[i]))
        if not np.isfinite(target).all():
            reason = f"a lens that cannot be undone over all of {taken.names[i].name}: {lens.model} {lens.coefficients}"
            raise CameraFileError("cameras", cameras.source, reason, "a lens that is valid up to the corners")
        images.append(LensPhoto(photo=source, intrinsics=intrinsics, lens=lens, target=target))
        matrices.append(target)
    told = taken.times if cameras.times is None else tuple(cameras.times.tolist())
    return GivenViews(
        photos=taken.files,
        images=tuple(images),
        intrinsics=np.array(matrices),
        extrinsics=cameras.extrinsics,
        times=told or (),
    )


# --- scenes ------------------------------------------------------------------------------------------------------


def _scene_in(
    folder: Path, options: FolderOptions, argument: str, model: str | os.PathLike[str] | None
) -> tuple[Cameras | None, list[Path]]:
    """The cameras that lie in a folder with their photos, in natural order; where there are none, all photos."""
    if model is None and (not os.path.isdir(folder) or find_reader(folder) is None):  # noqa: PTH112 - see sources
        if all((folder / name).is_dir() for name in ("images", "sparse")):
            expected = f"cameras and images (.bin or .txt), there or in sparse/0; photos alone: {folder / 'images'}"
            raise CameraFileError(argument, folder / "sparse", "no COLMAP model in it", expected)
        return None, list_images(folder, recursive=options.recursive, argument=argument)
    cameras = read_cameras(folder if model is None else model, argument=argument)
    assert cameras.names is not None
    found = {i: photo for i, name in enumerate(cameras.names) if (photo := _photo(folder, name)) is not None}
    if not found:
        reason = f"none of the photos that it names is there, for example {cameras.names[0]}"
        raise CameraFileError(argument, cameras.source, reason, "the photos beside their cameras, in a folder images")
    if len(found) < len(cameras):
        warnings.warn(
            f"{len(cameras) - len(found)} of the {len(cameras)} photos that {cameras.source} names are not there",
            stacklevel=3,
        )
    order = sorted(found, key=lambda i: natural_key(Path(cameras.names[i])))  # type: ignore[index]
    return cameras.take(order), [found[i] for i in order]


def _photo(folder: Path, name: str) -> Path | None:
    for root in (folder / "images", folder):
        for candidate in (root / name, root / f"{name}.png"):  # scenes of Blender leave the extension out
            if candidate.is_file():
                return candidate
    return None
