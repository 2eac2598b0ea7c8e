"""Depth of one picture at a time, up to what the alignment takes out, and its edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.base import View
from depth_anything_3.datasets.benchmark.base import BenchDataset
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.boundaries import boundary_scores, flying_rate
from depth_anything_3.metrics.depth import abs_rel, aligned_affine, delta, resized_nearest, rmse, scale_factor

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ALIGNMENTS = ("affine", "scale", "disparity")

FEWEST_PIXELS = 50
"""Pictures with fewer scored pixels are left out: nothing can be aligned to them."""


def scored_pixels(view: View, dataset: BenchDataset) -> Mask | None:
    """Where depth is scored: known, within the range of the data set, inside its crop. None where hardly any is."""
    if view.depth is None:
        return None
    low, high = dataset.depth_range
    mask = dataset.crop.mask(*view.depth.shape) & (view.depth > low) & (view.depth <= high)
    if view.mask is not None:
        mask &= view.mask
    return mask if mask.sum() >= FEWEST_PIXELS else None


def mono_scores(predicted: Array, true: Array, mask: Mask, limits: tuple[float, float]) -> Scores:
    """All scores of one picture.

    Args:
        predicted: z-depth in any unit, at the size of the truth.
        true: z-depth.
        mask: scored pixels.
        limits: aligned depth is kept within them, as far as they are finite.
    """
    scores: Scores = {}
    low, high = max(limits[0], 1e-6), limits[1]
    aligned = {
        "affine": aligned_affine(predicted, true, mask),
        "scale": predicted * scale_factor(predicted, true, mask),
        "disparity": aligned_affine(predicted, true, mask, space="disparity"),
    }
    for name, depth in aligned.items():
        kept = np.where(np.isfinite(depth), depth.clip(low, high), np.nan)
        scores[f"delta_{name}"] = delta(kept, true, mask)
        scores[f"absrel_{name}"] = abs_rel(kept, true, mask)
        scores[f"rmse_{name}"] = rmse(kept, true, mask)
    edges = boundary_scores(predicted, true, mask)
    if edges is not None:
        scores |= {"edge_precision": edges.precision, "edge_recall": edges.recall, "edge_f1": edges.f1}
    flying = flying_rate(aligned["scale"], true, mask)
    return scores if flying is None else scores | {"flying": flying}


def mean_over_images(rows: list[Scores]) -> Scores:
    """The mean of each score over the pictures that have it, and how many pictures there were.

    Raises:
        InputError: there is no picture.
    """
    if not rows:
        raise InputError("scene", "no picture with enough true depth", f"one with {FEWEST_PIXELS} scored pixels")
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            values[name].append(value)
    return {name: float(np.mean(v)) for name, v in values.items()} | {"images": float(len(rows))}


def single_depths(task: Task, *, given_intrinsics: bool = False) -> Iterator[tuple[Array, Array, Mask]]:
    """Predicted and true depth and the scored pixels of each picture, seen by itself, that has enough of them.

    Args:
        given_intrinsics: hand the true camera matrices in.

    Raises:
        InputError: the predictor gives no depth.
    """
    for i in range(len(task.frames)):
        view = task.view(i)
        mask = scored_pixels(view, task.dataset)
        if mask is None or view.depth is None:
            continue
        depth = task.predict([i], given_intrinsics=given_intrinsics).depth
        if depth is None:
            raise InputError("model", "no depth", "a predictor that gives depth")
        predicted = resized_nearest(np.asarray(depth, np.float64), *view.depth.shape)[0]
        yield predicted, view.depth.astype(np.float64), mask


def _score(task: Task) -> Scores:
    return mean_over_images([mono_scores(*depths, task.dataset.depth_range) for depths in single_depths(task)])


def _columns() -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name in ALIGNMENTS:
        columns[f"delta_{name}"] = Column(title=f"δ1, {name}", better="higher")
        columns[f"absrel_{name}"] = Column(title=f"AbsRel, {name}", better="lower")
    columns["edge_precision"] = Column(title="edge precision", better="higher")
    columns["edge_recall"] = Column(title="edge recall", better="higher")
    columns["edge_f1"] = Column(title="edge F1", better="higher")
    return columns | {"flying": Column(title="flying at edges", better="lower")}


MODE = Mode(
    name="mono",
    about="One picture at a time; means over pictures. Three alignments for each picture, by the pixels that are "
    "scored: 'affine' is scale and shift of depth by least squares, 'scale' the median ratio, 'disparity' scale and "
    "shift of 1/depth by least squares. Aligned depth is clamped to the range of the data set. Edges: pixel-exact "
    "precision, recall and F1 over ratios from 1.05 to 1.25. Flying: part of the pixels at true edges whose depth, "
    "after 'scale', hangs between the surfaces. Predictions come to the size of the truth by the nearest pixel.",
    columns=_columns(),
    score=_score,
)
