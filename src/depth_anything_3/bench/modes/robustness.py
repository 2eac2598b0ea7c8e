"""What is left when the pictures get worse: five kinds of harm at five strengths each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.task import Disturb, Task
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import abs_rel, delta, resized_nearest, scale_factor
from depth_anything_3.metrics.pose import auc, errors_of_pairs, relative_poses

Picture = npt.NDArray[np.uint8]

STRENGTHS = (1, 2, 3, 4, 5)

_BLUR = (0.002, 0.004, 0.006, 0.009, 0.013)  # standard deviation as a part of the longer side
_NOISE = (0.02, 0.04, 0.08, 0.12, 0.18)  # of the range of values, at a middle grey
_LIGHT = (0.5, 0.3, 0.18, 0.1, 0.05)  # part of the light that arrives
_QUALITY = (40, 25, 15, 10, 5)
_STOPS = (0.5, 1.0, 1.5, 2.0, 2.5)  # of every other picture
_FULL_WELL = 400.0  # photons that make white in low light
_GAMMA = 2.2


def blurred(picture: Picture, number: int, strength: int, seed: int) -> Picture:
    """Out of focus: a Gaussian that grows with the picture."""
    sigma = _BLUR[strength - 1] * max(picture.shape[:2])
    return cv2.GaussianBlur(picture, (0, 0), sigma)  # type: ignore[return-value]


def noisy(picture: Picture, number: int, strength: int, seed: int) -> Picture:
    """Gaussian noise, each value by itself."""
    noise = np.random.default_rng([seed, number, strength]).normal(0, 255 * _NOISE[strength - 1], picture.shape)
    return _bytes(picture + noise)


def dark(picture: Picture, number: int, strength: int, seed: int) -> Picture:
    """Less light, brightened again by half of what is missing (in stops), with the noise of few photons."""
    light = _LIGHT[strength - 1]
    photons = np.random.default_rng([seed, number, strength]).poisson(_linear(picture) * light * _FULL_WELL)
    return _encoded(photons / (_FULL_WELL * np.sqrt(light)))


def compressed(picture: Picture, number: int, strength: int, seed: int) -> Picture:
    """JPEG of low quality."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY[strength - 1]])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # what was just encoded
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


def exposure_jump(picture: Picture, number: int, strength: int, seed: int) -> Picture:
    """Every other picture exposed for longer, the ones between for shorter; what gets too bright is white."""
    stops = _STOPS[strength - 1] * (1 if number % 2 else -1)
    return _encoded(_linear(picture) * 2**stops)


KINDS: Mapping[str, Callable[[Picture, int, int, int], Picture]] = {
    "blur": blurred,
    "noise": noisy,
    "low_light": dark,
    "jpeg": compressed,
    "exposure_jump": exposure_jump,
}
"""Harm by name: from a picture, its number in the scene, a strength of 1 to 5 and a seed."""


def _score(task: Task) -> Scores:
    scores = {f"{name}@clean": value for name, value in _scores(task, task.predict()).items()}
    for kind, harm in KINDS.items():
        rows = []
        for strength in STRENGTHS:
            disturbed = (f"{kind}_{strength}_{task.options.seed}", _disturb(harm, strength, task.options.seed))
            rows.append(_scores(task, task.predict(disturbed=disturbed)))
            scores |= {f"{name}@{kind}_{strength}": value for name, value in rows[-1].items()}
        scores |= {f"{name}@{kind}": float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return scores


def _disturb(harm: Callable[[Picture, int, int, int], Picture], strength: int, seed: int) -> Disturb:
    return partial(_harmed, harm, strength, seed)


def _harmed(
    harm: Callable[[Picture, int, int, int], Picture], strength: int, seed: int, picture: Picture, number: int
) -> Picture:
    return harm(picture, number, strength, seed)


def _scores(task: Task, estimate: Estimate) -> Scores:
    if estimate.depth is None:
        raise InputError("model", "no depth", "a predictor that gives depth")
    pairs = [
        (resized_nearest(np.asarray(estimate.depth[i : i + 1], np.float64), *view.depth.shape)[0], view.depth)
        for i in range(len(task.frames))
        if (view := task.view(i)).depth is not None
    ]
    predicted, true = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    scale = scale_factor(predicted, true)
    views = [(p * scale, g) for p, g in pairs if (g > 0).any()]
    scores = {
        "delta": float(np.mean([delta(p, g) for p, g in views])),
        "absrel": float(np.mean([abs_rel(p, g) for p, g in views])),
    }
    if estimate.extrinsics is not None and len(task.frames) > 1:
        errors = errors_of_pairs(relative_poses(estimate.extrinsics), task.poses)
        scores["auc_30"] = auc(errors.pair_deg, 30)
    return scores


def _linear(picture: Picture) -> npt.NDArray[np.float64]:
    return (picture / 255.0) ** _GAMMA


def _encoded(light: npt.NDArray[np.float64]) -> Picture:
    return _bytes(255 * np.clip(light, 0, 1) ** (1 / _GAMMA))


def _bytes(values: npt.NDArray[np.floating]) -> Picture:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _columns() -> dict[str, Column]:
    names = {"delta": "δ1", "auc_30": "AUC@30"}
    return {
        f"{score}@{kind}": Column(title=f"{title}, {kind.replace('_', ' ')}", better="higher")
        for score, title in names.items()
        for kind in ("clean", *KINDS)
    }


MODE = Mode(
    name="robustness",
    about="All views together, from worse and worse pictures: blur, noise, low light (few photons), JPEG, and an "
    "exposure that jumps from view to view, at five strengths each; columns are means over the five. Depth after one "
    "scale per scene (median ratio), poses gauge-free.",
    columns=_columns(),
    score=_score,
)
