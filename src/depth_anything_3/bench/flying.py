"""How many flying pixels the cleaning finds, and how many good ones it costs, on blurred exact depth.

The exact depth of procedural scenes is averaged over squares of 3 x 3 and 5 x 5 pixels (sky left out). A pixel then
*flies* where it is off every surface in its square by more than 2 %, and is *good* where it moved by less than 0.1 %.
Counted apart, because they are other questions: planes seen at 80 to 85 degrees from their normal; poles two to three
pixels thick; what flies around thin things, of which a blur that is wider leaves no good pixel; and what the blur does
to ground beyond 85 degrees, near the horizon, where there is one surface and no edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.refine.flying import flying_pixels
from depth_anything_3.refine.inverse_depth import shifted
from depth_anything_3.synth.cameras import Cameras, intrinsics_of, look_at
from depth_anything_3.synth.draft import Draft, Look, Part, turn_x, turn_z
from depth_anything_3.synth.sample import Sample, build, cameras_for, film
from depth_anything_3.synth.scenes import KINDS, Scene, make_scene
from depth_anything_3.types.options import CleanOptions

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ROWS = (
    "flying, removed",
    "good, kept",
    "good, on planes at 80-85 degrees, kept",
    "good, on poles of 2-3 pixels, kept",
    "flying around thin things, removed",
    "off the ground beyond 85 degrees, removed",
)

BLURS = (1, 3, 5)

_HEIGHT, _WIDTH = 252, 336
_FLYING, _GOOD = 0.02, 0.001
_POLES = 8


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Pixels of one kind in one blur.

    Attributes:
        blur: side of the square that depth was averaged over; 1 is the exact depth.
        row: one of :data:`ROWS`.
        pixels: how many there are.
        right: how many of them were treated as they should be.
    """

    blur: int
    row: str
    pixels: int
    right: int

    @property
    def share(self) -> float:
        """Part that was treated right; NaN without pixels."""
        return self.right / self.pixels if self.pixels else float("nan")


def tally(seeds: list[int], options: CleanOptions, *, views: int = 2) -> list[Tally]:
    """Count over two scenes for each seed: one of the procedural world, and one of poles and slanted planes.

    Args:
        seeds: not negative.
        options: of the flying pixels; the others have no effect.
        views: of each scene.
    """
    counts = np.zeros((len(BLURS), len(ROWS), 2), np.int64)
    for sample, poles in samples(seeds, views):
        for i, blur in enumerate(BLURS):
            counts[i] += _count(sample, poles, blur, options)
    return [
        Tally(blur=blur, row=row, pixels=int(counts[i, j, 0]), right=int(counts[i, j, 1]))
        for i, blur in enumerate(BLURS)
        for j, row in enumerate(ROWS)
    ]


