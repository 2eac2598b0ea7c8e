"""What it helps to know a rig: the procedural six-camera rig, scored, as a table in Markdown.

    python tools/rig_table.py --scenes 26 --out docs/measured/rigs.md

Scenes are those of the rig slice of the held-out set, with a rig of six cameras that stops four times. Scored are the
poses of all pairs of views (area under the curve up to 30 degrees; pairs closer than 2 % of the median depth count by
their rotation), depth after one scale per scene (share within 25 %), and the seams between cameras of one time.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.infer.rigs import snap_to_rig
from depth_anything_3.metrics.depth import delta, resized_nearest, scale_factor, valid_pixels
from depth_anything_3.metrics.pose import pose_auc
from depth_anything_3.metrics.seams import seam_error
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.held_out import HeldOutScene, held_out, take
from depth_anything_3.synth.sample import Sample, build
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.types.rig import Rig

CAMERAS, TIMES = 6, 4
HEAD = ("rig", "times", "pose AUC30", "depth delta1", "seam error")


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--scenes", type=int, default=26)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = DepthAnything3.from_pretrained(arguments.model)
    specs = [spec for spec in held_out() if "rig" in spec.slices][: arguments.scenes]
    rows: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for spec in specs:
        sample = render(spec)
        for name, times, prediction in predictions(model, sample):
            rows.setdefault((name, times), []).append(scores(prediction, sample, CAMERAS * times))
        print(spec.name, flush=True)
        with atomic_path(arguments.out) as temporary:  # after every scene, so that a stopped run is worth something
            temporary.write_text(markdown(rows, arguments.model), encoding="utf-8")


def render(spec: HeldOutScene) -> Sample:
    """The scene, without what moves in it, seen by the rig at all times."""
    scene, _ = build(spec.seed, spec.kind, style=spec.style, thin=spec.thin)
    cameras = make_cameras(scene, CAMERAS * TIMES, spec.height, spec.width, seed=spec.camera_seed, kind="rig")
    return take(scene, (), cameras, spec.height, spec.width, seed=spec.seed)


def predictions(model: DepthAnything3, sample: Sample) -> Iterator[tuple[str, int, Prediction]]:
    """What is said of the rig, by what is known of it."""
    pose = sample.extrinsics[:CAMERAS].astype(np.float64)
    turn = pose[:, :, :3] @ pose[0, :, :3].T
    rig = Rig(
        camera_from_rig=np.concatenate([turn, pose[:, :, 3:] - turn @ pose[0, :, 3:]], -1),
        intrinsics=sample.intrinsics[:CAMERAS].astype(np.float64),
    )
    first, every = list(sample.rgb[:CAMERAS]), list(sample.rgb)
    yield "unknown", 1, model.inference(first)
    yield "known", 1, model.inference(first, rig=rig)
    together = model.inference(every)
    yield "unknown", TIMES, together
    yield "estimated", TIMES, snap_to_rig(together, CAMERAS)
    yield "known", TIMES, snap_to_rig(together, rig)


def scores(prediction: Prediction, sample: Sample, views: int) -> tuple[float, float, float]:
    """AUC, delta and seam error of the first so many views."""
    true, K, poses = sample.depth[:views], sample.intrinsics[:views], sample.extrinsics[:views]
    depth = resized_nearest(prediction.depth.astype(np.float64), *true.shape[1:])
    scaled = depth * scale_factor(depth, true)
    assert prediction.extrinsics is not None
    size = float(np.median(true[valid_pixels(true)]))
    area = pose_auc(prediction.extrinsics, poses, thresholds_deg=(30,), scene_size=size)[30]
    right = np.mean([delta(p, g) for p, g in zip(scaled, true, strict=True) if valid_pixels(g).any()])
    parts = [slice(i, i + CAMERAS) for i in range(0, views, CAMERAS)]
    return area, float(right), float(np.nanmean([seam_error(depth[p], true[p], K[p], poses[p]) for p in parts]))


def markdown(rows: dict[tuple[str, int], list[tuple[float, float, float]]], model: str) -> str:
    """Means over scenes as a table."""
    scenes = len(next(iter(rows.values())))
    lines = [f"Six-camera rig, {scenes} scenes, `{model}`. Written by `tools/rig_table.py`.", "", _row(HEAD)]
    lines.append(_row(["---"] * len(HEAD)))
    for (name, times), values in rows.items():
        lines.append(_row([name, str(times), *(f"{v:.3f}" for v in np.nanmean(np.array(values), axis=0))]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
