"""Large pictures by tiles: detail from parts at full size, and one scale from the whole picture made small.

Each tile is brought to the depth of the whole by one factor (a median), and by a smooth field for what is left, so that
only detail finer than a part of a tile is its own. Tiles are blended in log depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

PredictOne = Callable[[npt.NDArray[np.uint8], Array | None], Prediction]
"""Depth of one picture with its (3, 3) intrinsics in pixels, or None where they are not known."""

_FIELD = 6.0  # the smooth field has the standard deviation of a tile's side over this
_MOST = 0.5  # of log depth, that a pixel can say about the field: edges that moved say more, and must not


def infer_tiles(
    predict: PredictOne,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    tile: int,
    overlap: float = 0.25,
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
) -> Prediction:
    """Depth of one picture at its own size.

    Args:
        predict: what gives pictures their depth; it is asked for the whole picture first, then for the tiles.
        image: RGB.
        tile: side of a tile in pixels of the picture.
        overlap: share of a tile that its neighbour shows too.
        intrinsics: of the picture, in its pixels.

    Returns:
        One view at the size of the picture, with the unit, the confidence and the sky of the whole picture, enlarged.

    Raises:
        InputError: a number is out of range.
    """
    if tile < 28 or not 0 < overlap <= 0.5:
        raise InputError("tile, overlap", f"{tile}, {overlap}", "at least 28 pixels, and above 0 up to 0.5")
    matrix = None if intrinsics is None else intrinsics.astype(np.float64)
    height, width = image.shape[:2]
    whole = predict(image, matrix)
    coarse = _log_depth(whole, (height, width))
    total, summed = np.zeros((height, width)), np.zeros((height, width))
    for top, left in _corners((height, width), tile, overlap):
        rows, columns = slice(top, min(top + tile, height)), slice(left, min(left + tile, width))
        shifted = None if matrix is None else matrix - [[0, 0, left], [0, 0, top], [0, 0, 0]]
        part = image[rows, columns]
        found = _log_depth(predict(part, shifted), part.shape[:2])
        fitted = found + _field(coarse[rows, columns] - found, tile)
        weight = np.where(np.isfinite(fitted), _hat(part.shape[:2]), 0.0)
        total[rows, columns] += weight
        summed[rows, columns] += np.where(weight > 0, weight * np.nan_to_num(fitted), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.exp(np.where(total > 0, summed / total, coarse))
    return _enlarged(whole, image, depth, matrix)


def _corners(size: tuple[int, int], tile: int, overlap: float) -> Iterator[tuple[int, int]]:
    """Top left corners of tiles that cover a picture evenly."""
    starts = []
    for length in size:
        count = 1 if length <= tile else 1 + int(np.ceil((length - tile) / (tile * (1 - overlap))))
        starts.append(np.linspace(0, max(length - tile, 0), count).round().astype(int).tolist())
    return ((top, left) for top in starts[0] for left in starts[1])


def _log_depth(prediction: Prediction, size: tuple[int, int]) -> Array:
    depth = prediction.depth[0].astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    logs = np.where(known, np.log(np.where(known, depth, 1.0)), np.nan)
    return np.asarray(cv2.resize(logs, size[::-1], interpolation=cv2.INTER_LINEAR))


def _field(residual: Array, tile: int) -> Array:
    """The factor of a tile, as a logarithm, and what varies slowly about it."""
    known = np.isfinite(residual)
    if not known.any():
        return np.full(residual.shape, np.nan)
    middle = float(np.median(residual[known]))
    rest = np.where(known, np.clip(residual - middle, -_MOST, _MOST), 0.0)
    sigma = tile / _FIELD
    smooth = cv2.GaussianBlur(rest, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(known * 1.0, (0, 0), sigma), 1e-6)
    return np.asarray(middle + smooth)


def _hat(size: tuple[int, int]) -> Array:
    """Weights that fall to the border of a tile, and stay above zero."""
    rows, columns = (1 - np.abs((np.arange(n) + 0.5) / n * 2 - 1) for n in size)
    return np.outer(rows, columns) + 1e-6


def _enlarged(whole: Prediction, image: npt.NDArray[np.uint8], depth: Array, matrix: Array | None) -> Prediction:
    height, width = image.shape[:2]
    record = ResizeRecord(
        source_hw=(height, width), processed_hw=(height, width), scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0)
    )
    if matrix is None and whole.intrinsics is not None:
        small = whole.depth.shape[1:]
        matrix = np.diag([width / small[1], height / small[0], 1.0]) @ whole.intrinsics[0].astype(np.float64)
    conf = None if whole.conf is None else cv2.resize(whole.conf[0], (width, height), interpolation=cv2.INTER_LINEAR)
    sky = None if whole.sky is None else cv2.resize(whole.sky[0].astype(np.uint8), (width, height)) > 0
    score = None if whole.sky_prob is None else cv2.resize(whole.sky_prob[0], (width, height))
    valid = None if whole.valid is None else cv2.resize(whole.valid[0].astype(np.uint8), (width, height)) > 0
    return replace(
        whole,
        depth=depth[None].astype(np.float32),
        conf=None if conf is None else np.asarray(conf)[None],
        sky=None if sky is None else np.asarray(sky)[None],
        sky_prob=None if score is None else np.asarray(score)[None],
        valid=None if valid is None else np.asarray(valid)[None],
        intrinsics=None if matrix is None else matrix[None].astype(np.float32),
        processed_images=image[None],
        records=(record,),
        aux={},
    )
