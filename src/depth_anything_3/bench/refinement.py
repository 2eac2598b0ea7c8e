"""The protocol "refinement": how far refinement brings an answer of known errors, on procedural scenes.

In place of a network stands the truth, disturbed: every camera but the first is turned by 5 degrees about a random
axis, all focal lengths are off by 15 %, the depth of each view by a smooth field of 10 %. So the result says what
refinement itself can and cannot do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.bench.evaluate import MIN_BASELINE
from depth_anything_3.errors import DA3Error
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.metrics.depth import abs_rel, delta, scale_factor
from depth_anything_3.metrics.pose import auc, focal_errors, pair_errors
from depth_anything_3.refine.features import detect_sift
from depth_anything_3.refine.prediction import Pictures, refine_prediction
from depth_anything_3.synth.cameras import Cameras, make_cameras, overlaps
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import Sample, build, film
from depth_anything_3.synth.scenes import Scene
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

ROTATION_DEG, FOCAL, DEPTH = 5.0, 0.15, 0.10
"""Errors of the oracle: turn of a camera in degrees, relative error of focal lengths, of depth."""

SCENES: tuple[str, ...] = ("textured", "overlay", "wide", "textureless")
"""Kinds of scenes: with texture, and neighbouring views as somebody with a camera takes them; the same with a pattern
over a quarter of every picture that moves on its own; cameras anywhere, also face to face or before a bare wall; the
same without texture."""

_TITLES = {
    "rotation_deg": "rotation [deg]",
    "direction_deg": "direction [deg]",
    "auc_30": "AUC@30",
    "focal": "focal error",
    "depth_median": "median depth error",
    "depth": "AbsRel",
    "delta": "δ1.25",
}
_FIRST_SEED = 910_000
_VIEWS, _HEIGHT, _WIDTH = 6, 360, 480
_FOV_DEG = (50.0, 75.0)
_OVERLAP = (0.5, 0.9)  # share of a view that an earlier one shows too
_TURN_DEG, _SHARED = 40.0, 0.45  # neighbours in textured scenes: their directions at most, and what they share at least
_KEYPOINTS = 200  # that every view of a textured scene has
_DRAWS = 60  # of cameras, before a scene without such views is passed over


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Errors of one answer.

    Attributes:
        rotation_deg, direction_deg: medians over pairs of views.
        auc_30: of the larger of the two.
        focal: mean relative error.
        depth_median, depth: median and mean relative error after one scale.
        delta: share of the pixels within 25 %.
    """

    rotation_deg: float
    direction_deg: float
    auc_30: float
    focal: float
    depth_median: float
    depth: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One scene: the oracle's errors and those that are left, and how many cameras came from matches."""

    kind: str
    seed: int
    before: Scores
    after: Scores
    placed: int


def refinement_outcomes(kinds: Sequence[str] = SCENES, *, scenes: int = 20) -> Iterator[Outcome]:
    """Run the protocol.

    Args:
        kinds: of :data:`SCENES`.
        scenes: of each kind.
    """
    for kind in kinds:
        for seed, sample in itertools.islice(_scenes(kind), scenes):
            prediction, pictures = oracle(sample, seed - _FIRST_SEED)
            refined = refine_prediction(
                prediction, pictures, mode="full", camera_sigma=(np.radians(ROTATION_DEG), FOCAL)
            )
            assert refined.refinement is not None
            yield Outcome(
                kind=kind,
                seed=seed,
                before=_scores(prediction, sample),
                after=_scores(refined, sample),
                placed=refined.refinement.pose_source.count("matches"),
            )


def _scenes(kind: str) -> Iterator[tuple[int, Sample]]:
    for seed in itertools.count(_FIRST_SEED):
        try:
            sample = render_scene(kind, seed)
        except DA3Error:
            continue
        yield seed, sample


