"""Long sequences through a real network: path errors beside the truth, plots, and a picture of the cloud.

usage: python benchmarks/streaming_sequences.py walk   --out FOLDER [--frames 300] [--laps 3] [--seed 3]
       python benchmarks/streaming_sequences.py rgbd DIR --out FOLDER
       python benchmarks/streaming_sequences.py video FILE --out FOLDER [--frames 300]
       common: [--model bundled] [--window 60] [--overlap 10] [--refine off|poses|full ...] [--process-res N]
               [--runs chain loops "loops, anchors"]

``walk`` renders laps around a room of the procedural world; ``rgbd`` reads a folder with ``images`` and ``scene.npz``.
Each is run with plain chaining (loops off), with loops, and with loops and the poses of shared frames told to the
network (``conditioning="anchors"``; the other two are not). ATE is the root mean square of the distances between the
camera centres after a similarity, RPE that of the motion from one frame to the next, both in metres, and in degrees.
Numbers also go to a file beside the picture. What was rendered and the state of each run stay in FOLDER: a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.io.sources import list_images
from depth_anything_3.io.video import iterate_video
from depth_anything_3.metrics.trajectory import step_errors, trajectory_errors
from depth_anything_3.stream.events import LoopChecked
from depth_anything_3.stream.feed import feed
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.output import voxel_cloud
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.cameras import Cameras, clearance, intrinsics_of, look_at
from depth_anything_3.synth.render import render, to_bytes
from depth_anything_3.synth.scenes import Scene, make_scene
from depth_anything_3.types.options import REFINE_MODES, InferOptions, PreprocessOptions, RefineMode, StreamOptions

HEIGHT, WIDTH = 84, 112

RUNS = {
    "chain": {"loops": "off", "conditioning": "off"},
    "loops": {"loops": "final", "conditioning": "off"},
    "loops, anchors": {"loops": "final", "conditioning": "anchors"},
}


@dataclass(frozen=True)
class Recording:
    """Frames, and the true world-to-camera poses where they are known."""

    frames: Sequence[StreamFrame]
    truth: npt.NDArray[np.float64] | None


def laps_around(scene: Scene, count: int, laps: int) -> Cameras:
    """Cameras on an ellipse that runs into nothing, looking ahead and a little inwards; each lap is smaller."""
    centres = scene.world.solids.centre.numpy()
    low, high = centres.min(0), centres.max(0)
    turn = np.linspace(0, 2 * np.pi * laps, count, endpoint=False)
    for share in (0.75, 0.65, 0.55, 0.45, 0.35, 0.25):
        half = share * (high - low)[:2] / 2 * (1 - 0.02 * turn[:, None] / (2 * np.pi))
        place = (low + high)[:2] / 2 + half * np.stack([np.cos(turn), np.sin(turn)], -1)
        eye = np.concatenate([place, np.full((count, 1), 1.5)], 1)
        if clearance(scene.world, eye).min() > 0.3:
            break
    ahead = np.stack([-half[:, 0] * np.sin(turn), half[:, 1] * np.cos(turn)], -1)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    look = ahead - 0.35 * np.stack([np.cos(turn), np.sin(turn)], -1)
    target = eye + np.concatenate([look, np.full((count, 1), -0.15)], 1)
    lens = np.tile(intrinsics_of(75, HEIGHT, WIDTH), (count, 1, 1))
    return Cameras(intrinsics=lens, extrinsics=look_at(eye, target, np.zeros(count)))


def walk(count: int, laps: int, seed: int, cache: Path) -> Recording:
    """Pictures of the walk, each rendered once."""
    folder = cache / f"walk_{seed}_{count}_{laps}"
    folder.mkdir(exist_ok=True)
    scene = make_scene(seed, "room")
    cameras = laps_around(scene, count, laps)
    files = [folder / f"{i:05d}.png" for i in range(count)]
    for i, file in enumerate(files):
        if not file.exists():
            with atomic_path(file) as temporary:
                cv2.imwrite(str(temporary), _picture(scene, cameras, i)[..., ::-1])
    frames = [StreamFrame(image=file, name=file.name) for file in files]
    return Recording(frames, cameras.extrinsics.astype(np.float64))


def _picture(scene: Scene, cameras: Cameras, i: int) -> npt.NDArray[np.uint8]:
    one = Cameras(intrinsics=cameras.intrinsics[i : i + 1], extrinsics=cameras.extrinsics[i : i + 1])
    picture: npt.NDArray[np.uint8] = to_bytes(render(scene, one, HEIGHT, WIDTH).rgb).numpy()[0]
    return picture


def rgbd(folder: Path) -> Recording:
    """Photos with the poses of ``scene.npz``."""
    scene = np.load(folder / "scene.npz")
    files = list_images(folder / "images")
    names = [str(name) for name in scene["names"]]
    truth = np.stack([invert_rigid(scene["c2w"][names.index(_listed(file, names))][:3]) for file in files])
    return Recording([StreamFrame(image=file, name=file.name) for file in files], truth)


def _listed(file: Path, names: Sequence[str]) -> str:
    return file.name if file.name in names else file.stem


def video(file: Path, most: int) -> Recording:
    """Frames without truth."""
    found = islice(iterate_video(file), most)
    return Recording([StreamFrame(image=f.image, timestamp=f.timestamp, name=f.name) for f in found], None)


def run(
    model: DepthAnything3,
    sequence: Recording,
    args: argparse.Namespace,
    options: dict[str, Any],
    refine: RefineMode,
    state: Path,
) -> dict[str, Any]:
    """One run: numbers, the path, and points of the cloud."""
    started = time.perf_counter()
    with StreamingReconstructor(
        model,
        StreamOptions(window=args.window, overlap=args.overlap, **options),
        inference=InferOptions(refine=refine),
        preprocessing=PreprocessOptions(process_res=args.process_res or model.process_res),
        store=state,
        total=len(sequence.frames),
    ) as stream:
        came = stream.received
        events = [*feed(stream, sequence.frames[came:]), *stream.finalize()]
        seconds = time.perf_counter() - started
        checked = [event for event in events if isinstance(event, LoopChecked)]
        found: dict[str, Any] = {
            "frames": len(stream),
            "inferred_per_frame": round(stream.inferred / len(stream), 3),
            "frames_per_second": None if came else round(len(stream) / seconds, 2),
            "state_bytes_per_frame": stream.store.size // len(stream),
            "windows": len(stream.conditioned),
            "windows_conditioned": stream.conditioned.count("held"),
            "windows_disagreed": stream.conditioned.count("disagreed"),
            "loops_looked_at": len(checked),
            "loops_accepted": sum(event.check.accepted for event in checked),
        }
        path = stream.trajectory()
        if sequence.truth is not None:
            found |= errors(path, sequence.truth)
            found["loops_true"] = sum(_same_place(sequence.truth, e) for e in checked)
        with voxel_cloud(stream) as cloud:
            blocks = list(cloud.blocks())
    return {"numbers": found, "path": path, "cloud": blocks}


def errors(path: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> dict[str, float]:
    """ATE and RPE."""
    whole = trajectory_errors(path, truth)
    assert whole.similarity is not None
    step = step_errors(path, truth, scale=whole.similarity.scale)
    length = float(np.linalg.norm(np.diff(camera_centres(truth), axis=0), axis=1).sum())
    return {
        "path_metres": round(length, 3),
        "ate_metres": round(whole.rmse, 4),
        "ate_percent": round(100 * whole.rmse / length, 3),
        "rpe_metres": round(step.translation_rmse, 4),
        "rpe_degrees": round(step.rotation_rmse_deg, 3),
    }


def _same_place(truth: npt.NDArray[np.float64], event: LoopChecked) -> bool:
    a, b = truth[[event.candidate.first, event.candidate.second]]
    near = np.linalg.norm(camera_centres(np.stack([a, b]))[0] - camera_centres(np.stack([a, b]))[1]) < 1.0
    return bool(near and a[2, :3] @ b[2, :3] > 0.7)


def draw(runs: dict[str, dict[str, Any]], truth: npt.NDArray[np.float64] | None, file: Path) -> None:
    """The paths from above, aligned to the truth, and the cloud of the last run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), dpi=90)
    axes = _plane(camera_centres(truth) if truth is not None else camera_centres(next(iter(runs.values()))["path"]))
    if truth is not None:
        left.plot(*(camera_centres(truth) @ axes).T, "k", lw=2, alpha=0.4, label="truth")
    for name, found in runs.items():
        centres = camera_centres(found["path"])
        if truth is not None and (similarity := trajectory_errors(found["path"], truth).similarity) is not None:
            centres = similarity.on_points(centres)
        left.plot(*(centres @ axes).T, lw=1, label=name)
    left.set_aspect("equal")
    left.legend(fontsize=7)
    _, last = list(runs.items())[-1]
    xyz = np.concatenate([block for block, _ in last["cloud"]])
    rgb = np.concatenate([colour for _, colour in last["cloud"]])
    keep = np.random.default_rng(0).permutation(len(xyz))[:40_000]
    centres = camera_centres(last["path"])
    axes = _plane(centres)
    flat = xyz[keep] @ axes
    low, high = np.percentile(flat, [2, 98], axis=0)
    right.scatter(*flat.T, s=0.3, c=rgb[keep] / 255)
    right.plot(*(centres @ axes).T, "r", lw=0.6)
    right.set_xlim(low[0], high[0])
    right.set_ylim(low[1], high[1])
    right.set_aspect("equal")
    figure.tight_layout()
    figure.savefig(file)


