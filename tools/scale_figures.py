"""How well the scale of given cameras is found, and how well metres hold: the figures of docs/scale.md.

    python tools/scale_figures.py --data ../shared/data --out docs/measured/scale.md

* An oracle in the place of the network, true poses plus 2 % noise in a world and unit of its own, on the real scenes
  and the 200 held-out ones: N = 2, 3, 8 and the straightest four views.
* The bundled any-view network in its place: the same figures, and by scene on the real ones.
* The bundled metric network at several values of ``process_res``.
* A stereo pair with a known baseline.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.real_mini import load_views
from depth_anything_3.bench.scenes import EvalScene, evenly_spaced
from depth_anything_3.datasets.benchmark.real_mini import REAL_SCENES
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.infer.cameras import align_to_given, poor_scale, warn_if_inverted
from depth_anything_3.metrics.depth import resized_nearest, valid_pixels
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.refine.scale import Baseline, rescale_to
from depth_anything_3.synth.held_out import held_out, render_held_out
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

NOISE, UNIT, SEEDS = 0.02, 0.37, 2
RESOLUTIONS = (112, 140, 168, 196, 224, 252)


@dataclass
class Tally:
    """What came out for one kind of scenes."""

    scale: list[float] = field(default_factory=list)
    below: int = 0
    telling: int = 0
    warned: int = 0
    gentle_warned: int = 0
    false: int = 0
    cases: int = 0

    def row(self, name: str) -> str:
        """As a row of the table."""
        off = 100 * np.abs(np.array(self.scale) - 1)
        figures = f"{len(off)} | {np.median(off):.2f} % | {off.max():.2f} % | {(off <= 2).mean():.1%} | {self.below}"
        said = f"{self.warned} of {self.telling} | {self.gentle_warned} | {self.false} of {self.cases}"
        return f"| {name} | {figures} | {said} |"


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=20, help="held-out scenes for the networks")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    arguments = parser.parse_args()
    scenes = [load_views(arguments.data, name)[-1] for name in REAL_SCENES]
    tables: list[str] = []
    for part in arguments.parts:
        tables.append(PARTS[part](scenes, arguments.pictures))
        with atomic_path(arguments.out) as temporary:
            temporary.write_text("Written by `tools/scale_figures.py`.\n\n" + "\n".join(tables), encoding="utf-8")


# --- the oracle --------------------------------------------------------------------------------------------------


def oracle_table(scenes: list[EvalScene], _: int) -> str:
    """Scale and convention warning with true poses plus noise."""
    real, synthetic = Tally(), Tally()
    for scene in scenes:
        known = valid_pixels(scene.depth)
        count_case(
            real, scene.extrinsics.astype(np.float64), float(np.median(scene.depth[known])) if known.any() else None
        )
    for spec in held_out():
        count_case(synthetic, spec.cameras.extrinsics.astype(np.float64), spec.stats.median_depth)
    return "\n".join(
        [
            "## An oracle: true poses plus 2 % noise",
            "",
            "Error of the scale, where the baseline exceeds 5 % of the median depth.",
            "",
            *_TALLY_HEAD,
            real.row("real"),
            synthetic.row("held-out"),
            "",
        ]
    )


_TALLY_HEAD = (
    "| scenes | alignments | median | worst | within 2 % | too short a baseline | inverted and >= 10 deg: warned "
    "| inverted below 10 deg: warned | false warnings |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def count_case(tally: Tally, poses: Array, median_depth: float | None) -> None:
    """All subsets of one scene."""
    for chosen in subsets(poses):
        given = poses[chosen]
        for seed in range(SEEDS):
            predicted = oracle(given, seed)
            _, report = align_to_given(given, predicted)
            if median_depth is not None and widest_baseline(given) < 0.05 * median_depth:
                tally.below += 1
            else:
                tally.scale.append(report.scale / UNIT)
            count_warnings(tally, given, predicted)


def widest_baseline(poses: Array) -> float:
    """Largest distance between two cameras."""
    centres = camera_centres(poses)
    return float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max())


def count_warnings(tally: Tally, given: Array, predicted: Array) -> None:
    """Whether the convention warning comes for the poses as they are, and for inverted ones."""
    turn = given[:, None, :, :3] @ given[None, :, :, :3].swapaxes(-1, -2)
    telling = float(rotation_angle_deg(turn).max()) >= 10
    tally.cases += 1
    tally.false += warned(given, predicted)
    said = warned(inverted(given), predicted)
    tally.telling += telling
    tally.warned += said and telling
    tally.gentle_warned += said and not telling


def subsets(poses: Array) -> Iterator[list[int]]:
    """Two, three, eight views, and the four that are nearest to the line from the first to the last."""
    for count in (2, 3, 8):
        if count <= len(poses):
            yield evenly_spaced(len(poses), count)
    if len(poses) >= 4:
        away = camera_centres(poses) - camera_centres(poses)[0]
        line = away[-1] / max(float(np.linalg.norm(away[-1])), 1e-12)
        yield sorted(np.argsort(np.linalg.norm(away - (away @ line)[:, None] * line, axis=1))[:4].tolist())


def oracle(poses: Array, seed: int) -> Array:
    """Rotations off by 2 % of a radian, centres by 2 % of their mean distance from their middle; another world."""
    rng = np.random.default_rng(seed)
    centres = camera_centres(poses)
    size = np.linalg.norm(centres - centres.mean(0), axis=1).mean()
    turns = rotation_from_vector(NOISE * directions(rng, len(poses)))
    world = rotation_from_vector(3 * rng.uniform() * directions(rng, 1)[0])
    moved = (centres + NOISE * size * directions(rng, len(poses))) @ world.T / UNIT + rng.normal(size=3)
    rotation = turns @ poses[:, :, :3] @ world.T
    return np.concatenate([rotation, -rotation @ moved[..., None]], -1)


def directions(rng: np.random.Generator, count: int) -> Array:
    """Unit vectors."""
    found = rng.normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def inverted(poses: Array) -> Array:
    """Camera-to-world."""
    turns = poses[:, :, :3].swapaxes(1, 2)
    return np.concatenate([turns, -turns @ poses[:, :, 3:]], -1)


def warned(given: Array, predicted: Array) -> bool:
    """Whether the convention warning comes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_inverted(given, predicted)
    return bool(caught)


