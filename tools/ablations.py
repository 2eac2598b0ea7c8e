"""The ablations of the paper's tables 6 and 7 on the tiny any-view recipe: run them, and write the table.

    python tools/ablations.py run --out runs --cache pool           # goes on where it stopped
    python tools/ablations.py run --out runs --cache pool --small   # a tenth of the work
    python tools/ablations.py table --results runs --out docs/training

Every variant is trained with several seeds, all variants with the first seed first. A run that has a result is not
repeated, and one that was stopped (Ctrl-C, SIGTERM, or killed) goes on from its newest checkpoint, so the same command
may be given again at any time. ``table`` writes ``ablations.json`` with the results and ``ablations.md`` made from it;
without ``--results`` it makes the table from the ``ablations.json`` that is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import abs_rel, delta, scale_factor
from depth_anything_3.metrics.pose import focal_errors, pose_auc
from depth_anything_3.model.da3 import DepthAnything3Net
from depth_anything_3.train.ablations import ABLATIONS
from depth_anything_3.train.augment import NO_AUGMENTATION
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.config import TrainConfig
from depth_anything_3.train.data import ProceduralSource, ViewOptions, make_batch
from depth_anything_3.train.objectives import conditioning_poses
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer

VARIANTS = ("recipe", *ABLATIONS)
"""The recipe as it is, and every ablation."""

FIRST_SCENE = 500_000  # seeds from here on are looked at and never trained on
VIEWS = 4
_SMALL = ViewOptions(sizes=((56, 84), (84, 56), (70, 70)), views=(2, 2), tokens=24 * 8, overlap=(0.3, 0.95))
_SETTING = ("steps", "small", "pool", "scenes", "teacher")  # the same for all runs of a table
_COLUMNS = {
    "abs_rel": ("AbsRel", False),
    "delta": ("δ1.25", True),
    "posed_abs_rel": ("AbsRel, poses given", False),
    "auc_decoder": ("AUC@30, decoder", True),
    "auc_rays": ("AUC@30, rays", True),
    "focal": ("focal error", False),
}
"""Key of a result -> its heading, and whether more is better."""

_WITHOUT = {
    "depth_camera": ("auc_rays",),
    "depth_points": ("auc_rays",),
    "depth_ray": ("auc_decoder", "focal"),
    "no_conditioning": ("posed_abs_rel",),
}
"""What a variant has not learned, so that its number says nothing."""

Metrics = dict[str, float | None]


def main() -> None:
    """Parse, and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    running = commands.add_parser("run")
    running.add_argument("--out", type=Path, required=True, help="folder of the runs and their results")
    running.add_argument("--cache", type=Path, required=True, help="folder of rendered scenes")
    running.add_argument(
        "--teacher", default="bundled/da3metric-tiny", help="what runs start from, and labels come from"
    )
    running.add_argument("--steps", type=int, default=2_000)
    running.add_argument("--seeds", type=int, default=3)
    running.add_argument("--pool", type=int, default=3_900, help="scenes that training draws from")
    running.add_argument("--scenes", type=int, default=40, help="scenes that the result is measured on")
    running.add_argument("--small", action="store_true", help="pictures of up to 84 pixels, eight views a step")
    running.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    tabling = commands.add_parser("table")
    tabling.add_argument("--results", type=Path, help="folder of the runs")
    tabling.add_argument("--out", type=Path, required=True, help="folder for ablations.json and ablations.md")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run_all(arguments)
    else:
        write_table(arguments.results, arguments.out)


# Runs --------------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Every run that has no result yet."""
    torch.set_num_threads(1)
    setting = {name: getattr(arguments, name) for name in _SETTING}
    for seed in range(arguments.seeds):
        for variant in arguments.variants:
            result = arguments.out / f"{variant}_{seed}.json"
            if result.exists():
                _check_setting(result, setting)
                continue
            config = configured(variant, seed, arguments)
            started = time.time()
            trainer = Trainer(config, arguments.out / f"{variant}_{seed}")
            trainer.run()
            if trainer.step < config.steps:
                print(
                    f"{variant}, seed {seed}: stopped after step {trainer.step}; the same command goes on", flush=True
                )
                return
            network = trainer.trained_network()
            metrics = measured(network, variant, config, arguments.cache, arguments.scenes)
            content = {"variant": variant, "seed": seed, **setting, "metrics": metrics}
            with atomic_path(result) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")
            print(f"{variant}, seed {seed}: {time.time() - started:.0f} s, {json.dumps(metrics)}", flush=True)


def _check_setting(result: Path, setting: Mapping[str, object]) -> None:
    content = json.loads(result.read_text())
    found = {key: content.get(key) for key in setting}
    if found != setting:
        raise InputError("out", f"{result.parent} with results of {found}", f"a folder for runs of {dict(setting)}")


