"""Measure what a bundled network's confidence is worth, and write the maps into its config.json.

    python tools/calibrate_confidence.py fit --scenes 60      # on scenes made like the held-out ones, of other seeds
    python tools/calibrate_confidence.py measure --scenes 60  # on held-out scenes, which the fit never saw

A pixel is right where its depth is within 25 % of the truth after one scale per scene. There is a map for each number
of views that a scene is shown as, and for the confidence that the network says itself and the derived one.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from freeze_held_out import find, wishes

from depth_anything_3._files import atomic_path
from depth_anything_3.api import DepthAnything3
from depth_anything_3.metrics.calibration import expected_calibration_error, fit_monotone
from depth_anything_3.metrics.depth import resized_nearest, scale_factor, valid_pixels
from depth_anything_3.synth.held_out import HELD_OUT_SEEDS, held_out, render_held_out
from depth_anything_3.synth.sample import Sample
from depth_anything_3.types.confidence import ConfidenceMap, ConfidenceMaps, log_excess
from depth_anything_3.zoo.bundled import FOLDER

SUBSETS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,), (5,)),
    2: ((0, 7),),
    4: ((0, 2, 5, 7),),
    8: (tuple(range(8)),),
}
"""Which of the eight views are shown together."""

PIXELS = 1500  # of a run, so that large pictures do not count more
KNOTS = 12
FIRST_SEED = 700_000_000  # of the scenes of the fit: below HELD_OUT_SEEDS
PATIENCE = 3  # seeds that a scene of the fit may try before its views come from anywhere


@dataclass(frozen=True)
class Scored:
    """Confidence of some pixels, and whether they are right."""

    conf: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One of the confidences of one network, and how many views it sees."""

    name: str
    derived: bool
    views: int


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
    runs: dict[Case, list[Scored]] = {}
    for sample in samples:
        for name, model in models.items():
            for derived in (False, True) if "conf" in model.model.abilities else (True,):
                for views, subsets in SUBSETS.items():
                    runs.setdefault(Case(name, derived, views), []).extend(
                        scored(model, sample, list(subset), derived=derived) for subset in subsets
                    )
    joined = {case: join(parts) for case, parts in runs.items()}
    for name, model in models.items():
        own = {case: found for case, found in joined.items() if case.name == name}
        if arguments.what == "fit":
            write(name, fit(own))
        else:
            measure(model, own)


def fit(cases: dict[Case, Scored]) -> ConfidenceMaps:
    """A map for each case of one network."""
    found: dict[bool, dict[int, ConfidenceMap]] = {False: {}, True: {}}
    for case, some in cases.items():
        x, y = fit_monotone(log_excess(some.conf), some.right, knots=KNOTS)
        knots, index = np.unique(np.round(1 + np.exp(x), 9), return_index=True)
        found[case.derived][case.views] = ConfidenceMap(
            tuple(knots.tolist()), tuple(round(float(share), 4) for share in y[index])
        )
    return ConfidenceMaps(own=found[False], derived=found[True])


def write(name: str, maps: ConfidenceMaps) -> None:
    """Put the maps into the configuration of a bundled checkpoint."""
    path = FOLDER / name / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["confidence_maps"] = maps.as_dict()
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    print(f"{path} written")


def measure(model: DepthAnything3, cases: dict[Case, Scored]) -> None:
    """Print the expected calibration error, case by case, as rows of a table."""
    for case, some in cases.items():
        found = None if model.confidence_maps is None else model.confidence_maps.of(case.views, derived=case.derived)
        if found is None:
            raise SystemExit(f"{case}: no such map in config.json: run the fit first")
        error = expected_calibration_error(found(some.conf), some.right)
        source = "derived" if case.derived else "its own"
        print(
            f"| `{case.name}`, {source} | {case.views} | {error:.3f} | {some.right.mean():.3f} | "
            f"{found(some.conf).mean():.3f} | {rank(some.conf, some.right):.2f} |"
        )


def join(parts: list[Scored]) -> Scored:
    """All pixels of several runs."""
    return Scored(np.concatenate([p.conf for p in parts]), np.concatenate([p.right for p in parts]))


def held_out_samples(count: int) -> Iterator[Sample]:
    """Evenly spaced over the set."""
    specs = held_out()
    for index in np.linspace(0, len(specs) - 1, count).round().astype(int):
        yield render_held_out(specs[index])


def training_scenes(count: int) -> Iterator[Sample]:
    """Scenes made like the held-out ones, with seeds that are not theirs."""
    assert HELD_OUT_SEEDS.start > FIRST_SEED + 1000 * count
    for wish in wishes(count, seed=7):
        yield find(wish, first=FIRST_SEED, patience=PATIENCE)[1]


def scored(model: DepthAnything3, sample: Sample, views: list[int], *, derived: bool) -> Scored:
    """Some pixels of one run."""
    prediction = model.inference(list(sample.rgb[views]), derive_confidence=derived)
    assert prediction.conf is not None
    true = sample.depth[views]
    depth, conf = (resized_nearest(v, *true.shape[1:]) for v in (prediction.depth, prediction.conf))
    known = valid_pixels(true)
    scale = scale_factor(depth.astype(np.float64), true)
    off = np.abs(np.log(depth[known] * scale / true[known]))
    some = np.random.default_rng(0).permutation(int(known.sum()))[:PIXELS]
    return Scored(conf[known][some], (off < np.log(1.25))[some])


def rank(conf: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float:
    """Chance that a right pixel has more confidence than a wrong one (area under the ROC curve); 0.5 tells nothing."""
    _, index, counts = np.unique(conf, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - (counts - 1) / 2)[index]
    hits = int(right.sum())
    return float((places[right].sum() - hits * (hits + 1) / 2) / max(hits * (len(right) - hits), 1))


if __name__ == "__main__":
    main()