# --- networks ----------------------------------------------------------------------------------------------------


def bundled_table(scenes: list[EvalScene], count: int) -> str:
    """The figures of the oracle with the bundled network in its place."""
    model = DepthAnything3.from_pretrained("bundled")
    real, synthetic = Tally(), Tally()
    for scene in scenes:
        count_network(real, model, scene.images, scene.depth, scene.extrinsics.astype(np.float64))
    specs = held_out()
    for index in np.linspace(0, len(specs) - 1, count).round().astype(int):
        sample = render_held_out(specs[index])
        count_network(synthetic, model, sample.rgb, sample.depth, sample.extrinsics.astype(np.float64))
    lines = ["## The bundled any-view network: the same figures", ""]
    lines += ["Error of the scale: median depth over the truth, after `align_to_given`.", "", *_TALLY_HEAD]
    return "\n".join([*lines, real.row("real"), synthetic.row(f"{count} held-out"), ""])


def count_network(
    tally: Tally, model: DepthAnything3, images: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32], poses: Array
) -> None:
    """All subsets of one scene; without true depth only the warnings count."""
    for chosen in subsets(poses):
        found = model.inference(list(images[chosen]))
        assert found.extrinsics is not None
        given, predicted, true = poses[chosen], found.extrinsics.astype(np.float64), depth[chosen]
        known = valid_pixels(true)
        count_warnings(tally, given, predicted)
        if not known.any():
            continue
        if widest_baseline(given) < 0.05 * np.median(true[known]):
            tally.below += 1
            continue
        report = align_to_given(given, predicted)[1]
        ratio = resized_nearest(found.depth, *true.shape[1:])[known] / true[known]
        tally.scale.append(float(np.median(ratio)) * report.scale)


