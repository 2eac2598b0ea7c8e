"""Pictures of places that a predictor has not seen a picture from, against the truth."""

from __future__ import annotations

from functools import cache

import numpy as np

from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.novel_views import Split, split_views
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.benchmark.base import BenchDataset
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.images import Score, find_lpips, psnr, ssim


def split_of(task: Task) -> Split:
    """Which frames of a task are seen and which are asked for.

    Raises:
        InputError: the data set has no rule for novel views, or the scene not enough views.
    """
    rule = task.dataset.novel_views
    if rule is None:
        raise InputError("data", task.dataset.name, "a data set with a rule for novel views")
    return split_views(rule, task.poses, depth=task.dataset.median_depth(task.scene))


def has_targets(dataset: BenchDataset, scene: str) -> bool:
    """Whether a scene has a view that is far enough from its context views, where that is asked for."""
    rule = dataset.novel_views
    if rule is None or rule.every is not None:
        return True
    poses = dataset.cameras(scene).extrinsics
    if poses is None:
        return True  # scoring it will say so
    try:
        split_views(rule, poses.astype(np.float64), depth=dataset.median_depth(scene))
    except InputError:
        return False
    return True


def _score(task: Task) -> Scores:
    split, rule = split_of(task), task.dataset.novel_views
    assert rule is not None
    score_lpips, why = _lpips()
    task.noted["context"] = tuple(task.frames[i] for i in split.context)
    task.noted["targets"] = tuple(task.frames[i] for i in split.targets)
    task.noted["lpips"] = (why,)
    made = task.predict(split.context, given_cameras=True, targets=split.targets, size=rule.size).pictures
    assert made is not None  # the task has checked it
    scorers = {"psnr": psnr, "ssim": ssim, **({} if score_lpips is None else {"lpips": score_lpips})}
    found: dict[str, list[float]] = {name: [] for name in scorers}
    for picture, target in zip(made, split.targets, strict=True):
        truth = task.view(target, rule.size).image
        if picture.shape != truth.shape:
            raise InputError("pictures", f"shape {picture.shape}", f"shape {truth.shape}, that of the targets")
        for name, scorer in scorers.items():
            found[name].append(scorer(picture / 255.0, truth / 255.0))
    return {name: float(np.mean(values)) for name, values in found.items()} | {"targets": float(len(made))}


@cache
def _lpips() -> tuple[Score | None, str]:
    return find_lpips()


MODE = Mode(
    name="nvs",
    about="Pictures from cameras that the predictor got no picture of; of the context views it gets pictures and true "
    "cameras. Mean over the targets of a scene, then over scenes. Sets of photographs as in the paper: pictures scaled "
    "and cut at the centre to 270 x 480, every eighth a target, twelve context views by farthest-point sampling over "
    "the rest (distance: between centres by their median distance from the middle, plus angle by pi; from the view "
    "nearest to the middle). Procedural scenes: four context views so chosen, targets are all views at least ten "
    "degrees off each of them (orientation, or direction from what is in front at the median depth of the "
    "scene). LPIPS with VGG where the package lpips and its weights are there. Models draw the "
    "Gaussians of their head, or, without one, plain ones from their depth (gs_source=depth).",
    columns={
        "psnr": Column(title="PSNR [dB]", better="higher"),
        "ssim": Column(title="SSIM", better="higher"),
        "lpips": Column(title="LPIPS", better="lower"),
        "targets": Column(title="targets"),
    },
    score=_score,
    needs=frozenset({"views"}),
    given_cameras=True,
    suits=has_targets,
)