def samples(seeds: list[int], views: int) -> Iterator[tuple[Sample, Mask]]:
    """Rendered views, and which of their pixels show poles.

    The kinds take turns; in every other round thin things are added.
    """
    kinds = tuple(KINDS)
    for seed in seeds:
        scene, _ = build(seed, kinds[seed % len(kinds)], thin=4 * (seed // len(kinds) % 2))
        cameras = cameras_for(scene, (), [float(i) for i in range(views)], _HEIGHT, _WIDTH, seed=seed)
        sample = film(scene, (), cameras, _HEIGHT, _WIDTH)
        yield sample, np.zeros(sample.depth.shape, np.bool_)
        scene, cameras = poles_and_planes(seed)
        sample = film(scene, (), cameras, _HEIGHT, _WIDTH)
        yield sample, (sample.object_id >= 0) & (sample.object_id < _POLES)


def poles_and_planes(seed: int) -> tuple[Scene, Cameras]:
    """Eight leaning poles, two to three pixels thick, and two panels that the camera sees at 80 to 85 degrees.

    The object ids of the poles come first.
    """
    base, draft = make_scene(seed, "room"), Draft(np.random.default_rng([seed, 77]))
    k = intrinsics_of(60, _HEIGHT, _WIDTH)
    look = Look("plain", (0.4, 0.4, 0.4), (0.5, 0.5, 0.5))
    for number in range(_POLES):
        away = draft.uniform(1.8, 3.2)
        radius = draft.uniform(2, 3) / 2 * away / float(k[0, 0])
        lean = turn_z(draft.uniform(0, 6.3)) @ turn_x(draft.uniform(-0.3, 0.3))
        middle = np.array([(number - 3.5) * 0.12 * away, away, 1.4])
        draft.add(Part("cylinder", middle, np.array([radius, radius, 1.0]), lean), look)
    for side in (-1, 1):
        middle = np.array([side * draft.uniform(1.5, 1.7), draft.uniform(3.6, 4.2), 1.4])
        towards = np.arctan2(-middle[1], -middle[0])
        facing = towards + side * np.radians(draft.uniform(81, 84))
        draft.add(Part("box", middle, np.array([0.02, 0.8, 0.9]), turn_z(facing)), look)
    draft.add(Part("box", np.array([0.0, 6.0, 1.5]), np.array([9.0, 0.1, 6.0]), np.eye(3)), look)
    world, materials = draft.world(0.0, None), draft.materials(look, look)
    scene = Scene(kind="room", seed=seed, world=world, materials=materials, lights=base.lights, stage=base.stage)
    position = np.array([[0.0, 0.0, 1.4]])
    pose = look_at(position, np.array([[0.0, 4.0, 1.3]]), np.zeros(1))
    return scene, Cameras(intrinsics=k[None], extrinsics=pose)


def _count(sample: Sample, poles: Mask, blur: int, options: CleanOptions) -> npt.NDArray[np.int64]:
    known = ~sample.sky
    blurred = box_blur(sample.depth, known, blur)
    removed = flying_pixels(
        blurred, known, tolerance=options.flying, width=options.flying_width, gap=options.flying_gap
    )
    flying, good = flying_and_good(sample.depth, blurred, known, blur)
    angle = incidence_deg(sample)
    thin = _in_window(sample.thin | poles, blur)
    steep = _in_window((angle > 85) & known, blur)
    masks = (
        (flying & ~thin & ~steep, removed),
        (good, ~removed),
        (good & (angle >= 80) & (angle <= 85), ~removed),
        (good & poles, ~removed),
        (flying & thin & ~steep, removed),
        (flying & steep, removed),
    )
    return np.array([[np.count_nonzero(which), np.count_nonzero(which & right)] for which, right in masks])


def box_blur(depth: npt.NDArray[np.floating], known: Mask, size: int) -> Array:
    """Mean depth of the known pixels in the square around each known pixel; 0 elsewhere."""
    total = sum(_shifts(np.where(known, depth, 0).astype(np.float64), size, 0.0))
    count = sum(_shifts(known.astype(np.float64), size, 0.0))
    return np.where(known, total / np.maximum(count, 1), 0)


def flying_and_good(
    exact: npt.NDArray[np.floating], blurred: npt.NDArray[np.floating], known: Mask, size: int
) -> tuple[Mask, Mask]:
    """Pixels off every exact depth in their square by more than 2 %, and pixels that moved by less than 0.1 %."""
    nearest = np.full(exact.shape, np.inf)
    for other in _shifts(np.where(known, exact, np.inf).astype(np.float64), size, np.inf):
        with np.errstate(invalid="ignore"):
            nearest = np.fmin(nearest, np.abs(blurred - other) / other)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.abs(blurred - exact) / exact
    return known & (nearest > _FLYING), known & (moved < _GOOD)


def incidence_deg(sample: Sample) -> Array:
    """(N, H, W) angle between the line of sight and the normal, degrees; 0 where the sky is."""
    _, height, width = sample.depth.shape
    k = sample.intrinsics[:, :, :, None, None].astype(np.float64)
    y, x = np.mgrid[:height, :width] + 0.5
    ray = np.stack(((x - k[:, 0, 2]) / k[:, 0, 0], (y - k[:, 1, 2]) / k[:, 1, 1], np.ones(sample.depth.shape)), -1)
    cosine = np.abs((ray * sample.normal).sum(-1)) / np.linalg.norm(ray, axis=-1)
    return np.where(sample.sky, 0, np.degrees(np.arccos(np.clip(cosine, 0, 1))))


def _in_window(mask: Mask, size: int) -> Mask:
    found: Mask = np.logical_or.reduce(list(_shifts(mask, size, False)))
    return found


def _shifts(image: npt.NDArray[Any], size: int, fill: object) -> Iterator[npt.NDArray[Any]]:
    reach = size // 2
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            yield shifted(image, down, right, fill)