def model_table(scenes: list[EvalScene], _: int) -> str:
    """The bundled network without cameras, brought to the true ones afterwards."""
    model = DepthAnything3.from_pretrained("bundled")
    lines = ["## The bundled any-view network, brought to the true poses", ""]
    lines += ["| scene | views | rule | fits | depth x scale / truth | warned | inverted: warned |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for scene in scenes:
        chosen = evenly_spaced(len(scene.images), min(8, len(scene.images)))
        found = model.inference(list(scene.images[chosen]))
        given = scene.extrinsics[chosen].astype(np.float64)
        assert found.extrinsics is not None
        report = align_to_given(given, found.extrinsics)[1]
        true = scene.depth[chosen]
        known = valid_pixels(true)
        ratio = "no depth"
        if known.any():
            depth = resized_nearest(found.depth, *true.shape[1:])
            ratio = f"{np.median(depth[known] / true[known]) * report.scale:.2f}"
        fits = "hardly" if poor_scale(report, given) else "yes"
        says = [warned(poses, found.extrinsics.astype(np.float64)) for poses in (given, inverted(given))]
        answers = " | ".join("yes" if said else "no" for said in says)
        lines.append(f"| {scene.name} | {len(chosen)} | {report.rule} | {fits} | {ratio} | {answers} |")
    return "\n".join([*lines, ""])


def resolution_table(scenes: list[EvalScene], pictures: int) -> str:
    """How far metres at several sizes are from those at the network's own."""
    model = DepthAnything3.from_pretrained("bundled/da3metric-tiny")
    shown = [(scene.images[0], scene.intrinsics[0], scene.depth[0].astype(np.float64)) for scene in scenes]
    specs = held_out()
    for index in np.linspace(0, len(specs) - 1, pictures).round().astype(int):
        sample = render_held_out(specs[index])
        shown.append((sample.rgb[0], sample.intrinsics[0], sample.depth[0].astype(np.float64)))
    lines = ["## The bundled metric network at several sizes", ""]
    lines += [f"{len(shown)} pictures. Of each, the median over its pixels of how far metres are from those that the"]
    lines += [f"network says at its own {model.process_res} pixels, and, where it is known, from the truth."]
    lines += ["The second look is that of `metric_res`.", ""]
    lines += ["| process_res | one look | two | 90 % of the pictures, two | off the truth: one look | two |"]
    lines += ["| --- " * 6 + "|"]
    found = np.array([[differences(model, *view, size) for size in RESOLUTIONS] for view in shown])
    for size, column in zip(RESOLUTIONS, found.swapaxes(0, 1), strict=True):
        alone, anchored, before, after = np.expm1(np.nanmedian(column, axis=0))
        most = np.expm1(np.quantile(column[:, 1], 0.9))
        lines.append(f"| {size} | {alone:.1%} | {anchored:.1%} | {most:.1%} | {before:.1%} | {after:.1%} |")
    return "\n".join([*lines, ""])


def differences(
    model: DepthAnything3, image: npt.NDArray[np.uint8], intrinsics: Array, depth: Array, size: int
) -> tuple[float, float, float, float]:
    """Median of ``|log|`` of metres over those at the network's own size, without and with ``metric_res``; both over
    the truth."""
    own, alone, anchored = (
        np.log(
            resized_nearest(
                model.inference([image], intrinsics=intrinsics[None], process_res=res, metric_res=unit).depth,
                *depth.shape,
            )[0]
        )
        for res, unit in ((None, None), (size, size), (size, None))
    )
    known = valid_pixels(depth)
    true = np.log(np.where(known, depth, np.nan))
    off = [np.median(np.abs(metres - own)) for metres in (alone, anchored)]
    wrong = [np.median(np.abs((metres - true)[known])) if known.any() else np.nan for metres in (alone, anchored)]
    return float(off[0]), float(off[1]), float(wrong[0]), float(wrong[1])


def stereo_table(scenes: list[EvalScene], _: int) -> str:
    """Metres of a stereo pair from its baseline, by what is used."""
    model = DepthAnything3.from_pretrained("bundled")
    scene = next(scene for scene in scenes if "motorcycle" in scene.name)
    poses, lenses = scene.extrinsics[:2].astype(np.float64), scene.intrinsics[:2]
    centres = camera_centres(poses)
    metres = float(np.linalg.norm(centres[1] - centres[0]))
    ways: dict[str, Callable[[], Prediction]] = {
        "`rescale_to(..., Baseline)`": lambda: rescale_to(
            model.inference(list(scene.images[:2])), Baseline(metres=metres)
        ),
        "the same, refined": lambda: rescale_to(
            model.inference(list(scene.images[:2]), intrinsics=lenses, refine="full"), Baseline(metres=metres)
        ),
        "poses given": lambda: model.inference(list(scene.images[:2]), poses, lenses),
        "poses given, refined": lambda: model.inference(list(scene.images[:2]), poses, lenses, refine="full"),
    }
    lines = [f"## A stereo pair with a known baseline ({scene.name}, {metres:.3f} m)", ""]
    lines += ["| how | median depth / truth | within 25 % |", "| --- | --- | --- |"]
    true = scene.depth[:2]
    known = valid_pixels(true)
    for name, run in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ratio = resized_nearest(run().depth, *true.shape[1:])[known] / true[known]
        lines.append(f"| {name} | {np.median(ratio):.2f} | {(np.abs(np.log(ratio)) < np.log(1.25)).mean():.1%} |")
    return "\n".join([*lines, ""])


PARTS: dict[str, Callable[[list[EvalScene], int], str]] = {
    "oracle": oracle_table,
    "bundled": bundled_table,
    "model": model_table,
    "resolution": resolution_table,
    "stereo": stereo_table,
}


if __name__ == "__main__":
    main()
