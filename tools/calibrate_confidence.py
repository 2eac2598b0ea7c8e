"""Measure what a bundled network's confidence is worth, and write the map into its config.json.

    python tools/calibrate_confidence.py fit --scenes 60      # on procedural scenes with training seeds
    python tools/calibrate_confidence.py measure --scenes 40  # on held-out scenes, which the fit never saw

A pixel is right where its depth is within 25 % of the truth after one scale per scene. Scenes are shown as one view and
as four together. Networks without a confidence get the derived one.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import DA3Error
from depth_anything_3.metrics.calibration import expected_calibration_error, fit_monotone
from depth_anything_3.metrics.depth import resized_nearest, scale_factor, valid_pixels
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.held_out import HELD_OUT_SEEDS, held_out, render_held_out
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import Sample, build, film
from depth_anything_3.types.confidence import ConfidenceMap, log_excess
from depth_anything_3.zoo.bundled import FOLDER

Scored = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
Runs = dict[tuple[str, int], list[Scored]]

VIEWS = (1, 4)
PIXELS = 4000  # of a run, so that large pictures do not count more
FIRST_SEED = 700_000_000  # of the scenes of the fit: below HELD_OUT_SEEDS
_TRAJECTORIES = ("random", "random", "random", "orbit", "rig", "walk")
_STYLES = ("textured", "textured", "textured", "textureless", "specular")
_SIZES = ((168, 224), (224, 168), (224, 224), (126, 224))


def main() -> None:
    """Parse, run, write or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "measure"))
    parser.add_argument("names", nargs="*", default=["da3-tiny", "da3metric-tiny"], help="bundled checkpoints")
    parser.add_argument("--scenes", type=int, default=60)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    models = {name: DepthAnything3.from_pretrained(f"bundled/{name}") for name in arguments.names}
    samples = training_scenes(arguments.scenes) if arguments.what == "fit" else held_out_samples(arguments.scenes)
    runs: Runs = {(name, views): [] for name in models for views in VIEWS}
    for sample in samples:
        for (name, views), parts in runs.items():
            parts.append(scored(models[name], sample, views))
    for name, model in models.items():
        if arguments.what == "fit":
            fit(name, *_joined(runs, name, VIEWS))
        else:
            measure(name, model, runs)


def fit(name: str, conf: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> None:
    """Write the map into the configuration."""
    x, y = fit_monotone(log_excess(conf), right)
    knots, index = np.unique(np.round(1 + np.exp(x), 9), return_index=True)
    found = ConfidenceMap(tuple(knots.tolist()), tuple(round(float(v), 4) for v in y[index]))
    path = FOLDER / name / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["confidence_map"] = {"conf": found.conf, "probability": found.probability}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(right)} pixels, {right.mean():.3f} right, ECE of the fit {ece(found, conf, right):.4f}")


def measure(name: str, model: DepthAnything3, runs: Runs) -> None:
    """Print the expected calibration error."""
    found = model.confidence_map
    if found is None:
        raise SystemExit(f"{name}: no confidence_map in config.json: run the fit first")
    for views in (*((v,) for v in VIEWS), VIEWS):
        conf, right = _joined(runs, name, views)
        print(
            f"{name}, {' and '.join(map(str, views))} views: ECE {ece(found, conf, right):.4f}, "
            f"right {right.mean():.3f}, said {found(conf).mean():.3f}, rank {rank(conf, right):.3f}"
        )


def _joined(runs: Runs, name: str, views: Sequence[int]) -> Scored:
    conf, right = zip(*(part for v in views for part in runs[name, v]), strict=True)
    return np.concatenate(conf), np.concatenate(right)


def held_out_samples(count: int) -> Iterator[Sample]:
    """Evenly spaced over the set."""
    specs = held_out()
    for index in np.linspace(0, len(specs) - 1, count).round().astype(int):
        yield render_held_out(specs[index])


def training_scenes(count: int) -> Iterator[Sample]:
    """Scenes like the held-out ones, with seeds that are not theirs."""
    assert HELD_OUT_SEEDS.start > FIRST_SEED + 10 * count
    rng, seed, made = np.random.default_rng(0), FIRST_SEED, 0
    while made < count:
        seed += 1
        style, kind = _STYLES[int(rng.integers(len(_STYLES)))], _TRAJECTORIES[int(rng.integers(len(_TRAJECTORIES)))]
        height, width = _SIZES[int(rng.integers(len(_SIZES)))]
        try:
            scene, _ = build(seed, style=style, thin=3 if rng.random() < 0.2 else 0)
            cameras = make_cameras(scene, 4, height, width, seed=seed, kind=kind)
        except DA3Error:  # no free place for this trajectory
            continue
        sample = film(scene, (), cameras, height, width)
        yield replace(sample, rgb=to_bytes(torch.from_numpy(sample.rgb)).numpy())
        made += 1


def scored(model: DepthAnything3, sample: Sample, views: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Confidence of some pixels, and whether they are right."""
    index = np.linspace(0, len(sample.rgb) - 1, views).round().astype(int)
    prediction = model.inference(list(sample.rgb[index]), derive_confidence="conf" not in model.model.abilities)
    assert prediction.conf is not None
    true = sample.depth[index]
    depth, conf = (resized_nearest(v, *true.shape[1:]) for v in (prediction.depth, prediction.conf))
    known = valid_pixels(true)
    scale = scale_factor(depth.astype(np.float64), true)
    off = np.abs(np.log(depth[known] * scale / true[known]))
    some = np.random.default_rng(0).permutation(int(known.sum()))[:PIXELS]
    return conf[known][some], (off < np.log(1.25))[some]


def rank(conf: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float:
    """Chance that a right pixel has more confidence than a wrong one (area under the ROC curve); 0.5 tells nothing."""
    _, index, counts = np.unique(conf, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - (counts - 1) / 2)[index]
    hits = int(right.sum())
    return float((places[right].sum() - hits * (hits + 1) / 2) / max(hits * (len(right) - hits), 1))


def ece(found: ConfidenceMap, conf: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error of what a map says."""
    return expected_calibration_error(found(conf), right)


if __name__ == "__main__":
    main()