def configured(variant: str, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    """One run: the recipe's phases in the recipe's proportions, and the variant's change.

    Args:
        variant: one of :data:`VARIANTS`.
        seed: of the run.
        arguments: of the command ``run``.
    """
    steps, pool = arguments.steps, arguments.pool
    share = steps * 3 // 8
    config = RECIPES["da3_tiny"](
        cache=arguments.cache, teacher=arguments.teacher, steps=(share, share, steps - 2 * share)
    )
    sources = tuple(
        (replace(source, count=min(source.count, pool), most=pool), weight)
        for source, weight in config.sources
        if isinstance(source, ProceduralSource)
    )
    phases = tuple(replace(phase, data=_SMALL) for phase in config.phases) if arguments.small else config.phases
    config = replace(config, sources=sources, phases=phases, seed=seed, save_every=100)
    return config if variant == "recipe" else ABLATIONS[variant](config)


# Results -----------------------------------------------------------------------------------------------------


def measured(network: DepthAnything3Net, variant: str, config: TrainConfig, cache: Path, scenes: int) -> Metrics:
    """Means over scenes that no run has seen, at the size of the last phase; None for what was not learned."""
    size = config.phases[-1].data.sizes[0]
    rows = [scored(network, scene_batch(FIRST_SCENE + i, cache, size)) for i in range(scenes)]
    means = {key: float(np.mean([row[key] for row in rows])) for key in _COLUMNS}
    return {key: None if key in _WITHOUT.get(variant, ()) else round(value, 5) for key, value in means.items()}


def scene_batch(seed: int, cache: Path, size: tuple[int, int]) -> Batch:
    """Some views of one scene as they are."""
    source = ProceduralSource(first=seed, count=1, most=1, cache=cache)
    options = ViewOptions(sizes=(size,), views=(VIEWS, VIEWS), tokens=1, overlap=(0.3, 0.9))
    return make_batch([(source, 1.0)], options, NO_AUGMENTATION, seed=0, step=seed)


@torch.no_grad()
def scored(network: DepthAnything3Net, batch: Batch) -> dict[str, float]:
    """Depth after one scale for the scene, cameras of the decoder and from rays, and depth with poses given."""
    options: dict[str, Any] = {"ref_view_strategy": "first"}
    plain = network(batch.images, **options)
    by_rays = network(batch.images, use_ray_pose=True, **options)
    given = {"extrinsics": conditioning_poses(batch.extrinsics), "intrinsics": batch.intrinsics}
    posed = network(batch.images, **given, **options)
    true, poses = batch.depth[0].numpy().astype(np.float64), batch.extrinsics[0].numpy()
    depth, posed_depth = (_at_scale(output.depth[0].numpy(), true) for output in (plain, posed))
    return {
        "abs_rel": abs_rel(depth, true),
        "delta": delta(depth, true),
        "posed_abs_rel": abs_rel(posed_depth, true),
        "auc_decoder": pose_auc(plain.extrinsics[0].numpy(), poses)[30],
        "auc_rays": pose_auc(by_rays.extrinsics[0].numpy(), poses)[30],
        "focal": float(np.median(focal_errors(plain.intrinsics[0].numpy(), batch.intrinsics[0].numpy()))),
    }


def _at_scale(depth: np.ndarray, true: np.ndarray) -> np.ndarray:
    depth = depth.astype(np.float64)
    return depth * scale_factor(depth, true)


# The table ---------------------------------------------------------------------------------------------------


def write_table(results: Path | None, out: Path) -> None:
    """Store the results, and write the table of what is stored."""
    stored = out / "ablations.json"
    if results is not None:
        found = [json.loads(file.read_text()) for file in sorted(results.glob("*.json"))]
        if not found:
            raise InputError("results", f"{results} without a result", "the folder that `run --out` was given")
        with atomic_path(stored) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    with atomic_path(out / "ablations.md") as temporary:
        temporary.write_text(table(json.loads(stored.read_text())), encoding="utf-8")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The page: how the runs were made, and one row per variant with mean and standard deviation over seeds."""
    settings = {tuple(r[name] for name in _SETTING) for r in results}
    if len(settings) != 1:
        raise InputError("results", f"{len(settings)} settings", "runs of one setting")
    ((steps, small, pool, scenes, teacher),) = settings
    size = "pictures of up to 84 pixels and eight views a step, two in a sample" if small else "the recipe's pictures"
    lines = [
        "# Ablations",
        "",
        "The variants of the paper's tables 6 and 7 on `da3_tiny`: one thing changed, the rest as in the recipe.",
        f"{steps:,} steps, {size}, from {pool:,} scenes;",
        f"every run begins with the backbone of `{teacher}`, which also makes the labels.",
        f"Measured on {scenes} scenes of the procedural world with seeds from {FIRST_SCENE:,} on, unseen by any run,",
        f"{VIEWS} views each, one scale per scene.",
        "Mean and standard deviation over the seeds of the runs; differences smaller than these say nothing. Networks",
        "of this size have hardly learned cameras after so few steps: it shows that the variants run and what they",
        "do early on, not at the scale of the paper. `-`: the variant does not learn it.",
        "",
        f"| variant | seeds | {' | '.join(f'{name} {_arrow(more)}' for name, more in _COLUMNS.values())} |",
        "|---" * (len(_COLUMNS) + 2) + "|",
    ]
    for variant in VARIANTS:
        rows = [r["metrics"] for r in results if r["variant"] == variant]
        if rows:
            cells = (_cell([row[key] for row in rows]) for key in _COLUMNS)
            lines.append(f"| {variant} | {len(rows)} | {' | '.join(cells)} |")
    missing = [variant for variant in VARIANTS if all(r["variant"] != variant for r in results)]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join([*lines, "", "Written by `tools/ablations.py table` from [ablations.json](ablations.json).", ""])


def _arrow(more_is_better: bool) -> str:
    return "↑" if more_is_better else "↓"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.3f}" + (f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else "")


if __name__ == "__main__":
    main()
