"""The protocol "novel views": pictures of places that a predictor has not seen a picture from, against the truth.

A scene is split into context views, which the predictor gets with their cameras, and targets, of which it gets the
cameras alone. Scored are PSNR, SSIM and, where its weights are there, LPIPS: the mean over the targets of a scene, then
over scenes.

* Procedural held-out scenes: four context views, the farthest from each other; targets are all other views that are
  seen at least ten degrees off every context view (:func:`view_angle_deg`). Scenes without such a view are left out.
* Sets of photographs (DL3DV, Tanks and Temples, MegaDepth), as in the paper: every eighth picture is a target, twelve
  context views are chosen from the rest by farthest-point sampling. Pictures are scaled and cut at the centre to 270 x
  480. What the paper leaves open is chosen here: the distance for the sampling (:func:`pose_distance`), and that it
  begins at the view nearest to the middle of all.

Two guesses stand beside the models, for scenes with a true depth: the nearest context view, warped by the *true* depth
of the target, and plain Gaussians from the depth of the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.held_out import held_out_scenes
from depth_anything_3.bench.scenes import EvalScene
from depth_anything_3.datasets import megadepth, tanks_and_temples
from depth_anything_3.datasets.base import DATASETS, CorruptSample, Dataset
from depth_anything_3.errors import Cancelled, InputError
from depth_anything_3.geometry.pinhole import camera_centres, pixel_centres, project, unproject
from depth_anything_3.metrics.bootstrap import bootstrap_interval
from depth_anything_3.metrics.images import Score, find_lpips, psnr, ssim
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.splat.base import render
from depth_anything_3.splat.from_depth import gaussians_from_depth
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.options import GaussianSource

Array = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.floating]

CONTEXT, TARGET_ANGLE_DEG = 4, 10.0
"""Of the held-out scenes."""

PHOTO_CONTEXT, PHOTO_TARGET_EVERY, PHOTO_SIZE = 12, 8, (270, 480)
"""Of sets of photographs (paper, section 6.3)."""

_PHOTO_SCENES: dict[str, tuple[str, ...]] = {
    "tanks_and_temples": tanks_and_temples.NOVEL_VIEW_SCENES,
    "megadepth": megadepth.NOVEL_VIEW_SCENES,
}
_FAR = 1e3  # times the median depth: where the sky is


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """A scene and which of its views are seen.

    Attributes:
        scene: all views.
        context, targets: indices.
    """

    scene: EvalScene
    context: tuple[int, ...]
    targets: tuple[int, ...]


class Painter(Protocol):
    """Anything that can be called like this."""

    def __call__(self, split: Split) -> Pictures:
        """(M, H, W, 3) pictures of the targets, values from 0 to 1, made from the context views and all cameras."""
        ...


@dataclass(frozen=True, kw_only=True)
class NovelViewRun:
    """One painter on one scene.

    Attributes:
        painter, scene: names.
        context, targets: indices of the views.
        scores: ``psnr``, ``ssim`` and perhaps ``lpips``, each the mean over the targets; empty after an error.
        error: why there are no scores, or None.
    """

    painter: str
    scene: str
    context: tuple[int, ...]
    targets: tuple[int, ...]
    scores: Mapping[str, float]
    error: str | None = None


def novel_views(
    painters: Mapping[str, Painter],
    splits: Iterable[Split],
    *,
    lpips: Score | None = None,
    on_run: Callable[[NovelViewRun], None] | None = None,
) -> list[NovelViewRun]:
    """Run every painter on every scene. One that fails on a scene gets a run with its error; the rest goes on.

    Args:
        painters: by name.
        splits: taken one at a time.
        lpips: from :func:`~depth_anything_3.metrics.images.find_lpips`; None leaves it out.
        on_run: called after each run.
    """
    runs = []
    for split in splits:
        for name, painter in painters.items():
            runs.append(_run(name, painter, split, lpips))
            if on_run is not None:
                on_run(runs[-1])
    return runs


def _run(name: str, painter: Painter, split: Split, lpips: Score | None) -> NovelViewRun:
    scores: dict[str, float] = {}
    error: str | None = None
    truth = split.scene.images[list(split.targets)].astype(np.float32) / 255
    scorers = {"psnr": psnr, "ssim": ssim, **({} if lpips is None else {"lpips": lpips})}
    try:
        made = np.asarray(painter(split)).clip(0, 1)
        if made.shape != truth.shape:
            raise InputError("painter", f"pictures of shape {made.shape}", f"shape {truth.shape}")
        for score, scorer in scorers.items():
            scores[score] = float(np.mean([scorer(a, b) for a, b in zip(made, truth, strict=True)]))
    except Cancelled:
        raise
    except Exception as failure:  # a foreign program: one scene must not end the evaluation of the others
        scores, error = {}, f"{type(failure).__name__}: {failure}"
    return NovelViewRun(
        painter=name, scene=split.scene.name, context=split.context, targets=split.targets, scores=scores, error=error
    )


# --- which views -----------------------------------------------------------------------------------------------------


def pose_distance(extrinsics: Array) -> Array:
    """(N, N) distances of cameras: between their centres, by the median distance from the middle of all, plus the angle
    between their orientations, by pi."""
    centres = camera_centres(extrinsics)
    spread = float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))) or 1.0
    apart: Array = np.linalg.norm(centres[:, None] - centres, axis=-1) / spread
    return apart + np.radians(_turns_deg(extrinsics)) / np.pi


def _turns_deg(extrinsics: Array) -> Array:
    turns: Array = rotation_angle_deg(extrinsics[:, None, :, :3] @ extrinsics[None, :, :, :3].swapaxes(-1, -2))
    return turns


def farthest_views(extrinsics: Array, count: int) -> tuple[int, ...]:
    """Farthest-point sampling by :func:`pose_distance`, from the view nearest to the middle on; ascending.

    Raises:
        InputError: there are not so many views.
    """
    if not 1 <= count <= len(extrinsics):
        raise InputError("count", str(count), f"1 to {len(extrinsics)} views")
    distance, centres = pose_distance(extrinsics), camera_centres(extrinsics)
    chosen = [int(np.linalg.norm(centres - centres.mean(0), axis=1).argmin())]
    while len(chosen) < count:
        nearest = distance[chosen].min(0)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return tuple(sorted(chosen))


def view_angle_deg(scene: EvalScene) -> Array:
    """(N, N) how differently two cameras see the scene: the larger of the angle between their orientations, and the
    angle between the directions in which both stand from what the first one sees (its median point)."""
    points = unproject(scene.depth.astype(np.float64), scene.intrinsics, scene.extrinsics)
    centres = camera_centres(scene.extrinsics)
    angles = _turns_deg(scene.extrinsics)
    for view, (cloud, depth) in enumerate(zip(points, scene.depth, strict=True)):
        if not (depth > 0).any():
            continue
        away = centres - np.median(cloud[depth > 0], 0)
        away /= np.linalg.norm(away, axis=1, keepdims=True).clip(1e-12)
        seen = np.degrees(np.arccos((away @ away[view]).clip(-1, 1)))
        angles[view] = np.maximum(angles[view], seen)
    return angles


def held_out_splits(scenes: Iterable[EvalScene]) -> Iterator[Split]:
    """Four context views and the targets far enough from all of them; scenes without such targets are passed over."""
    for scene in scenes:
        context = farthest_views(scene.extrinsics, CONTEXT)
        angle = view_angle_deg(scene)
        rest = [i for i in range(len(scene.images)) if i not in context]
        targets = tuple(i for i in rest if angle[i, list(context)].min() >= TARGET_ANGLE_DEG)
        if targets:
            yield Split(scene=scene, context=context, targets=targets)


def photo_splits(dataset: Dataset, scenes: Sequence[str] | None = None) -> Iterator[Split]:
    """The published protocol on scenes of a data set; pictures that are neither seen nor wanted are not loaded.

    Args:
        dataset: with cameras.
        scenes: ids; None for all.

    Raises:
        CorruptSample: a scene has no cameras, or a picture of it is damaged.
    """
    for scene in dataset.scenes() if scenes is None else scenes:
        frames, cameras = dataset.frames(scene), dataset.cameras(scene)
        if cameras.extrinsics is None:
            raise CorruptSample(scene, "no cameras")
        usable = np.flatnonzero(np.isfinite(cameras.extrinsics).all((1, 2)))
        targets = usable[::PHOTO_TARGET_EVERY]
        rest = np.setdiff1d(usable, targets)
        poses = cameras.extrinsics.astype(np.float64)
        context = rest[list(farthest_views(poses[rest], min(PHOTO_CONTEXT, len(rest))))]
        wanted = np.concatenate((context, targets))
        pictures, lenses = zip(*(_photo(dataset, scene, frames[i]) for i in wanted), strict=True)
        loaded = EvalScene(
            name=scene,
            slices=("real", dataset.name),
            images=np.stack(pictures),
            depth=np.zeros((len(wanted), *PHOTO_SIZE), np.float32),
            intrinsics=np.stack(lenses),
            extrinsics=poses[wanted],
        )
        yield Split(scene=loaded, context=tuple(range(len(context))), targets=tuple(range(len(context), len(wanted))))


def splits_of(dataset: str | None, data: Path | None, scenes: int | None = None) -> Iterator[Split]:
    """Held-out scenes, or those of a data set that novel views are scored on.

    Args:
        dataset: name of a data set below ``data``; None for the held-out scenes.
        data: its folder.
        scenes: at most so many: of the held-out ones evenly spaced, of a data set the first.

    Raises:
        InputError: one of ``dataset`` and ``data`` without the other, or no scene of the protocol is there.
    """
    if (dataset is None) != (data is None):
        raise InputError("data", str(data), "a folder beside a data set, and none without")
    if dataset is None or data is None:
        return held_out_splits(held_out_scenes(scenes))
    opened = DATASETS[dataset](data)  # type: ignore[call-arg]
    wanted = _PHOTO_SCENES.get(dataset)
    named = [s for s in opened.scenes() if wanted is None or s.removeprefix(f"{dataset}/") in wanted]
    if not named:
        raise InputError("data", f"{data} without a scene of the protocol", "some of the scenes", wanted or ())
    return photo_splits(opened, named[:scenes])


def _photo(dataset: Dataset, scene: str, frame: str) -> tuple[npt.NDArray[np.uint8], Array]:
    """A picture of the size of the protocol, and its camera matrix."""
    view = dataset.load(scene, frame)
    old, new = np.array(view.image.shape[1::-1]), np.array(PHOTO_SIZE[::-1])
    size = np.maximum(np.ceil(old * (new / old).max() - 1e-9), new).astype(int)
    image = cv2.resize(view.image, tuple(size.tolist()), interpolation=cv2.INTER_AREA)
    left, top = ((size - new) // 2).tolist()
    k = view.intrinsics.astype(np.float64) * np.array([*(size / old), 1.0])[:, None]
    k[:2, 2] -= [left, top]
    return np.asarray(image[top : top + new[1], left : left + new[0]], np.uint8), k


# --- painters --------------------------------------------------------------------------------------------------------


def nearest_warped(split: Split) -> Pictures:
    """The nearest context view by :func:`pose_distance`, looked up where the true depth of the target says.

    Sky is infinitely far. What the view does not show is what is at its border. Nothing is done about what is hidden:
    whatever is in front is shown twice.

    Raises:
        InputError: the scene has no true depth.
    """
    scene = split.scene
    if not scene.has_depth:
        raise InputError("scene", f"{scene.name} without depth", "a scene whose true depth is known")
    distance = pose_distance(scene.extrinsics)
    far = _FAR * float(np.median(scene.depth[scene.depth > 0]))
    made = []
    for target in split.targets:
        source = min(split.context, key=lambda view: float(distance[target, view]))
        depth = np.where(scene.depth[target] > 0, scene.depth[target], far).astype(np.float64)
        points = unproject(depth, scene.intrinsics[target], scene.extrinsics[target])
        xy, z = project(points, scene.intrinsics[source], scene.extrinsics[source])
        xy = np.where((z > 0)[..., None], xy, pixel_centres(*depth.shape)) - 0.5
        column, row = (xy[..., i].astype(np.float32) for i in (0, 1))
        made.append(cv2.remap(scene.images[source], column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(made).astype(np.float32) / 255


def true_splats(split: Split) -> Pictures:
    """Plain Gaussians at the true depth: what splatting alone can do. Sky is far away.

    Raises:
        InputError: the scene has no true depth.
    """
    scene, seen = split.scene, list(split.context)
    if not scene.has_depth:
        raise InputError("scene", f"{scene.name} without depth", "a scene whose true depth is known")
    depth = scene.depth[seen]
    depth = np.where(depth > 0, depth, _FAR * np.median(depth[depth > 0])).astype(np.float32)
    lenses, poses = scene.intrinsics[seen].astype(np.float32), scene.extrinsics[seen].astype(np.float32)
    return draw_targets(gaussians_from_depth(depth, scene.images[seen], lenses, poses), split)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPainter:
    """The Gaussians of a model that is given the context views and their cameras.

    Attributes:
        model: with cameras.
        source: its Gaussian head, or plain Gaussians from its depth.
        process_res: longest side in pixels at which it runs; None for the model's own.
        refine: as in :meth:`~depth_anything_3.api.DepthAnything3.inference`.
    """

    model: DepthAnything3
    source: GaussianSource = "head"
    process_res: int | None = None
    refine: str = "off"

    def __call__(self, split: Split) -> Pictures:
        """See :class:`Painter`."""
        scene, seen = split.scene, list(split.context)
        prediction = self.model.inference(
            list(scene.images[seen]),
            extrinsics=scene.extrinsics[seen],
            intrinsics=scene.intrinsics[seen],
            infer_gs=True,
            gs_source=self.source,
            process_res=self.process_res,
            refine=self.refine,  # type: ignore[arg-type]
        )
        assert prediction.gaussians is not None
        return draw_targets(prediction.gaussians, split)


def draw_targets(gaussians: Gaussians, split: Split) -> Pictures:
    """(M, H, W, 3) pictures of Gaussians from the targets, over black."""
    scene, wanted = split.scene, list(split.targets)
    device = gaussians.means.device
    poses = torch.from_numpy(scene.extrinsics[wanted]).float().to(device)[None]
    lenses = torch.from_numpy(scene.intrinsics[wanted]).float().to(device)[None]
    height, width = scene.images.shape[1:3]
    with torch.inference_mode():
        drawn = render(gaussians, poses, lenses, (height, width))
    return np.asarray(drawn.colour[0].movedim(1, -1).cpu().numpy())


def model_painters(models: Sequence[str], *, process_res: int | None = None, depth: bool = True) -> dict[str, Painter]:
    """The two guesses, where scenes have a depth; every model's plain Gaussians; and its head's, where it has one.

    Args:
        models: hub ids, folders or files, or ``bundled``.
        process_res: as in :class:`ModelPainter`.
        depth: whether the scenes have a true depth.
    """
    painters: dict[str, Painter] = {}
    if depth:
        painters |= {"nearest view, true depth": nearest_warped, "plain splats, true depth": true_splats}
    for name in models:
        model = DepthAnything3.from_pretrained(name)
        painters[f"plain splats, {name}"] = ModelPainter(model=model, source="depth", process_res=process_res)
        if "gaussians" in model.model.abilities:
            painters[f"Gaussian head, {name}"] = ModelPainter(model=model, process_res=process_res)
    return painters


# --- report ----------------------------------------------------------------------------------------------------------


def markdown(runs: Sequence[NovelViewRun], *, notes: Mapping[str, str] | None = None) -> str:
    """A table with one row for each painter: means over scenes with 95 % intervals; withheld where a scene failed."""
    titles = {"psnr": "PSNR [dB] ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓"}
    columns = [name for name in titles if any(name in run.scores for run in runs)]
    rows = [
        "| | scenes | " + " | ".join(titles[name] for name in columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for painter in dict.fromkeys(run.painter for run in runs):
        mine = [run for run in runs if run.painter == painter]
        failed = sum(run.error is not None for run in mine)
        cells = [_cell([run.scores[name] for run in mine]) if not failed else "withheld" for name in columns]
        count = f"{len(mine) - failed} of {len(mine)}" if failed else str(len(mine))
        rows.append(f"| {painter} | {count} | " + " | ".join(cells) + " |")
    targets = sum(len(run.targets) for run in {run.scene: run for run in runs}.values())
    lines = [f"Mean over the targets of a scene, then over scenes; {targets} targets in all."]
    lines += [f"* {name}: {text}" for name, text in (notes or {}).items()]
    lines += [f"* {run.painter} failed on {run.scene}: {run.error}" for run in runs if run.error is not None]
    return "\n".join(["# Novel views", "", *rows, "", *lines, ""])


def _cell(values: Sequence[float]) -> str:
    found = bootstrap_interval(np.array(values))
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def write_novel_views(
    folder: Path, runs: Sequence[NovelViewRun], *, notes: Mapping[str, str] | None = None
) -> list[Path]:
    """``novel_views.md``, the table, and ``novel_views.json``, every run with the indices of its views."""
    content = {
        "novel_views.md": markdown(runs, notes=notes),
        "novel_views.json": json.dumps({"notes": dict(notes or {}), "runs": [asdict(run) for run in runs]}, indent=1)
        + "\n",
    }
    for name, text in content.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in content]


def lpips_or_note() -> tuple[Score | None, dict[str, str]]:
    """LPIPS where it can be computed, and the note that says so or why not."""
    score, text = find_lpips()
    return score, {"LPIPS": text}
