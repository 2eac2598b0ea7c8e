"""From photos to network inputs: published sizes and pixels, and an exact record of the way back.

Each image is first scaled so that its longest (``upper_bound_*``) or shortest (``lower_bound_*``) side has the
requested length, then both sides are brought to multiples of 14 by a second resize (``*_resize``) or a centre crop
(``*_crop``). Images that still differ in size are cropped at the centre to the common minimum, or padded to the common
maximum. The two resizes in a row are the published ones; fusing them would change the pixels.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import ImageError, InputError
from depth_anything_3.geometry.conventions import extrinsics_from
from depth_anything_3.io.images import ImageSource, LensPhoto, decode_image, raise_together, undistorted_mask
from depth_anything_3.io.masks import MaskSource, as_mask_list, decode_mask
from depth_anything_3.io.sources import as_image_list
from depth_anything_3.types.inputs import Anchors, ModelInputs, ResizeRecord
from depth_anything_3.types.options import (
    INTRINSICS_ORIGINS,
    PATCH_SIZE,
    IntrinsicsOrigin,
    PreprocessOptions,
    check_choice,
)

MAX_ASPECT_RATIO = 20
"""Longest side over shortest side of an image that is still accepted."""

MATRIX_TOLERANCE = 1e-3
"""Largest accepted deviation of R Rᵀ from the identity, element by element."""

_LAST_ROW_TOLERANCE = 1e-5
_SAME_SHAPE, _OTHER_SIZE = 1.15, 1.45  # ratios: of the two axes, and of sizes from which on a warning comes

IMAGE_MEAN = np.array([0.485, 0.456, 0.406])
IMAGE_STD = np.array([0.229, 0.224, 0.225])
"""Of ImageNet: what network inputs are normalised with, per channel, for values from 0 to 1."""

Size = tuple[int, int]
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Matrices = npt.NDArray[np.float64]


def _normalised_values() -> npt.NDArray[np.float32]:
    """(256, 3): what each 8-bit value of each channel becomes, in float32 throughout as published."""
    values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    return np.asarray((values - IMAGE_MEAN.astype(np.float32)) / IMAGE_STD.astype(np.float32), np.float32)


def _shown_values() -> npt.NDArray[np.uint8]:
    """(256, 3): the 8-bit value shown for each one that went in; about a third are one lower.

    The published code takes the float32 network input back to pixels in float64 and truncates.
    """
    back = _normalised_values().astype(np.float64) * IMAGE_STD + IMAGE_MEAN
    return np.asarray(np.clip(back, 0, 1) * 255, np.uint8)


_NORMALISED = _normalised_values()
_SHOWN = _shown_values()


def preprocess(
    images: Sequence[ImageSource],
    *,
    extrinsics: object = None,
    intrinsics: object = None,
    extrinsics_convention: str = "opencv_w2c",
    intrinsics_origin: IntrinsicsOrigin = "given",
    masks: object = None,
    options: PreprocessOptions,
    on_image: Callable[[int, int], None] | None = None,
    max_workers: int = 8,
    first: int = 0,
) -> ModelInputs:
    """Decode, resize and normalise the images of one scene, and bring their cameras along.

    Args:
        images: N image sources, see :func:`depth_anything_3.io.images.decode_image`.
        extrinsics: (N, 3, 4) or (N, 4, 4) poses; they need ``intrinsics`` unless some are not known. Arrays, lists of
            arrays or nested lists; checked by :func:`check_cameras`.
        extrinsics_convention: what they mean.
        intrinsics: (N, 3, 3) in pixels of the upright source images, the centre of the top-left pixel at (0.5, 0.5).
        intrinsics_origin: where they come from.
        masks: of the upright photos, see :func:`depth_anything_3.io.masks.as_mask_list`. They are resized, cropped and
            padded with them; where ``alpha="mask"`` finds transparency, both must keep a pixel.
        options: target size, method, treatment of transparency and of mixed sizes.
        on_image: called as ``on_image(done, total)`` from the calling thread after each image, in order. An exception
            that it raises ends the work and reaches the caller.
        max_workers: number of threads that decode and resize; each holds one full-size image at a time.
        first: position of the first image in the caller's list, for errors and the names of images without one.

    Returns:
        The network inputs; N, order and names as given.

    Raises:
        InputError: no images, wrong cameras (found before any image is decoded), or wrong masks.
        ImageError: an image cannot be read, is longer than 20:1, or is cropped to nothing by a ``*_crop`` method. Of
            several such images all are named, or the first ten and how many more there are.

    Warns:
        UserWarning: the images differ in shape, so that some were cropped (``mixed_sizes="crop"``); the message says
            how much was lost. Or intrinsics look like those of pictures of another size.
    """
    sources = as_image_list(images)
    poses, calibrations = check_cameras(extrinsics, intrinsics, len(sources), convention=extrinsics_convention)
    check_choice("intrinsics_origin", intrinsics_origin, INTRINSICS_ORIGINS)
    if max_workers < 1:
        raise InputError("max_workers", str(max_workers), "at least 1")
    given = as_mask_list(masks, sources)
    resized = _to_common_size(_resize_all(sources, options, on_image, max_workers, masks=given, first=first), options)
    records = tuple(image.record for image in resized)
    names = tuple(image.name for image in resized)
    network_images, shown = _network_arrays(resized)
    if calibrations is not None:
        _warn_of_other_size(calibrations, resized)
        calibrations = np.stack(
            [record.processed_from_source @ K for K, record in zip(calibrations, records, strict=True)]
        )
    return ModelInputs(
        images=network_images,
        processed_images=shown,
        names=names,
        records=records,
        extrinsics=poses,
        intrinsics=calibrations,
        intrinsics_origin=intrinsics_origin,
        masks=_stacked_masks(resized),
        timestamps=_timestamps(resized),
    )


def with_anchors(inputs: ModelInputs, anchors: Anchors) -> ModelInputs:
    """The inputs, with what the network is told of the first views.

    Raises:
        InputError: more anchors than views, none, or beside given poses.
    """
    poses, lenses = np.asarray(anchors.extrinsics, np.float64), np.asarray(anchors.intrinsics, np.float64)
    count = len(poses)
    if inputs.extrinsics is not None:
        raise InputError("anchors", f"{count} beside extrinsics", "one of the two")
    fits = 1 <= count <= len(inputs.images) and poses.shape == (count, 4, 4) and lenses.shape == (count, 3, 3)
    if not fits or not (np.isfinite(poses).all() and np.isfinite(lenses).all()):
        got = f"shapes {poses.shape} and {lenses.shape} for {len(inputs.images)} views"
        raise InputError("anchors", got, "finite (K, 4, 4) and (K, 3, 3) for the first K views")
    lenses = np.stack([r.processed_from_source @ K for K, r in zip(lenses, inputs.records, strict=False)])
    return dataclasses.replace(inputs, anchors=Anchors(extrinsics=poses, intrinsics=lenses))


def _timestamps(images: Sequence[_Resized]) -> tuple[float, ...]:
    """One per view, or none where a view has none."""
    known = tuple(image.timestamp for image in images if image.timestamp is not None)
    return known if len(known) == len(images) else ()


def resize_pictures(
    images: Sequence[ImageSource],
    *,
    most: int,
    options: PreprocessOptions,
    shape: Size | None = None,
    max_workers: int = 8,
) -> tuple[Pixels, tuple[ResizeRecord, ...]]:
    """Plain RGB pictures of one scene, at most so large, and never larger than they came.

    Args:
        images: as for :func:`preprocess`, and cut like there.
        most: longest side in pixels.
        options: treatment of transparency, and whether sides are brought to multiples of 14 by resizing or cropping.
        shape: height and width to bring all to, whatever theirs are: made to cover it and cropped, or with
            ``mixed_sizes="pad"`` made to fit in and padded. None takes what is common to them.

    Returns:
        (N, H, W, 3) uint8, and N records.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # preprocess has said that pictures were cropped
        sources = as_image_list(images)
        own = _resize_all(sources, options, None, max_workers, most=most)
        pad = options.mixed_sizes == "pad"
        resized = _to_common_size(own, options) if shape is None else [_brought_to(i, shape, pad=pad) for i in own]
    return np.stack([image.pixels for image in resized]), tuple(image.record for image in resized)


