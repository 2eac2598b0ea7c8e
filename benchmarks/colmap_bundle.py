"""Whether bundle adjustment by COLMAP brings disturbed cameras back with the tracks that the export writes.

usage: python benchmarks/colmap_bundle.py [--seeds 20] [--views 6] [--output benchmarks/results/colmap_bundle.json]

Each seed is a rendered scene with exact depth and cameras. Refinement finds matches between the pictures; then every
camera is turned by 2 degrees and moved by 3 % of the median depth, the COLMAP export adjusts them (pycolmap), and what
it wrote is compared with the truth, in the frame that all axes agree on. Places are in shares of the median depth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.export import colmap
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.metrics.trajectory import align_by_orientations
from depth_anything_3.refine.prediction import Pictures, refine_prediction
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import build, film
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

SEED, HEIGHT, WIDTH = 920_000, 360, 480
KIND = "handheld"  # six views that share enough for matches, with a small baseline
TURN, SHIFT = np.radians(2.0), 0.03


def scene(seed: int, views: int) -> Prediction:
    """The exact answer about a scene, with the matches that refinement finds in its pictures."""
    world, _ = build(seed)
    cameras = make_cameras(world, views, HEIGHT, WIDTH, seed=seed, kind=KIND, fov_deg=60.0, off_centre=False)
    sample = film(world, (), cameras, HEIGHT, WIDTH)
    record = ResizeRecord(
        source_hw=(HEIGHT, WIDTH), processed_hw=(HEIGHT, WIDTH), scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0)
    )
    truth = Prediction(
        depth=sample.depth.astype(np.float32),
        is_metric=True,
        sky=sample.sky,
        extrinsics=sample.extrinsics.astype(np.float32),
        intrinsics=sample.intrinsics.astype(np.float32),
        processed_images=to_bytes(torch.from_numpy(sample.rgb)).numpy(),
        names=tuple(f"{i:02d}.png" for i in range(views)),
        records=(record,) * views,
    )
    assert truth.processed_images is not None
    pictures = Pictures(pixels=truth.processed_images, records=truth.records)
    refined = refine_prediction(truth, pictures, mode="poses", cameras_given=True)
    return replace(truth, observations=refined.observations)


def shaken(prediction: Prediction, seed: int) -> tuple[Prediction, float]:
    """Cameras turned and moved, each in its own direction; and the median depth."""
    assert prediction.extrinsics is not None
    rng, middle = np.random.default_rng(seed), float(np.median(prediction.depth[prediction.depth > 0]))
    axes, ways = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, len(prediction.depth), 3)))
    poses = rotation_from_vector(TURN * axes) @ prediction.extrinsics.astype(np.float64)
    poses[:, :, 3] += SHIFT * middle * ways
    return replace(prediction, extrinsics=poses.astype(np.float32)), middle


def errors(poses: Array, prediction: Prediction, unit: float) -> tuple[Array, Array]:
    """Of every camera: degrees, and distance in the unit."""
    assert prediction.extrinsics is not None
    true = prediction.extrinsics.astype(np.float64)
    moved = align_by_orientations(poses, true, scale=1.0).on_extrinsics(poses)
    turned = rotation_angle_deg(moved[:, :, :3] @ true[:, :, :3].swapaxes(1, 2))
    away = -np.einsum("nji,nj->ni", moved[:, :, :3], moved[:, :, 3])
    home = -np.einsum("nji,nj->ni", true[:, :, :3], true[:, :, 3])
    return turned, np.linalg.norm(away - home, axis=1) / unit


def measure(seed: int, views: int) -> dict[str, Any]:
    """Medians over the cameras of one scene."""
    truth = scene(seed, views)
    start, unit = shaken(truth, seed)
    assert start.extrinsics is not None
    with tempfile.TemporaryDirectory() as folder:
        colmap.export(start, Path(folder), colmap.Options(bundle_adjustment="poses", tracks="matches"))
        report = json.loads((Path(folder) / colmap.REPORT).read_text())
        adjusted = read_cameras(Path(folder)).extrinsics
        assert adjusted is not None
        after = errors(adjusted.astype(np.float64), truth, unit)
    before = errors(start.extrinsics.astype(np.float64), truth, unit)
    named = {"before": before, "after": after}
    found = {
        f"{what}_{when}": round(float(np.median(values[i])), 5)
        for when, values in named.items()
        for i, what in enumerate(("turned_deg", "moved"))
    }
    return {"seed": seed, **found, **{key: report[key] for key in report if key not in ("pycolmap", "refined")}}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Disturbed cameras, adjusted by COLMAP with the exported tracks.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    for seed in range(SEED, SEED + given.seeds):
        rows.append(measure(seed, given.views))
        print(json.dumps(rows[-1]), flush=True)
    names = [name for name in rows[0] if name.startswith(("turned", "moved", "reprojection"))]
    median = {name: round(float(np.median([row[name] for row in rows if row[name] is not None])), 5) for name in names}
    result = {"seeds": given.seeds, "views": given.views, "size": [HEIGHT, WIDTH], "median": median, "scenes": rows}
    print(json.dumps(median, indent=1))
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
