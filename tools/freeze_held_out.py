"""Choose the held-out set of the procedural world and write it down.

usage: python tools/freeze_held_out.py --work FILE [--scenes 200] [--out src/depth_anything_3/synth/held_out.json]

The file that is in the package was written once and is not to be written again: results on another set cannot be
compared. This program shows how it came to be. It takes about twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import DA3Error
from depth_anything_3.synth import difficulty
from depth_anything_3.synth.cameras import Cameras, make_cameras, overlaps
from depth_anything_3.synth.held_out import (
    COLUMNS,
    HELD_OUT_SEEDS,
    SECONDS_PER_VIEW,
    VIEWS,
    HeldOutScene,
    digest,
    from_record,
    measure,
    pack_cameras,
    set_difficulty,
    take,
    thumbnails,
    to_record,
    unpack_cameras,
)
from depth_anything_3.synth.motion import Motion, moving_pixels, scene_at, swept
from depth_anything_3.synth.render import Rendering, render
from depth_anything_3.synth.sample import Sample, build, separate
from depth_anything_3.synth.scenes import KINDS, Scene
from depth_anything_3.synth.variants import thin_pixels

_ROOM = 1000  # seeds that one scene may try
_PATIENCE = 60  # after so many the views come from anywhere
_SIZES = ((168, 224), (224, 168), (224, 224), (126, 224), (224, 126), (154, 224), (224, 154), (140, 224))
_FOCAL = (0.42, 1.75)  # of the longer side; log-uniform
_SHARES = {
    "trajectory": {"random": 76, "low": 34, "orbit": 26, "rig": 26, "walk": 14, "handheld": 8, "loop": 8, "drive": 8},
    "style": {"textured": 132, "textureless": 36, "specular": 32},
    "thin": {"no": 164, "yes": 36},
    "moving": {"no": 162, "yes": 38},
}
"""How many of 200 scenes are meant to be what."""


@dataclass(frozen=True)
class Wish:
    """What a scene is meant to be."""

    index: int
    kind: str
    trajectory: str
    style: str
    thin: bool
    moving: bool

    @property
    def name(self) -> str:
        """Of the scene."""
        return f"held_out_{self.index:03d}"


def wishes(count: int, *, seed: int = 2026) -> list[Wish]:
    """One wish per scene; the properties are shuffled independently of each other."""
    rng = np.random.default_rng(seed)
    columns = {name: _shuffled(shares, count, rng) for name, shares in _SHARES.items()}
    kinds = _shuffled(dict.fromkeys(KINDS, 1), count, rng)
    result = []
    for index in range(count):
        trajectory, kind = columns["trajectory"][index], kinds[index]
        if trajectory in ("rig", "drive", "loop") and kind == "tabletop":
            kind = ("room", "corridor", "street", "open")[index % 4]
        thin, moving = columns["thin"][index] == "yes", columns["moving"][index] == "yes"
        result.append(Wish(index, kind, trajectory, columns["style"][index], thin, moving))
    return result


def _shuffled(shares: dict[str, int], count: int, rng: np.random.Generator) -> list[str]:
    pool = [name for name, share in shares.items() for _ in range(share)]
    filled = list(itertools.islice(itertools.cycle(pool), max(count, len(pool))))
    return [filled[i] for i in rng.permutation(len(filled))][:count]


def find(wish: Wish, *, first: int = HELD_OUT_SEEDS.start, patience: int = _PATIENCE) -> tuple[HeldOutScene, Sample]:
    """The first seed that gives a scene as wished for, rendered; seeds of scene i begin ``1000 i`` after ``first``."""
    start = first + wish.index * _ROOM
    for seed in range(start, start + _ROOM):
        # Some wishes contradict each other: a drive that looks ahead may pass nothing that moves.
        found = _attempt(wish if seed < start + patience else replace(wish, trajectory="random"), seed)
        if found is not None:
            return found
    raise SystemExit(f"no scene for {wish}")


def _attempt(wish: Wish, seed: int) -> tuple[HeldOutScene, Sample] | None:
    rng = np.random.default_rng([seed, 401])
    height, width = _SIZES[int(rng.integers(len(_SIZES)))]
    low, high = np.log((0.42, 0.9) if wish.trajectory == "rig" else _FOCAL)
    fov = float(2 * np.degrees(np.arctan(0.5 / np.exp(rng.uniform(low, high)))))
    off_centre, zoom = bool(rng.random() < 0.35), 1.25 if rng.random() < 0.15 else 1.0
    thin, moving = (
        int(rng.integers(5, 11)) * wish.thin * (2 if wish.kind in ("street", "open") else 1),
        int(rng.integers(1, 4)) * wish.moving,
    )
    scene, motions = build(
        seed, wish.kind, style=wish.style, thin=thin, moving=moving, duration=VIEWS * SECONDS_PER_VIEW
    )
    trajectory = "random" if wish.trajectory == "low" else wish.trajectory
    shared = (0.1, 0.25) if wish.trajectory == "low" else (0.35, 0.6)
    try:
        cameras = make_cameras(swept(scene, motions, np.arange(VIEWS) * SECONDS_PER_VIEW), VIEWS, height, width,
                               seed=seed, kind=trajectory, fov_deg=fov, off_centre=off_centre, overlap=shared,
                               zoom=zoom)  # fmt: skip
    except DA3Error:
        return None
    cameras = unpack_cameras(pack_cameras(cameras))
    if not (_connected(wish, scene, cameras, height, width) and _worth(wish, scene, motions, cameras, height, width)):
        return None
    sample = take(scene, motions, cameras, height, width, seed=seed)
    brightness = sample.rgb.mean((1, 2, 3))
    if brightness.min() < 25 or brightness.max() > 235:
        return None
    stats = measure(sample)
    labels = {"textureless" if wish.style == "textureless" else "textured"}
    labels |= {"specular"} if wish.style == "specular" else set()
    labels |= {"thin"} if stats.thin >= 0.05 else set()
    labels |= {"moving"} if moving else set()
    labels |= {"low_overlap"} if wish.trajectory == "low" else set()
    labels |= {"rig"} if trajectory == "rig" else set()
    spec = HeldOutScene(
        name=wish.name, seed=seed, kind=wish.kind, trajectory=trajectory, camera_seed=seed,
        height=height, width=width, fov_deg=round(fov, 3), off_centre=off_centre, slices=tuple(sorted(labels)),
        style=wish.style, thin=thin, moving=moving, cameras=cameras, sha256=digest(sample.rgb),
        thumbnails=thumbnails(sample.rgb), stats=stats,
    )  # fmt: skip
    return spec, sample


def _connected(wish: Wish, scene: Scene, cameras: Cameras, height: int, width: int) -> bool:
    """Every view shares something with another one, and the pairs share about as much as they should."""
    if wish.trajectory == "rig":
        return True
    shared = overlaps(scene, cameras, height, width)
    both = (shared + shared.T) / 2
    np.fill_diagonal(both, 0)
    mean = both.sum() / VIEWS / (VIEWS - 1)
    if wish.trajectory == "low":
        return bool(both.max(1).min() > 0.06 and 0.04 < mean < 0.3)
    most = 0.93 if wish.trajectory == "handheld" else 0.75
    return bool(both.max(1).min() > 0.12 and 0.1 < mean < most)


def _worth(wish: Wish, scene: Scene, motions: tuple[Motion, ...], cameras: Cameras, height: int, width: int) -> bool:
    """Not mostly sky, not blocked, and what the wish asks for is in the pictures."""
    draft = _preview(scene, motions, cameras, height, width)
    sky = draft.sky.float().mean((1, 2))
    depth = torch.where(draft.sky, 0.0, draft.depth).numpy()
    close = ((depth > 0) & (depth < 2 * scene.stage.near)).mean((1, 2))
    largest = np.array([max(Counter(view.flatten().tolist()).values()) / view.numel() for view in draft.object_id])
    if sky.max() > 0.6 or close.max() > 0.3 or largest.max() > 0.92 or (largest > 0.8).sum() > 2:
        return False
    if difficulty.depth_spread(depth) < 2.5:
        return False
    moved = moving_pixels(draft.object_id, motions).float().mean((1, 2))
    if motions and (moved.mean() < 0.015 or (moved > 0.004).sum() < 4 or moved.max() > 0.5):
        return False
    thin = thin_pixels(scene.world.solids, draft.object_id, draft.depth, draft.intrinsics).float().mean()
    return not wish.thin or bool(thin > 0.055)


def _preview(scene: Scene, motions: tuple[Motion, ...], cameras: Cameras, height: int, width: int) -> Rendering:
    if not motions:
        return render(scene, cameras, height, width, shadows=False)
    parts = [
        render(scene_at(scene, motions, i * SECONDS_PER_VIEW), one, height, width, shadows=False)
        for i, one in enumerate(separate(cameras))
    ]
    return Rendering(**{n: torch.cat([getattr(p, n) for p in parts]) for n in Rendering.__dataclass_fields__})


def freeze(count: int, work: Path) -> list[HeldOutScene]:
    """Find all scenes that the work file does not have yet, then judge each by the mean depth map of all."""
    found = [json.loads(line) for line in work.read_text().splitlines()] if work.exists() else []
    done = {item["record"][0]: item for item in found}
    for wish in wishes(count):
        if wish.name in done:
            continue
        spec, sample = find(wish)
        coarse = difficulty.normalised_log_depth(sample.depth)
        done[wish.name] = {"record": to_record(spec), "log_depth": np.round(coarse, 4).tolist()}
        with work.open("a") as file:
            file.write(json.dumps(done[wish.name]) + "\n")
        tries = spec.seed - HELD_OUT_SEEDS.start - wish.index * _ROOM
        print(spec.name, spec.kind, spec.trajectory, spec.slices, f"after {tries} others", file=sys.stderr, flush=True)
    items = [done[wish.name] for wish in wishes(count)]
    specs = [from_record(item["record"]) for item in items]
    maps = [np.array(item["log_depth"]) for item in items]
    mean = np.nanmean(np.concatenate(maps), 0)
    deltas = [difficulty.constant_map_delta(log_depth, mean) for log_depth in maps]
    return [
        replace(spec, stats=replace(spec.stats, constant_map_delta=delta))
        for spec, delta in zip(specs, deltas, strict=True)
    ]


def main() -> None:
    """Write the file and print how hard the set is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--work", type=Path, required=True, help="what was found so far; an interrupted run goes on")
    parser.add_argument("--out", type=Path, default=Path("src/depth_anything_3/synth/held_out.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = [to_record(spec) for spec in freeze(options.scenes, options.work)]
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    with atomic_path(options.out) as path:
        path.write_text(f'{{"columns":{json.dumps(COLUMNS)},"scenes":[\n{lines}\n]}}\n', encoding="utf-8")
    scenes = [from_record(record) for record in records]
    print(json.dumps(asdict(set_difficulty(scenes))))
    print(json.dumps(Counter(label for scene in scenes for label in scene.slices)))


if __name__ == "__main__":
    main()