def render_scene(kind: str, seed: int) -> Sample:
    """A scene of one of :data:`SCENES`, with uint8 pictures.

    Raises:
        DA3Error: no such views were found in the scene.
    """
    scene, _ = build(seed, style="textureless" if kind == "textureless" else "textured")
    if kind in ("wide", "textureless"):
        return _filmed(scene, _cameras(scene, seed))
    for draw in range(_DRAWS):
        cameras = _cameras(scene, seed, draw)
        if _connected(scene, cameras):
            sample = _filmed(scene, cameras)
            if all(len(detect_sift(picture).xy) >= _KEYPOINTS for picture in sample.rgb):
                return replace(sample, rgb=with_overlay(sample.rgb, seed)) if kind == "overlay" else sample
    raise DA3Error(f"no connected views with texture in scene {seed} ({scene.kind}) in {_DRAWS} draws of cameras")


def _cameras(scene: Scene, seed: int, draw: int = 0) -> Cameras:
    """Views of a scene, each sharing something with an earlier one."""
    fov = float(np.random.default_rng(seed).uniform(*_FOV_DEG))
    how: dict[str, Any] = {"kind": "random", "fov_deg": fov, "off_centre": False, "overlap": _OVERLAP}
    return make_cameras(scene, _VIEWS, _HEIGHT, _WIDTH, seed=seed + 1000 * draw, **how)


def _connected(scene: Scene, cameras: Cameras) -> bool:
    """Whether there is a way between any two views over pairs that look at the same from like directions."""
    share = overlaps(scene, cameras, _HEIGHT, _WIDTH)
    rotations = cameras.extrinsics[:, :, :3].astype(np.float64)
    cosine = (np.einsum("aij,bij->ab", rotations, rotations) - 1) / 2
    near = ((share + share.T) / 2 >= _SHARED) & (cosine >= np.cos(np.radians(_TURN_DEG)))
    return bool(np.linalg.matrix_power(near.astype(np.int64) + np.eye(_VIEWS, dtype=np.int64), _VIEWS).all())


def _filmed(scene: Scene, cameras: Cameras) -> Sample:
    sample = film(scene, (), cameras, _HEIGHT, _WIDTH, samples=2)
    pixels: npt.NDArray[np.uint8] = to_bytes(torch.from_numpy(sample.rgb)).numpy()
    return replace(sample, rgb=pixels)


