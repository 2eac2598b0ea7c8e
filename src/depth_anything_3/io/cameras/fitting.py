"""Cameras of a file brought to the photos at hand: which is whose, at which size, which side up."""

from __future__ import annotations

import difflib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import CameraFileError, ImageError
from depth_anything_3.geometry.distortion import turned_lens
from depth_anything_3.io.images import ImageHeader, raise_together, read_header
from depth_anything_3.types.cameras import Cameras, Lens

TIME_TOLERANCE = 0.02
"""Most seconds between a photo and its pose; what the tools of the TUM benchmark allow."""

_SAME_SHAPE = 0.02  # relative; sides are rounded to pixels when pictures are made smaller

# EXIF orientation -> what turns (x, y) of the stored picture into (x, y) of the upright one.
_TURNS = {6: np.array([[0.0, -1], [1, 0]]), 8: np.array([[0.0, 1], [-1, 0]])}


def cameras_of(
    cameras: Cameras,
    photos: Sequence[Path],
    *,
    among: Sequence[Path] | None = None,
    times: Sequence[float] | None = None,
    argument: str = "cameras",
) -> Cameras:
    """One camera for each photo, in the order of the photos.

    Cameras with names go by file name: first as it is, then without letter case, then without the extension; where
    several photos share one, by as much of the path as is needed. Cameras with times go by the number in the file
    names, within :data:`TIME_TOLERANCE`, where the names are times. All others go by order. One camera without a name
    is for all photos.

    Args:
        cameras: of a file.
        photos: files of images.
        among: all photos of the folder, where ``photos`` are a part of them; it is they whose order counts.
        times: of the photos in seconds, where their names do not say them.
        argument: the name by which the caller knows the file of the cameras, for errors.

    Raises:
        CameraFileError: a photo has no camera, or more than one; the message lists the nearest names.
    """
    if cameras.names is not None:
        chosen = [_by_name(cameras, photo, argument) for photo in photos]
    elif cameras.times is not None and (told := times or _times_of(photos, cameras.times)) is not None:
        chosen = [_by_time(cameras, time, photo, argument) for time, photo in zip(told, photos, strict=True)]
    else:
        chosen = _by_order(cameras, photos, photos if among is None else among, argument)
    return cameras.take(chosen)


def at_sizes_of(cameras: Cameras, headers: Sequence[ImageHeader], *, argument: str = "cameras") -> Cameras:
    """The cameras in pixels of the upright photos.

    Where a file counts the pixels of the photo as it is stored, a quarter turn away from upright, the camera is turned
    along: intrinsics, lens and pose. Where it counts those of a smaller or larger copy, the intrinsics are scaled.

    Args:
        cameras: one for each photo, as :func:`cameras_of` gives them.
        headers: of the photos.
        argument: see :func:`cameras_of`.

    Raises:
        CameraFileError: a photo has another shape than its camera says.

    Warns:
        UserWarning: intrinsics were scaled.
    """
    if cameras.sizes is None or cameras.intrinsics is None:
        return cameras
    turned = [_upright(cameras, i, header) for i, header in enumerate(headers)]
    sizes = np.array([header.size for header in headers], np.int64)
    intrinsics = np.array([part[0] for part in turned])
    factors = sizes[:, ::-1] / np.array([part[3] for part in turned], np.float64)[:, ::-1]  # x, y
    for i in np.flatnonzero(~(np.abs(factors[:, 0] / factors[:, 1] - 1) < _SAME_SHAPE))[:1]:
        height, width = cameras.sizes[i]
        name = cameras.names[i] if cameras.names is not None else f"photo {i + 1}"
        reason = f"{width}x{height} pixels for {name}, which has {sizes[i][1]}x{sizes[i][0]}"
        raise CameraFileError(argument, cameras.source, reason, "cameras of these photos, or of copies to scale")
    if scaled := int((factors != 1).any(-1).sum()):
        warnings.warn(
            f"{argument}: {scaled} of {len(sizes)} photos have another size than {cameras.source} says; "
            "their intrinsics were scaled",
            stacklevel=2,
        )
    intrinsics[:, :2] *= factors[:, :, None]
    extrinsics = None if cameras.extrinsics is None else np.array([part[1] for part in turned])
    lenses = tuple(part[2] for part in turned)
    return replace(cameras, intrinsics=intrinsics, extrinsics=extrinsics, lenses=lenses, sizes=sizes)


# --- whose -------------------------------------------------------------------------------------------------------


def _keys(name: str) -> tuple[str, str, str]:
    file = PurePosixPath(name.replace("\\", "/")).name
    return file, file.casefold(), PurePosixPath(file).stem.casefold()


