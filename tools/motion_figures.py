"""How well what moves is found on procedural scenes: the table of docs/measured/motion.md.

    python tools/motion_figures.py --out docs/measured/motion.md

Scenes with two moving bodies, six views over three seconds; true depth with 1 % of noise, poses off by 0.2 % of the
median depth. A pixel that moves can be told only where another view sees its place, or what hides it: the third column
says how many of them can.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.refine.consistency import residuals
from depth_anything_3.refine.motion import still_pixels
from depth_anything_3.synth.sample import build, cameras_for, film
from depth_anything_3.types.prediction import Prediction, usable_pixels

FIRST, HEIGHT, WIDTH, VIEWS, SECONDS = 9101, 72, 96, 6, 3.0
LEAST = 0.002  # of the pixels must move
DEPTH_NOISE, POSE_NOISE = 0.01, 0.002

Mask = npt.NDArray[np.bool_]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=24)
    arguments = parser.parse_args()
    rows: list[tuple[int, Mask, Mask, float]] = []
    seed = FIRST
    while len(rows) < arguments.scenes:
        prediction, moving = _scene(seed)
        if moving.mean() >= LEAST:
            rows.append((seed, ~still_pixels(prediction), moving, _told(prediction, moving)))
        seed += 1
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(_table(rows), encoding="utf-8")


def _scene(seed: int) -> tuple[Prediction, Mask]:
    """What a good network would say of a scene, and which pixels move."""
    times = np.linspace(0, SECONDS, VIEWS).tolist()
    scene, motions = build(seed, moving=2)
    cameras = cameras_for(scene, motions, times, HEIGHT, WIDTH, seed=seed)
    sample = film(scene, motions, cameras, HEIGHT, WIDTH, times=times)
    rng = np.random.default_rng(seed)
    poses = sample.extrinsics[:, :3].astype(np.float32)
    poses[:, :, 3] += POSE_NOISE * np.median(sample.depth) * rng.normal(size=(VIEWS, 3))
    depth = (sample.depth * np.exp(DEPTH_NOISE * rng.normal(size=sample.depth.shape))).astype(np.float32)
    lenses = sample.intrinsics.astype(np.float32)
    return Prediction(depth=depth, is_metric=True, extrinsics=poses, intrinsics=lenses, sky=sample.sky), sample.moving


def _told(prediction: Prediction, moving: Mask) -> float:
    """Share of the moving pixels of whose place another view says anything."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    keep = usable_pixels(prediction)
    told = np.zeros(keep.shape, bool)
    for pair in residuals(prediction.depth, prediction.intrinsics, prediction.extrinsics, keep):
        told[pair.view][keep[pair.view]] |= np.isfinite(pair.residual)
    return float(told[moving].mean())


def _table(rows: list[tuple[int, Mask, Mask, float]]) -> str:
    overlaps = [float((found & moving).sum() / (found | moving).sum()) for _, found, moving, _ in rows]
    lines = [
        "Written by `tools/motion_figures.py`, whose head says how.",
        "",
        "| scene | moving | seen by another view | intersection over union | standing still, taken for moving |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (seed, found, moving, told), overlap in zip(rows, overlaps, strict=True):
        lines.append(f"| {seed} | {moving.mean():.1%} | {told:.0%} | {overlap:.2f} | {(found & ~moving).mean():.2%} |")
    both = sum(int((found & moving).sum()) for _, found, moving, _ in rows)
    either = sum(int((found | moving).sum()) for _, found, moving, _ in rows)
    good = sum(overlap >= 0.5 for overlap in overlaps)
    lines += ["", f"Median {np.median(overlaps):.2f}, of all pixels together {both / either:.2f}; "
              f"at least .5 in {good} of {len(rows)} scenes."]  # fmt: skip
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