def with_overlay(pixels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """A textured square over a quarter of every picture, elsewhere in each: something that moves on its own."""
    rng = np.random.default_rng([seed, 5])
    height, width = pixels.shape[1:3]
    h, w = height // 2, width // 2
    pattern = cv2.resize(
        rng.integers(0, 256, (h // 6, w // 6, 3), dtype=np.uint8), (w, h), interpolation=cv2.INTER_CUBIC
    )
    covered = pixels.copy()
    top, left = (height - h) // 2, (width - w) // 2
    for picture in covered:
        y = int(np.clip(top + rng.integers(-h // 4, h // 4 + 1), 0, height - h))
        x = int(np.clip(left + rng.integers(-w // 4, w // 4 + 1), 0, width - w))
        picture[y : y + h, x : x + w] = pattern
    return covered


def oracle(sample: Sample, seed: int) -> tuple[Prediction, Pictures]:
    """The truth with the errors above, as a network would give it, and the pictures that belong to it.

    Args:
        sample: with uint8 pictures.
        seed: of the errors.
    """
    rng = np.random.default_rng([seed, 6])
    count, height, width = sample.depth.shape
    poses, lenses = sample.extrinsics.astype(np.float64), sample.intrinsics.astype(np.float64)
    for pose in poses[1:]:
        axis = rng.normal(size=3)
        pose[:] = rotation_from_vector(np.radians(ROTATION_DEG) * axis / np.linalg.norm(axis)) @ pose
    lenses[:, [0, 1], [0, 1]] *= np.exp(FOCAL * rng.choice([-1.0, 1.0]))
    coarse = rng.normal(size=(count, 4, 5))
    smooth = np.stack([cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse])
    record = ResizeRecord(
        source_hw=(height, width), processed_hw=(height, width), scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0)
    )
    depth = np.where(sample.depth > 0, sample.depth * np.exp(DEPTH * smooth), sample.depth.max())
    prediction = Prediction(
        depth=depth.astype(np.float32),
        is_metric=False,
        sky=sample.sky,
        extrinsics=poses.astype(np.float32),
        intrinsics=lenses.astype(np.float32),
        processed_images=sample.rgb,
        records=(record,) * count,
    )
    return prediction, Pictures(pixels=sample.rgb, records=(record,) * count)


def _scores(prediction: Prediction, sample: Sample) -> Scores:
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    size = float(np.median(sample.depth[sample.depth > 0]))
    pairs = pair_errors(
        prediction.extrinsics.astype(np.float64), sample.extrinsics, scene_size=size, min_baseline=MIN_BASELINE
    )
    true = sample.depth.astype(np.float64)
    scaled = prediction.depth.astype(np.float64) * scale_factor(prediction.depth, true)
    known = true > 0
    return Scores(
        rotation_deg=float(np.median(pairs.rotation_deg)),
        direction_deg=float(np.nanmedian(pairs.translation_deg)),
        auc_30=auc(pairs.pair_deg, 30),
        focal=float(focal_errors(prediction.intrinsics.astype(np.float64), sample.intrinsics).mean()),
        depth_median=float(np.median(np.abs(scaled[known] / true[known] - 1))),
        depth=abs_rel(scaled, true),
        delta=delta(scaled, true),
    )


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Medians over the scenes of each kind, before and after, and the scenes one by one."""
    names = [field.name for field in fields(Scores)]
    header = "| | cameras placed | " + " | ".join(_TITLES[name] for name in names) + " |"
    line = "|---" * (len(names) + 2) + "|"
    rows = [header, line]
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        placed = sum(outcome.placed for outcome in mine) / (_VIEWS * len(mine))
        for when in ("before", "after"):
            medians = [float(np.median([asdict(getattr(o, when))[name] for o in mine])) for name in names]
            share = f"{placed:.0%}" if when == "after" else ""
            rows.append(f"| {kind}, {when} | {share} | " + " | ".join(f"{m:.3f}" for m in medians) + " |")
    detail = ["| scene | cameras placed | " + " | ".join(_TITLES[name] for name in names) + " |", line]
    for outcome in outcomes:
        pairs = [f"{asdict(outcome.before)[name]:.2f} → {asdict(outcome.after)[name]:.3f}" for name in names]
        detail.append(f"| {outcome.kind} {outcome.seed} | {outcome.placed} of {_VIEWS} | " + " | ".join(pairs) + " |")
    intro = (
        f"{_VIEWS} views of {_WIDTH} x {_HEIGHT} pixels of procedural scenes; the truth with every camera but the first"
        f" turned by {ROTATION_DEG:g} degrees, focal lengths off by {FOCAL:.0%}, and depth by a smooth field of "
        f'{DEPTH:.0%}, before and after `refine="full"`. *textured*: the views are connected by pairs that share '
        f"{_SHARED:.0%} and are turned by at most {_TURN_DEG:g} degrees, and each has {_KEYPOINTS} keypoints (scenes "
        f"for which {_DRAWS} draws of cameras give no such views are passed over); repeated patterns included. "
        "*overlay*: the same with a pattern over a quarter of every picture that moves on its own. *wide*: scenes as "
        f"they come, with cameras anywhere that share {_OVERLAP[0]:.0%} with an earlier one, also when they look at it "
        "from the other side, or at a bare wall. *textureless*: the same without any texture. Medians over the scenes."
    )
    return "\n".join(
        ["# Refinement of an answer with known errors", "", intro, "", *rows, "", "## Scenes", "", *detail, ""]
    )
