"""The protocol "real-mini": seven small real scenes with known cameras, beside what matching without a network says.

Scenes and pinned frames are those of :mod:`depth_anything_3.datasets.benchmark.real_mini`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from depth_anything_3._optional import require
from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.classical import Colmap, TwoViewSift
from depth_anything_3.bench.evaluate import Predictor, Run, run_in_processes, runs_of_views
from depth_anything_3.bench.held_out import ModelPredictor
from depth_anything_3.bench.report import HEADLINE_VIEWS
from depth_anything_3.bench.scenes import EvalScene, load_real_scene, select_views
from depth_anything_3.bench.trivial import trivial_predictors
from depth_anything_3.datasets.benchmark.real_mini import frame_lists
from depth_anything_3.errors import InputError, MissingExtraError
from depth_anything_3.types.options import check_choice

LONGEST_SIDE = 1024
"""Images are scaled down to it; a network scales them further to its own size."""

MODEL_ROWS: Mapping[str, str | None] = {"": None, ", refined": "full"}
"""Rows of every model: what is appended to its name, and the ``refine`` of its inference (None for none)."""

COLMAP, SIFT, TRIVIAL = "colmap", "SIFT, two views", "identity and mean"

ABOUT_ROWS: Mapping[str, str] = {
    COLMAP: "incremental mapping of pycolmap, with SIFT, exhaustive matching, one shared focal length that starts at "
    "1.2 times the longer side, and minimums relaxed for few views; a view that is not registered counts as an error "
    "of 180 degrees",
    SIFT: "a relative pose of every pair by itself, the focal length being taken as 1.2 times the longer side; a pair "
    "of views without a pose of its own gets that along the best-supported spanning tree of the others, with "
    "baselines of 1",
    TRIVIAL: "cameras that never moved, and the mean depth map and focal length of these very scenes",
}
"""What rows that are no model are."""

_ABOUT_SCENES = (
    "folders with `scene.npz` (names, K, c2w), `images/` and, where there is one, `depth/` in millimetres; "
    "`src/depth_anything_3/datasets/benchmark/real_mini.json` lists the frames. "
    "The poses of alicevision_buddha13 and lund_door12 "
    "come from structure from motion, which favours rows that match features. tum_fr1_rpy moves by 13 cm: its "
    "rotations say more than its translations. open3d_redwood5 belongs to the sequence of redwood_livingroom1_micro"
)


def load_views(data: str | os.PathLike[str], name: str) -> list[EvalScene]:
    """One scene, once for each of its lists of frames.

    Args:
        data: folder of scene folders.
        name: of the scene.

    Raises:
        InputError: there is no such scene in the protocol, or files are missing or cannot be read.
    """
    known = frame_lists()
    check_choice("scene", name, list(known))
    if not (Path(data) / name / "scene.npz").is_file():
        raise InputError("data", f"{data} without {name}/scene.npz", "a folder with all scenes to be scored", known)
    frames = list(dict.fromkeys(frame for shown in known[name] for frame in shown))
    scene = load_real_scene(Path(data) / name, frames=frames, longest_side=LONGEST_SIDE)
    return [select_views(scene, [frames.index(frame) for frame in shown]) for shown in known[name]]


def predictors(models: Sequence[str], scenes: Sequence[EvalScene]) -> tuple[dict[str, Predictor], dict[str, str]]:
    """The rows of the scoreboard by name, and why others are left out.

    Args:
        models: hub ids, folders or files.
        scenes: that the trivial guess is learned from.
    """
    rows: dict[str, Predictor] = {}
    left_out: dict[str, str] = {}
    for name in models:
        model = DepthAnything3.from_pretrained(name)
        rows |= {name + suffix: ModelPredictor(model=model, refine=refine) for suffix, refine in MODEL_ROWS.items()}
    try:
        require("pycolmap", extra="colmap")
        rows[COLMAP] = Colmap()
    except MissingExtraError as error:
        left_out[COLMAP] = str(error)
    rows[SIFT] = TwoViewSift()
    if any(scene.has_depth for scene in scenes):
        rows[TRIVIAL] = trivial_predictors(scenes)["mean log-depth map"]
    else:
        left_out[TRIVIAL] = "none of the scenes has depth"
    return rows, left_out


def run_real_mini(
    data: str | os.PathLike[str],
    *,
    models: Sequence[str] = ("bundled",),
    scenes: Sequence[str] | None = None,
    workers: int = 1,
    on_run: Callable[[Run], None] | None = None,
) -> tuple[list[Run], dict[str, str]]:
    """Run every row on every scene, at every number of views, with and without given cameras.

    All scenes are read before anything runs.

    Args:
        data: folder of scene folders.
        models: hub ids, folders or files.
        scenes: names; None for all of the protocol.
        workers: processes of one thread each that scenes are shared out among; 1 for this one and all its threads.
        on_run: called after each run.

    Returns:
        the runs, and notes for the report: what the rows are, why one is left out, versions.

    Raises:
        InputError: an unknown scene, files that are missing or cannot be read, or fewer than one worker.
    """
    loaded = [load_views(data, name) for name in (frame_lists() if scenes is None else scenes)]
    headline = [
        max((v for v in views if len(v.images) <= HEADLINE_VIEWS), key=lambda v: len(v.images)) for views in loaded
    ]
    rows, left_out = predictors(models, headline)
    shown = [views for lists in loaded for views in lists]
    if workers != 1:
        # The largest first, so that no process goes on long after the others.
        largest_first = sorted(shown, key=lambda views: -len(views.images))
        make = partial(_rows, tuple(models), headline)
        runs = run_in_processes(make, largest_first, runs_of_views, workers=workers, on_run=on_run)
        place = {(views.name, len(views.images)): k for k, views in enumerate(shown)}
        return sorted(runs, key=lambda run: place[run.scene, run.views]), _notes(models, scenes, left_out)
    runs = []
    for views in shown:
        for run in runs_of_views(rows, views):
            runs.append(run)
            if on_run is not None:
                on_run(run)
    return runs, _notes(models, scenes, left_out)


def _rows(models: Sequence[str], scenes: Sequence[EvalScene]) -> Mapping[str, Predictor]:
    return predictors(models, scenes)[0]


def _notes(models: Sequence[str], scenes: Sequence[str] | None, left_out: Mapping[str, str]) -> dict[str, str]:
    options = [f"--model {name}" for name in models if tuple(models) != ("bundled",)]
    options += [f"--scene {name}" for name in scenes or ()]
    rows = {name: text for name, text in ABOUT_ROWS.items() if name not in left_out}
    return {
        "command": f"`{' '.join(['da3 bench real-mini --data FOLDER --out docs', *options])}`",
        "versions": _versions(),
        "scenes": _ABOUT_SCENES,
        **{f"`{name}`": text for name, text in rows.items()},
        **{f"`{name}`": f"left out: {why}" for name, why in left_out.items()},
    }


def _versions() -> str:
    found = []
    for name in ("depth-anything-3", "torch", "numpy", "opencv-python-headless", "pycolmap"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