def _plane(points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(3, 2): the two directions in which points are spread most."""
    _, _, axes = np.linalg.svd(np.asarray(points, np.float64) - points.mean(0), full_matrices=False)
    return np.asarray(axes[:2].T)


def _sources(args: argparse.Namespace) -> Iterator[Recording]:
    if args.kind == "walk":
        yield walk(args.frames, args.laps, args.seed, args.out)
    elif args.kind == "rgbd":
        yield rgbd(args.source)
    else:
        yield video(args.source, args.frames)


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    kept = {name: value for name, value in vars(args).items() if name not in ("out", "source")}
    return kept | {"source": None if args.source is None else args.source.name}


def main() -> None:
    """Run, print JSON, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("walk", "rgbd", "video"))
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--laps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--overlap", type=int, default=10)
    parser.add_argument("--refine", nargs="+", default=["off"], choices=REFINE_MODES)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--process-res", type=int)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = DepthAnything3.from_pretrained(args.model)
    for sequence in _sources(args):
        name = args.kind if args.source is None else args.source.stem
        runs = {}
        for refine, key in itertools.product(args.refine, args.runs):
            state = args.out / f"state_{name}_{refine}" / key
            title = key if len(args.refine) == 1 else f"{key}, refine={refine}"
            runs[title] = run(model, sequence, args, RUNS[key], refine, state)
        stem = f"{name}_{'_'.join(args.refine)}"
        draw(runs, sequence.truth, args.out / f"{stem}.png")
        found = {name: {run: found["numbers"] for run, found in runs.items()}, "arguments": _plain(args)}
        (args.out / f"{stem}.json").write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