def _by_name(cameras: Cameras, photo: Path, argument: str) -> int:
    assert cameras.names is not None
    for kind, wanted in enumerate(_keys(photo.name)):
        found = [i for i, name in enumerate(cameras.names) if _keys(name)[kind] == wanted]
        if len(found) > 1:
            found = _with_most_in_common(cameras.names, found, photo)
        if len(found) == 1:
            return found[0]
        if found:
            several = [cameras.names[i] for i in found[:3]]
            raise CameraFileError(argument, cameras.source, f"{len(found)} cameras for {photo}", "one", several)
    near = difflib.get_close_matches(photo.name, cameras.names, 3, 0.0)
    reason = f"no camera named {photo.name}, but {len(cameras)} others"
    raise CameraFileError(argument, cameras.source, reason, "a camera for every photo; the nearest names are", near)


def _with_most_in_common(names: Sequence[str], found: list[int], photo: Path) -> list[int]:
    """Those whose path ends like that of the photo over the most folders."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i in found:
        pairs = zip(reversed(PurePosixPath(names[i]).parts[:-1]), reversed(photo.parts[:-1]), strict=False)
        same = [a == b for a, b in pairs]
        groups[same.index(False) if False in same else len(same)].append(i)
    return groups[max(groups)]


def _times_of(photos: Sequence[Path], known: npt.NDArray[np.float64]) -> list[float] | None:
    """What the names of the photos say, if they are numbers and the first is anywhere near the known times."""
    try:
        times = [float(photo.stem) for photo in photos]
    except ValueError:
        return None
    return times if known.min() - 1 <= times[0] <= known.max() + 1 else None


def _by_time(cameras: Cameras, time: float, photo: Path, argument: str) -> int:
    assert cameras.times is not None
    nearest = int(np.argmin(np.abs(cameras.times - time)))
    away = abs(float(cameras.times[nearest]) - time)
    if not away <= TIME_TOLERANCE:
        reason = f"no pose within {TIME_TOLERANCE} s of {photo.name}; the nearest is {away:.3f} s away"
        raise CameraFileError(argument, cameras.source, reason, "a pose for every photo", [cameras.times[nearest]])
    return nearest


def _by_order(cameras: Cameras, photos: Sequence[Path], among: Sequence[Path], argument: str) -> list[int]:
    if len(cameras) == 1 and cameras.extrinsics is None:
        return [0] * len(photos)
    if len(cameras) != len(among):
        reason = f"{len(cameras)} cameras without names for {len(among)} photos"
        raise CameraFileError(argument, cameras.source, reason, "one for each photo, in natural order of their names")
    place = {photo: i for i, photo in enumerate(among)}
    return [place[photo] for photo in photos]


# --- which side up -----------------------------------------------------------------------------------------------


# Intrinsics, extrinsics, lens, (height, width).
_Camera = tuple[np.ndarray, np.ndarray | None, Lens, tuple[int, int]]


def _upright(cameras: Cameras, index: int, header: ImageHeader) -> _Camera:
    """One camera, turned with its photo where that is needed."""
    assert cameras.intrinsics is not None and cameras.sizes is not None
    intrinsics, lens, (height, width) = cameras.intrinsics[index], cameras.lenses[index], cameras.sizes[index]
    pose = None if cameras.extrinsics is None else cameras.extrinsics[index]
    turn = _TURNS.get(header.exif_orientation)
    if turn is None or _fits((height, width), header.size) or not _fits((width, height), header.size):
        return intrinsics, pose, lens, (height, width)
    rotation = np.eye(3)
    rotation[:2, :2] = turn
    pixels = rotation.copy()  # the corner that becomes the top-left one comes to (0, 0)
    pixels[:2, 2] = np.maximum(0, -turn @ [width, height])
    turned = None if pose is None else rotation @ pose
    return pixels @ intrinsics @ rotation.T, turned, turned_lens(lens, turn), (width, height)


def _fits(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    return abs(size[0] * wanted[1] / (size[1] * wanted[0]) - 1) < _SAME_SHAPE


def read_headers(photos: Sequence[Path]) -> list[ImageHeader]:
    """Headers of the photos, in order.

    Raises:
        ImageError: some cannot be read; see :func:`~depth_anything_3.io.images.raise_together`.
    """
    known: dict[Path, ImageHeader | ImageError] = {}  # the frames of a video share theirs
    for i, photo in enumerate(photos):
        if photo not in known:
            try:
                known[photo] = read_header(photo, index=i)
            except ImageError as error:
                known[photo] = error
    raise_together([entry for entry in known.values() if isinstance(entry, ImageError)], len(photos))
    return [entry for photo in photos if isinstance(entry := known[photo], ImageHeader)]
