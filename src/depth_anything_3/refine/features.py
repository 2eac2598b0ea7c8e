"""Keypoints of single views, and which of them are alike.

Letters: N views, k keypoints of a view, C channels of a descriptor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.refine.threads import in_threads

_CONTRAST = 0.005  # OpenCV's default of 0.04 leaves plain walls without any keypoint
_WELL_LOCATED = 0.0067  # contrast from which on a keypoint counts in full
_RATIO = 0.85


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Keypoints of one view.

    Attributes:
        xy: pixels, the centre of the top-left one at (0.5, 0.5).
        descriptors: of unit length; the scalar product says how alike two keypoints are.
        weight: of a squared error in pixels, from 0 to 1: keypoints of low contrast are less well located. None is 1
            for all.
    """

    xy: Float[np.ndarray, "k 2"]
    descriptors: Float32[np.ndarray, "k C"]
    weight: Float[np.ndarray, " k"] | None = None

    def weights(self, chosen: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Weights of some of the keypoints."""
        return np.ones(len(chosen)) if self.weight is None else self.weight[chosen]


PairMatches = Mapping[tuple[int, int], Int[np.ndarray, "m 2"]]
"""(first, second) view, the first being the lower number, to indices into the keypoints of the two."""


def detect_sift(
    image: UInt8[np.ndarray, "h w 3"], *, most: int = 4096, mask: Bool[np.ndarray, "h w"] | None = None
) -> Features:
    """SIFT keypoints (Lowe 2004) with RootSIFT descriptors (Arandjelovic and Zisserman 2012).

    Args:
        image: RGB.
        most: keypoints to keep, those of the highest contrast.
        mask: where keypoints may lie; None for everywhere.

    Raises:
        InputError: ``most`` is below 1, or the mask has another size.
    """
    if most < 1:
        raise InputError("most", str(most), "at least 1")
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError("mask", f"shape {mask.shape}", f"shape {image.shape[:2]}")
    allowed = None if mask is None else mask.astype(np.uint8)
    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    keypoints, raw = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), allowed)
    if not keypoints:
        return Features(xy=np.zeros((0, 2)), descriptors=np.zeros((0, 128), np.float32))
    order = sorted(range(len(keypoints)), key=lambda i: (-keypoints[i].response, keypoints[i].pt))[:most]
    # OpenCV counts from the centre of the top-left pixel; without the precise enlargement it is a quarter off.
    xy = np.array([keypoints[i].pt for i in order]) + 0.5
    share = raw[order] / np.maximum(raw[order].sum(1, keepdims=True), 1e-9)
    response = np.array([keypoints[i].response for i in order])
    return Features(
        xy=xy,
        descriptors=np.sqrt(share).astype(np.float32),
        weight=np.minimum(response / _WELL_LOCATED, 1.0) ** 2,
    )


def strongest(features: Features, most: int) -> Features:
    """The first keypoints of a view, which are those of the highest contrast."""
    weight = None if features.weight is None else features.weight[:most]
    return Features(xy=features.xy[:most], descriptors=features.descriptors[:most], weight=weight)


def match_features(
    one: Features,
    other: Features,
    *,
    allowed: Bool[np.ndarray, "k1 k2"] | None = None,
    ratio: float = _RATIO,
) -> Int[np.ndarray, "m 2"]:
    """Pairs of keypoints that are each other's most alike, and clearly more alike than the next.

    Args:
        one, other: of two views.
        allowed: pairs that may match; the next best counts only among those. None for all.
        ratio: largest distance of descriptors, as a part of that to the next best (Lowe's ratio).

    Returns:
        indices into the keypoints of the two views.
    """
    if len(one.xy) == 0 or len(other.xy) == 0:
        return np.zeros((0, 2), np.int64)
    # Not by numpy: its products wait for each other where pairs are matched in threads, and these take half as long.
    alike = (torch.from_numpy(one.descriptors) @ torch.from_numpy(other.descriptors).T).numpy()
    if allowed is not None:
        alike[~allowed] = -1.0
    best = alike.argmax(1)
    top = alike[np.arange(len(best)), best]
    rows = np.flatnonzero(top == alike.max(0)[best])  # the place of the largest down a column takes far longer to find
    best, top, rest = best[rows], top[rows], alike[rows]
    rest[np.arange(len(rows)), best] = -1.0
    # Distances of unit vectors. A keypoint without any rival that is allowed is compared with one at a right angle.
    distance, next_best = (np.sqrt(np.maximum(2 - 2 * v, 0)) for v in (top, np.maximum(rest.max(1), 0.0)))
    good = (top > 0) & (distance < ratio * next_best)
    return np.stack([rows[good], best[good]], 1).astype(np.int64)


def near_prediction(
    one: Features,
    other: Features,
    expected: Float[np.ndarray, "k1 2"],
    radius: float,
) -> Bool[np.ndarray, "k1 k2"]:
    """Which keypoints of another view lie near where those of a view are expected there.

    Args:
        one, other: of two views.
        expected: pixels in the other view; NaN allows any place.
        radius: pixels.
    """
    anywhere = np.isnan(expected).any(1, keepdims=True)
    middle = other.xy.mean(0) if len(other.xy) else np.zeros(2)
    here, there = np.where(anywhere, 0.0, expected - middle), other.xy - middle
    # |a - b|^2 = |a|^2 - 2 a b + |b|^2 is one product of matrices, which takes far less than the differences.
    rows = np.concatenate([-2 * here, (here**2).sum(1, keepdims=True), np.ones_like(anywhere, np.float64)], 1)
    columns = np.concatenate([there, np.ones((len(there), 1)), (there**2).sum(1, keepdims=True)], 1)
    square = rows.astype(np.float32) @ columns.astype(np.float32).T
    return (square <= radius**2) | anywhere


def all_pairs(views: int) -> list[tuple[int, int]]:
    """Every two views, in order."""
    return [(i, j) for i in range(views) for j in range(i + 1, views)]


def detect_all(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    *,
    most: int = 4096,
    masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
) -> list[Features]:
    """SIFT keypoints of several views, see :func:`detect_sift`."""
    given = masks if masks is not None else [None] * len(images)
    return in_threads(lambda pair: detect_sift(pair[0], most=most, mask=pair[1]), list(zip(images, given, strict=True)))
