"""A prediction on the pixels of the pictures as they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import ImageSource, decode_image
from depth_anything_3.refine.prediction import Pictures, on_grid
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

_EDGE = 1.05  # ratio of the largest to the smallest depth around a pixel from which on two surfaces meet there
_REACH = (-1, 0, 1, 2)  # columns and rows of the maps around a pixel: four by four
_SIGMA_PIXELS, _SIGMA_COLOUR = 1.0, 12.0
_CHUNK = 200_000  # pixels at a time


def at_input_resolution(prediction: Prediction, images: Sequence[ImageSource]) -> Prediction:
    """Depth, confidence, sky, masks and intrinsics on the pixel grid of the pictures as they were given.

    On a surface depth is interpolated in its inverse, which is exact for planes. Where two surfaces meet, a pixel gets
    the depth of the one whose pixels look like it (joint bilateral weights, Kopf et al. 2007), and never a mix of both.
    Pixels that a centre crop cut off have no depth: it is NaN there, confidence is 1, they are not valid and no
    sky. Poses stay; features in ``aux`` stay as they are.

    Args:
        prediction: with resize records.
        images: the same pictures, in the same order, as :meth:`~depth_anything_3.api.DepthAnything3.inference` took
            them.

    Raises:
        InputError: no records, another number of pictures, pictures of other sizes than the records say, or of sizes
            that differ from each other: a prediction has one size, so infer those apart.
        ImageError: a picture cannot be read.
    """
    if not prediction.records or prediction.processed_images is None:
        raise InputError("prediction", "one without records or processed images", "the result of an inference")
    if len(images) != len(prediction.depth):
        raise InputError(
            "images", f"{len(images)} for {len(prediction.depth)} views", "one per view, in the same order"
        )
    sizes = sorted({record.source_hw for record in prediction.records})
    if len(sizes) > 1:
        raise InputError("prediction", f"pictures of several sizes {sizes}", "pictures of one size")
    pixels = np.stack([_picture(image, i, sizes[0]) for i, image in enumerate(images)])
    records = tuple(
        ResizeRecord(
            source_hw=sizes[0],
            processed_hw=sizes[0],
            scale_xy=(1.0, 1.0),
            offset_xy=(0.0, 0.0),
            exif_orientation=record.exif_orientation,
        )
        for record in prediction.records
    )
    grid = on_grid(prediction, Pictures(pixels=pixels, records=records))
    views = zip(prediction.depth, prediction.processed_images, pixels, prediction.records, strict=True)
    depth = np.stack([_upsampled(*view) for view in views])
    shown = np.isfinite(depth)
    return replace(
        grid,
        depth=depth,
        conf=None if grid.conf is None else np.where(shown, grid.conf, np.float32(1)),
        sky=None if grid.sky is None else grid.sky & shown,
        sky_prob=None if grid.sky_prob is None else np.where(shown, grid.sky_prob, np.float32(0)),
        valid=shown if grid.valid is None else grid.valid & shown,
    )


def _picture(image: ImageSource, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    pixels = decode_image(image, index=index, alpha="composite").pixels
    if pixels.shape[:2] != size:
        raise InputError("images", f"{pixels.shape[:2]} pixels for view {index}", f"the size that was inferred, {size}")
    return pixels


def _upsampled(
    depth: npt.NDArray[np.float32],
    shown: UInt8[np.ndarray, "h w 3"],
    picture: UInt8[np.ndarray, "y x 3"],
    record: ResizeRecord,
) -> npt.NDArray[np.float32]:
    """One map at the size of the picture; NaN beyond its border."""
    height, width = depth.shape
    x = ((np.arange(picture.shape[1]) + 0.5) * record.scale_xy[0] + record.offset_xy[0]).astype(np.float64)
    y = ((np.arange(picture.shape[0]) + 0.5) * record.scale_xy[1] + record.offset_xy[1]).astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1.0), np.nan).astype(np.float32)
    columns, rows = np.meshgrid((x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32))
    with np.errstate(divide="ignore"):
        smooth = 1 / cv2.remap(inverse, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.outer((y > 0) & (y < height), (x > 0) & (x < width))
    edge = inside & _near_edges(inverse, columns, rows)
    for chunk in np.array_split(np.flatnonzero(edge), max(1, int(edge.sum()) // _CHUNK)):
        row, column = np.divmod(chunk, picture.shape[1])
        smooth[row, column] = _of_one_surface(inverse, shown, picture[row, column], x[column], y[row])
    return np.where(inside, smooth, np.nan).astype(np.float32)


def _near_edges(
    inverse: npt.NDArray[np.float32], columns: npt.NDArray[np.float32], rows: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Pixels around which depth jumps, or is not known everywhere."""
    around = np.ones((3, 3), np.uint8)
    filled = np.where(np.isfinite(inverse), inverse, 0)
    nearest, farthest = cv2.dilate(filled, around), cv2.erode(filled, around)
    jumps = (nearest > _EDGE * farthest).astype(np.uint8)
    return cv2.remap(jumps, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0


def _of_one_surface(
    inverse: npt.NDArray[np.float32],
    shown: UInt8[np.ndarray, "h w 3"],
    colour: UInt8[np.ndarray, "p 3"],
    x: Array,
    y: Array,
) -> Array:
    """Depth of P pixels from the nearer or the farther of the 16 map pixels around each, whichever look like it."""
    left, top = np.floor(x - 0.5).astype(np.int64), np.floor(y - 0.5).astype(np.int64)
    values, weights = [], []
    for dy in _REACH:
        for dx in _REACH:
            column, row = left + dx, top + dy
            at = row.clip(0, inverse.shape[0] - 1), column.clip(0, inverse.shape[1] - 1)
            away = ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / _SIGMA_PIXELS**2
            unlike = np.square(shown[at].astype(np.float64) - colour).sum(-1) / (3 * _SIGMA_COLOUR**2)
            value = inverse[at].astype(np.float64)
            values.append(value)
            weights.append(np.where(np.isfinite(value), np.exp(-(away + unlike.clip(0, 100)) / 2), 0.0))
    v, w = np.stack(values, 1), np.stack(weights, 1)
    lowest, highest = (np.where(w > 0, v, fill) for fill in (np.inf, -np.inf))
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = np.sqrt(lowest.min(1) * highest.max(1))[:, None]
        near, far = w * (v >= middle), w * (v < middle)
        chosen = np.where((near.sum(1) >= far.sum(1))[:, None], near, far)
        depth: Array = chosen.sum(1) / (chosen * np.where(chosen > 0, v, 0.0)).sum(1)
    return depth