# --- sizes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResizePlan:
    """The sizes (height, width) that one image goes through.

    Attributes:
        source_hw: the upright source.
        bounded_hw: after the resize that brings the bounded side to ``process_res``.
        resized_hw: after the resize to multiples of 14 (``*_resize``); equal to ``bounded_hw`` for ``*_crop``.
        processed_hw: after the centre crop to multiples of 14 (``*_crop``); equal to ``resized_hw`` for ``*_resize``.
    """

    source_hw: Size
    bounded_hw: Size
    resized_hw: Size
    processed_hw: Size


def plan_resize(source_hw: Size, options: PreprocessOptions, *, index: int = 0, name: str = "image") -> ResizePlan:
    """The sizes that an image of height and width ``source_hw`` goes through; nothing is allocated.

    Args:
        source_hw: height and width of the upright image.
        options: target size and method.
        index: position of the image, for errors.
        name: name of the image, for errors.

    Raises:
        ImageError: the image is longer than 20:1, or the crop would leave less than one patch.
    """
    height, width = source_hw
    label, got = f"image[{index}]", f"{name} of {width}x{height} pixels"
    if max(source_hw) > MAX_ASPECT_RATIO * min(source_hw):
        raise ImageError(label, got, f"an aspect ratio of at most {MAX_ASPECT_RATIO}:1")
    upper = options.process_res_method.startswith("upper_bound")
    side = max(source_hw) if upper else min(source_hw)
    bounded = source_hw if side == options.process_res else _scaled(source_hw, options.process_res / side)
    if options.process_res_method.endswith("resize"):
        resized = (_nearest_multiple(bounded[0]), _nearest_multiple(bounded[1]))
        return ResizePlan(source_hw, bounded, resized, resized)
    cropped = (bounded[0] // PATCH_SIZE * PATCH_SIZE, bounded[1] // PATCH_SIZE * PATCH_SIZE)
    if min(cropped) < PATCH_SIZE:
        raise ImageError(
            label,
            f"{got}, scaled to {bounded[1]}x{bounded[0]} before the crop",
            f"both sides at least {PATCH_SIZE} there; raise process_res or choose another process_res_method",
            (options.process_res_method.replace("crop", "resize"),),
        )
    return ResizePlan(source_hw, bounded, bounded, cropped)


def at_most(options: PreprocessOptions, source_hw: Size, most: int) -> PreprocessOptions:
    """The options for the same picture with a longest side of ``most`` pixels, but never larger than it came."""
    ending = options.process_res_method.rpartition("_")[2]
    method: Any = f"upper_bound_{ending}"
    return dataclasses.replace(options, process_res=min(most, max(source_hw)), process_res_method=method)


def common_size(sizes: Sequence[Size], options: PreprocessOptions) -> Size:
    """Height and width of the network images, from those of each image by itself."""
    extreme = max if options.mixed_sizes == "pad" else min
    return extreme(h for h, _ in sizes), extreme(w for _, w in sizes)


def _scaled(hw: Size, scale: float) -> Size:
    # round() takes ties to the even number; neither side comes to 0, because the aspect ratio is bounded
    return round(hw[0] * scale), round(hw[1] * scale)


def _nearest_multiple(length: int) -> int:
    """The multiple of 14 that is nearest to ``length``, ties up, at least 14."""
    return max(PATCH_SIZE, (length + PATCH_SIZE // 2) // PATCH_SIZE * PATCH_SIZE)


# --- pixels ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Resized:
    pixels: Pixels
    name: str
    record: ResizeRecord
    mask: Mask | None
    timestamp: float | None


def _resize_all(
    sources: Sequence[ImageSource],
    options: PreprocessOptions,
    on_image: Callable[[int, int], None] | None,
    max_workers: int,
    most: int | None = None,
    masks: Sequence[MaskSource | None] | None = None,
    first: int = 0,
) -> list[_Resized]:
    executor = ThreadPoolExecutor(min(max_workers, len(sources)), thread_name_prefix="preprocess")
    done: list[_Resized] = []
    wrong: list[ImageError] = []
    try:
        given = [None] * len(sources) if masks is None else masks
        futures = [
            executor.submit(_resize_one, source, i, options, most, mask)
            for i, (source, mask) in enumerate(zip(sources, given, strict=True), first)
        ]
        for future in futures:
            try:
                done.append(future.result())
            except ImageError as error:  # the others may be wrong too, and all are to be told at once
                wrong.append(error)
                continue
            if on_image is not None:
                on_image(len(done), len(sources))
    finally:
        executor.shutdown(cancel_futures=True)
    raise_together(wrong, len(sources))
    return done


def _resize_one(
    source: ImageSource, index: int, options: PreprocessOptions, most: int | None, given: MaskSource | None
) -> _Resized:
    image = decode_image(source, index=index, alpha=options.alpha)
    source_hw = (image.pixels.shape[0], image.pixels.shape[1])
    if most is not None:
        options = at_most(options, source_hw, most)
    plan = plan_resize(source_hw, options, index=index, name=image.name)
    pixels = _resize(_resize(image.pixels, plan.bounded_hw), plan.resized_hw)
    record = ResizeRecord(
        source_hw=source_hw,
        processed_hw=plan.resized_hw,
        scale_xy=(plan.resized_hw[1] / source_hw[1], plan.resized_hw[0] / source_hw[0]),
        offset_xy=(0.0, 0.0),
        exif_orientation=image.exif_orientation,
    )
    mask = _joined_mask(image.mask, given, source, index, source_hw)
    mask = None if mask is None else _resize_mask(mask, plan.resized_hw)
    return _centre_crop(_Resized(pixels, image.name, record, mask, image.timestamp), plan.processed_hw)


def _joined_mask(
    opaque: Mask | None, given: MaskSource | None, source: ImageSource, index: int, size: Size
) -> Mask | None:
    """What both transparency and the caller keep; None where neither says anything."""
    if given is None:
        return opaque
    mask = decode_mask(given, index=index, size=size)
    if isinstance(source, LensPhoto):
        mask = undistorted_mask(mask, source)
    return mask if opaque is None else mask & opaque


def _resize(pixels: Pixels, hw: Size) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == hw:
        return pixels
    grows = hw[0] > height or hw[1] > width
    resized = cv2.resize(pixels, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _resize_mask(mask: npt.NDArray[np.bool_], hw: Size) -> npt.NDArray[np.bool_]:
    """True where at least half of what a pixel covers is."""
    shades = mask.astype(np.uint8) * np.uint8(255)
    return np.asarray(cv2.resize(shades, (hw[1], hw[0]), interpolation=cv2.INTER_AREA)) >= 128


def _centre_crop(image: _Resized, hw: Size) -> _Resized:
    height, width = image.pixels.shape[:2]
    if (height, width) == hw:
        return image
    top, left = (height - hw[0]) // 2, (width - hw[1]) // 2
    x, y = image.record.offset_xy
    record = dataclasses.replace(image.record, processed_hw=hw, offset_xy=(x - left, y - top))
    kept = np.s_[top : top + hw[0], left : left + hw[1]]
    mask = None if image.mask is None else image.mask[kept]
    return dataclasses.replace(image, pixels=image.pixels[kept], record=record, mask=mask)


def _to_common_size(images: list[_Resized], options: PreprocessOptions) -> list[_Resized]:
    sizes = [image.record.processed_hw for image in images]
    if len(set(sizes)) == 1:
        return images
    common = common_size(sizes, options)
    if options.mixed_sizes == "pad":
        return [_centre_pad(image, common) for image in images]
    _warn_of_loss(images, common)
    return [_centre_crop(image, common) for image in images]


def _centre_pad(image: _Resized, hw: Size) -> _Resized:
    """In the middle, where networks take the principal point to be; around it the mean colour, masked out."""
    height, width = image.pixels.shape[:2]
    top, left = (hw[0] - height) // 2, (hw[1] - width) // 2
    inside = np.s_[top : top + height, left : left + width]
    pixels = np.empty((*hw, 3), np.uint8)
    pixels[:] = np.rint(IMAGE_MEAN * 255)
    pixels[inside] = image.pixels
    mask = np.zeros(hw, np.bool_)
    mask[inside] = True if image.mask is None else image.mask
    x, y = image.record.offset_xy
    record = dataclasses.replace(image.record, processed_hw=hw, offset_xy=(x + left, y + top))
    return dataclasses.replace(image, pixels=pixels, record=record, mask=mask)


def _brought_to(image: _Resized, hw: Size, *, pad: bool) -> _Resized:
    """Scaled without change of shape, then cropped or padded."""
    height, width = image.pixels.shape[:2]
    if (height, width) == hw:
        return image
    ratios = (hw[0] / height, hw[1] / width)
    scale, limit = (min(ratios), min) if pad else (max(ratios), max)
    size = (limit(round(height * scale), hw[0]), limit(round(width * scale), hw[1]))
    by_x, by_y = size[1] / width, size[0] / height
    (sx, sy), (ox, oy) = image.record.scale_xy, image.record.offset_xy
    record = dataclasses.replace(
        image.record, processed_hw=size, scale_xy=(sx * by_x, sy * by_y), offset_xy=(ox * by_x, oy * by_y)
    )
    mask = None if image.mask is None else _resize_mask(image.mask, size)
    scaled = dataclasses.replace(image, pixels=_resize(image.pixels, size), record=record, mask=mask)
    return _centre_pad(scaled, hw) if pad else _centre_crop(scaled, hw)


def _warn_of_loss(images: list[_Resized], common: Size) -> None:
    areas = [image.record.processed_hw[0] * image.record.processed_hw[1] for image in images]
    kept = common[0] * common[1]
    lost = sum(areas) - kept * len(areas)
    worst = int(np.argmax(areas))
    warnings.warn(
        f"The images have different shapes; all were cropped at the centre to {common[1]}x{common[0]} network pixels. "
        f"{lost} of {sum(areas)} pixels were lost ({lost / sum(areas):.0%}), most of them in "
        f"{images[worst].name} ({1 - kept / areas[worst]:.0%}); mixed_sizes='pad' keeps all.",
        UserWarning,
        stacklevel=4,  # the caller of preprocess
    )


def _network_arrays(images: list[_Resized]) -> tuple[npt.NDArray[np.float32], Pixels]:
    """Normalised (N, 3, H, W) and shown (N, H, W, 3) pixels."""
    height, width = images[0].record.processed_hw
    normalised = np.empty((len(images), 3, height, width), np.float32)
    shown = np.empty((len(images), height, width, 3), np.uint8)
    for i, image in enumerate(images):
        for c in range(3):
            normalised[i, c] = _NORMALISED[:, c].take(image.pixels[:, :, c])
            shown[i, :, :, c] = _SHOWN[:, c].take(image.pixels[:, :, c])
    return normalised, shown


def _stacked_masks(images: list[_Resized]) -> npt.NDArray[np.bool_] | None:
    """(N, H, W); views without a mask are whole."""
    if all(image.mask is None for image in images):
        return None
    whole = np.ones(images[0].record.processed_hw, np.bool_)
    return np.stack([whole if image.mask is None else image.mask for image in images])


# --- cameras -----------------------------------------------------------------------------------------------------


def check_cameras(
    extrinsics: object, intrinsics: object, count: int, *, convention: str = "opencv_w2c"
) -> tuple[Matrices | None, Matrices | None]:
    """Cameras of ``count`` images as fresh float64 arrays, or an error that says what is wrong with them.

    Args:
        extrinsics: (N, 3, 4) or (N, 4, 4) poses; arrays, lists of arrays, nested lists. None, or NaN throughout, in
            the place of a view whose pose is not known.
        intrinsics: (N, 3, 3) in pixels of the upright source images; may come alone.
        count: number of images N.
        convention: what the poses mean; by default world-to-camera with OpenCV axes.

    Returns:
        extrinsics (N, 4, 4) world-to-camera with OpenCV axes, NaN where not known, and intrinsics (N, 3, 3), as float64
        with exact last rows; None for what did not come.

    Raises:
        InputError: wrong shape or number, values that are not finite, rotations that are not orthonormal or mirror,
            last rows or focal lengths that cannot be, extrinsics of all views without intrinsics, or ``count`` below 1.
    """
    if count < 1:
        raise InputError("image", "no images", "at least one image")
    poses = None if extrinsics is None else extrinsics_from(_checked_extrinsics(extrinsics, count), convention)
    calibrations = None if intrinsics is None else _checked_intrinsics(intrinsics, count)
    if poses is not None and calibrations is None and np.isfinite(poses).all():
        raise InputError("intrinsics", "None beside extrinsics", f"shape ({count}, 3, 3): poses need intrinsics")
    return poses, calibrations


def _warn_of_other_size(intrinsics: Matrices, images: Sequence[_Resized]) -> None:
    """Warn where the principal point is where the middle of a much smaller or larger picture of this shape would be."""
    for K, image in zip(intrinsics, images, strict=True):
        height, width = image.record.source_hw
        x, y = 2 * K[0, 2] / width, 2 * K[1, 2] / height
        alike = min(x, y) > 0 and max(x, y) < _SAME_SHAPE * min(x, y)
        if alike and not 1 / _OTHER_SIZE < (x * y) ** 0.5 < _OTHER_SIZE:
            warnings.warn(
                f"intrinsics: the principal point ({K[0, 2]:g}, {K[1, 2]:g}) of {image.name} fits a picture of about "
                f"{width * x:.0f}x{height * y:.0f} pixels, not of {width}x{height}; intrinsics count in pixels of the "
                "pictures as they are given",
                UserWarning,
                stacklevel=4,
            )
            return


def _checked_extrinsics(value: object, count: int) -> Matrices:
    value, missing = _without_gaps(value)
    given = _checked_matrices("extrinsics", value, count, ((3, 4), (4, 4)))
    if missing.all():
        raise InputError("extrinsics", "no pose at all", "at least one, or None instead of a list")
    last = np.array([0.0, 0.0, 0.0, 1.0])
    if given.shape[1] == 4:
        _check_last_row("extrinsics", given, last)
    R = given[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):  # absurdly large numbers: refused below
        deviation = np.abs(R @ R.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2))
    for view in np.flatnonzero(~(deviation <= MATRIX_TOLERANCE))[:1]:
        raise InputError(
            "extrinsics",
            f"a 3x3 part in view {view} that is no rotation (R Rᵀ is off the identity by {deviation[view]:.3g})",
            f"orthonormal rotations within {MATRIX_TOLERANCE:g}; a scaled or transposed matrix is a likely cause",
        )
    for view in np.flatnonzero(np.linalg.det(R) < 0)[:1]:
        raise InputError(
            "extrinsics",
            f"a mirroring 3x3 part in view {view} (determinant -1)",
            "right-handed rotations (determinant +1): OpenCV axes, x right, y down, z forward",
        )
    poses = np.empty((count, 4, 4))
    poses[:, :3], poses[:, 3] = given[:, :3], last
    poses[missing] = np.nan
    return poses


def _without_gaps(value: object) -> tuple[object, npt.NDArray[np.bool_]]:
    """Poses with the identity for those that are None or NaN throughout, and which ones those are."""
    if not (isinstance(value, np.ndarray) and value.dtype != object):
        try:
            entries = list(value)  # type: ignore[call-overload]
        except TypeError:
            return value, np.zeros(1, bool)
        if all(entry is not None for entry in entries):
            return _nan_as_identity(value)
        rows = next((len(entry) for entry in entries if entry is not None), 4)
        value = [np.full((rows, 4), np.nan) if entry is None else entry for entry in entries]
    return _nan_as_identity(value)


def _nan_as_identity(value: object) -> tuple[object, npt.NDArray[np.bool_]]:
    try:
        poses: npt.NDArray[Any] = np.asarray(value)
        missing = np.isnan(poses[:, :3]).all(axis=(1, 2))
    except (TypeError, ValueError, RuntimeError, IndexError):
        return value, np.zeros(1, bool)  # no array of poses: refused by the next check
    return np.where(missing[:, None, None], np.eye(4)[: poses.shape[1]], poses) if missing.any() else value, missing


def _checked_intrinsics(value: object, count: int) -> Matrices:
    K = _checked_matrices("intrinsics", value, count, ((3, 3),))
    last = np.array([0.0, 0.0, 1.0])
    _check_last_row("intrinsics", K, last)
    focals = K[:, [0, 1], [0, 1]]
    for view in np.flatnonzero((focals <= 0).any(axis=1))[:1]:
        fx, fy = focals[view]
        raise InputError("intrinsics", f"focal lengths fx={fx:g}, fy={fy:g} in view {view}", "positive focal lengths")
    K[:, 2] = last
    return K


def _checked_matrices(argument: str, value: object, count: int, shapes: tuple[Size, ...]) -> Matrices:
    expected = " or ".join(f"({count}, {rows}, {columns})" for rows, columns in shapes)
    try:
        matrices: npt.NDArray[Any] = np.asarray(value)
        if np.issubdtype(matrices.dtype, np.complexfloating):
            raise TypeError("complex numbers")
        matrices = matrices.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(argument, f"no array of numbers ({error})", f"numbers of shape {expected}") from error
    if matrices.ndim != 3 or matrices.shape[1:] not in shapes:
        raise InputError(argument, f"shape {matrices.shape}", f"shape {expected}, one matrix per image")
    if len(matrices) != count:
        raise InputError(argument, f"{len(matrices)} matrices for {count} images", f"shape {expected}")
    for view in np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))[:1]:
        raise InputError(argument, f"NaN or infinity in view {view}", "finite numbers")
    return matrices


def _check_last_row(argument: str, matrices: Matrices, expected: Matrices) -> None:
    deviation = np.abs(matrices[:, -1] - expected).max(axis=1)
    for view in np.flatnonzero(deviation > _LAST_ROW_TOLERANCE)[:1]:
        row = ", ".join(f"{x:g}" for x in matrices[view, -1])
        wanted = ", ".join(f"{x:g}" for x in expected)
        raise InputError(
            argument, f"last row ({row}) in view {view}", f"last row ({wanted}); is the matrix transposed or scaled?"
        )
