"""Whole scenes, each a function of an integer seed.

The world is in metres with z up; cameras use OpenCV axes. The same seed and kind give the same scene in every process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.synth import furniture as things
from depth_anything_3.synth.album import Album, chosen
from depth_anything_3.synth.draft import Colour, Draft, Look, Place, tinted
from depth_anything_3.synth.shapes import BOX, Solids, Terrain, World
from depth_anything_3.synth.terrain import height_at
from depth_anything_3.synth.textures import Materials, texture_index


@dataclass(frozen=True, kw_only=True)
class Lights:
    """What lights a scene; colours are linear RGB. L lights.

    Attributes:
        position: metres; for a far light the unit direction towards it.
        far: the light comes from far away (the sun).
        colour: of far lights the light that arrives; of near ones that at one metre.
        ambient_above: light from above that has no direction.
        ambient_below: likewise from below.
        horizon: colour of the sky at the horizon.
        zenith: colour of the sky overhead.
        clouds: cover from 0 to 1, and two shifts.
        haze: per metre, how much of a far surface is lost in the colour of the sky.
    """

    position: Float[Tensor, "lights 3"]
    far: Bool[Tensor, " lights"]
    colour: Float[Tensor, "lights 3"]
    ambient_above: Float[Tensor, " 3"]
    ambient_below: Float[Tensor, " 3"]
    horizon: Float[Tensor, " 3"]
    zenith: Float[Tensor, " 3"]
    clouds: Float[Tensor, " 3"]
    haze: Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where cameras may be, and what there is to see.

    Attributes:
        low: lowest corner of the box of camera positions; over terrain z counts from the ground.
        high: its highest corner.
        focus: points worth looking at.
        near: metres that a camera keeps from everything.
        slack: metres in x and y by which a trajectory may leave the box: not through the wall of a building, and not
            behind the houses of a street.
    """

    low: Float[Tensor, " 3"]
    high: Float[Tensor, " 3"]
    focus: Float[Tensor, "f 3"]
    near: float
    slack: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A place: what there is, how it looks, how it is lit, where to stand."""

    kind: str
    seed: int
    world: World
    materials: Materials
    lights: Lights
    stage: Stage
    album: Album | None = None


def make_scene(seed: int, kind: str | None = None, *, photos: Album | None = None) -> Scene:
    """The scene of a seed.

    Args:
        seed: not negative.
        kind: one of :data:`KINDS`, or None to let the seed choose.
        photos: textures for pictures, rugs, cloths, posters, some walls and facades, from
            :func:`~depth_anything_3.synth.album.load_album`. A scene uses a dozen of them; its geometry is the same
            with and without.

    Raises:
        InputError: the seed is negative or the kind is unknown.
    """
    if seed < 0:
        raise InputError("seed", str(seed), "an integer that is not negative")
    kind = tuple(KINDS)[seed % len(KINDS)] if kind is None else kind
    if kind not in KINDS:
        raise InputError("kind", repr(kind), "a kind of scene", KINDS)
    draft = Draft(np.random.default_rng([seed, tuple(KINDS).index(kind)]))
    world, materials, lights, stage = KINDS[kind](draft)
    scene = Scene(kind=kind, seed=seed, world=world, materials=materials, lights=lights, stage=stage)
    return scene if photos is None else _hung(scene, photos)


def _hung(scene: Scene, photos: Album) -> Scene:
    """The scene with photos on it: most flat things, some large walls and facades, a few others that had a pattern."""
    rng, looks = np.random.default_rng([scene.seed, 78]), scene.materials
    rows = rng.permutation(len(photos))[:_MOST_PHOTOS]
    columns = {name: getattr(looks, name).clone() for name in ("photo", "period", "aspect", "phase")}
    solids = scene.world.solids
    for index, (size, shape) in enumerate(zip((2 * solids.half_size).tolist(), solids.shape.tolist(), strict=True)):
        thin = int(np.argmin(size))
        wide, high = (length for axis, length in enumerate(size) if axis != thin)
        likely, fitted = _photo_chance(size, shape, int(looks.texture[index]) != texture_index("plain"))
        if looks.glow[index] > 0 or rng.random() >= likely:
            continue
        columns["photo"][index] = which = int(rng.integers(len(rows)))
        if fitted:
            columns["period"][index], columns["aspect"][index] = high, wide / high
            columns["phase"][index] = torch.tensor([0.5 * wide / high, 0.5])
        else:
            columns["period"][index] = rng.uniform(0.6, 1.6) * min(3.0 if wide * high > _LARGE else 1.0, max(size))
            columns["aspect"][index] = photos.aspect[rows[which]]
    return replace(scene, materials=replace(looks, **columns), album=chosen(photos, rows.tolist()))


def _photo_chance(size: list[float], shape: int, patterned: bool) -> tuple[float, bool]:
    """How likely a solid of this size is to carry a photo, and whether it is fitted onto its broad face."""
    thin, short, long = sorted(size)
    if shape == BOX and thin <= 0.05 and short >= 0.25 and long < 3 * short:
        return 0.75, True
    if not patterned or thin <= 0.03 or (shape != BOX and long >= 1):  # the last are the crowns of trees
        return 0.0, False
    return (0.35 if shape == BOX and short * long > _LARGE else 0.2), False


def with_parts(scene: Scene, draft: Draft) -> Scene:
    """The scene with more solids, which get the object ids after those of the solids it had."""
    added = draft.world(None, None)
    return joined(scene, added.solids, added.cutters, draft.materials(_NOTHING, _NOTHING))


def joined(scene: Scene, solids: Solids, cutters: Solids, materials: Materials) -> Scene:
    """The scene with more solids.

    Args:
        scene: the scene.
        solids: the new ones; they get the object ids after those of the solids it had.
        cutters: what ``solids.cut`` refers to.
        materials: looks of the new solids in their rows; further rows are not used.
    """
    world, count = scene.world, len(solids)
    shifted = replace(solids, cut=torch.where(solids.cut < 0, -1, solids.cut + len(world.cutters)))
    looks = {
        field.name: torch.cat([old[: len(world.solids)], new[:count], old[len(world.solids) :]])
        for field in fields(Materials)
        for old, new in [(getattr(scene.materials, field.name), getattr(materials, field.name))]
    }
    world = replace(world, solids=_both(world.solids, shifted), cutters=_both(world.cutters, cutters))
    return replace(scene, world=world, materials=Materials(**looks))


def _both(first: Solids, second: Solids) -> Solids:
    return Solids(**{f.name: torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Solids)})


_MOST_PHOTOS = 12
_LARGE = 5.0  # square metres
_Made = tuple[World, Materials, Lights, Stage]
_NOTHING = Look("plain", (0.5, 0.5, 0.5))


def _sky(draft: Draft, *, haze: float) -> dict[str, Tensor]:
    evening = draft.uniform(0, 1) ** 3
    horizon = (0.72 + 0.2 * evening, 0.78 - 0.15 * evening, 0.88 - 0.4 * evening)
    zenith = (0.16 + 0.1 * evening, 0.34, 0.72 - 0.1 * evening)
    clouds = (draft.uniform(0.3, 0.8), draft.uniform(0, 99), draft.uniform(0, 99))
    values = {"horizon": horizon, "zenith": zenith, "clouds": clouds, "haze": haze}
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}


def _sun(draft: Draft, low: float, high: float) -> list[float]:
    """A unit direction between two heights in radians."""
    height, around = draft.uniform(low, high), draft.uniform(0, 2 * math.pi)
    return [math.cos(height) * math.cos(around), math.cos(height) * math.sin(around), math.sin(height)]


def _lights(
    draft: Draft,
    lamps: list[tuple[list[float], bool, Colour]],
    above: Colour,
    below: Colour,
    haze: float = 0.0,
) -> Lights:
    return Lights(
        position=torch.tensor([p for p, _, _ in lamps], dtype=torch.float32),
        far=torch.tensor([far for _, far, _ in lamps]),
        colour=torch.tensor([c for _, _, c in lamps], dtype=torch.float32),
        ambient_above=torch.tensor(above, dtype=torch.float32),
        ambient_below=torch.tensor(below, dtype=torch.float32),
        **_sky(draft, haze=haze),
    )


def _daylight(draft: Draft, haze: float) -> Lights:
    strength = draft.uniform(0.75, 1.1)
    sun = (1.0 * strength, 0.93 * strength, 0.8 * strength)
    return _lights(draft, [(_sun(draft, 0.5, 1.2), True, sun)], (0.3, 0.35, 0.43), (0.16, 0.15, 0.13), haze)


def _stage(
    low: Colour, high: Colour, focus: list[Colour], near: float, slack: tuple[float, float] = (0.5, 0.5)
) -> Stage:
    lowest, highest, points = (torch.tensor(v, dtype=torch.float32) for v in (low, high, focus))
    return Stage(low=lowest, high=highest, focus=points, near=near, slack=slack)


def _floor_look(draft: Draft) -> Look:
    if draft.chance(0.55):
        light = draft.uniform(0.7, 1.5)
        return Look("planks", (0.38 * light, 0.24 * light, 0.13 * light), (0.14, 0.08, 0.05), draft.uniform(0.1, 0.2),
                    aspect=8.0, gloss=0.15, sharpness=25.0)  # fmt: skip
    texture = draft.pick("tiles", "checker")
    first, second = draft.colour(0.3, 0.75, 0.2), draft.colour(0.1, 0.4, 0.25)
    return Look(texture, first, second, period=draft.uniform(0.3, 0.7), gloss=0.25, sharpness=60.0)


def _wall_look(draft: Draft) -> Look:
    texture = draft.pick("stains", "plain", "stripes", "bricks", "dots", "stains")
    first = draft.colour(0.4, 0.75, 0.35)
    if texture == "bricks":
        return Look(texture, draft.colour(0.25, 0.5, 0.5), (0.55, 0.52, 0.48), period=0.075, aspect=3.0, dirt=0.3)
    second = tinted(Look(texture, first, first), draft.uniform(0.75, 0.92)).first
    return Look(texture, first, second, period=draft.uniform(0.12, 0.5), dirt=0.12)


def _shell(draft: Draft, width: float, depth: float, height: float, openings: list[tuple[float, ...] | None]) -> None:
    """Floor, ceiling and four walls around x, y in +-width / 2, +-depth / 2; openings as (x, z, width, height)."""
    wall, thick = _wall_look(draft), 0.2
    white = Look("stains", (0.75, 0.75, 0.73), (0.68, 0.68, 0.66), period=1.5, dirt=0.05)
    centre = draft.at(0, 0)
    centre.box(0, 0, -0.2, (width + 0.5, depth + 0.5, 0.2), _floor_look(draft))
    centre.box(0, 0, height, (width + 0.5, depth + 0.5, 0.2), white)
    sides = (
        (0.0, depth, width, 0.0),
        (-width, 0.0, depth, math.pi / 2),
        (0.0, -depth, width, math.pi),
        (width, 0.0, depth, -math.pi / 2),
    )
    for (x, y, length, yaw), opening in zip(sides, openings, strict=True):
        out = 0.5 + 0.5 * thick / max(abs(x), abs(y))
        place = draft.at(x * out, y * out, 0, yaw)
        hole = None if opening is None else (opening[0], opening[1], opening[2], opening[3])
        place.wall((length + 2 * thick, thick, height), wall, hole)
        if hole is None:
            place.box(0, -thick / 2 - 0.008, 0, (length, 0.016, 0.09), white)
        else:
            _window(place.at(hole[0], 0, hole[1]), hole[2], hole[3], white)


def _window(place: Place, width: float, height: float, look: Look) -> None:
    """Frame and bars in an opening, and a sill where it is a window."""
    for x in (-width / 2, 0, width / 2):
        place.box(x, 0, 0, (0.05, 0.06, height), look)
    for z in (0, height - 0.05):
        place.box(0, 0, z, (width, 0.06, 0.05), look)
    place.box(0, -0.14, -0.04, (width + 0.1, 0.2, 0.03), look)


def _room(draft: Draft) -> _Made:
    width, depth, height = draft.uniform(4.2, 6.5), draft.uniform(4.2, 7.0), draft.uniform(2.4, 2.9)
    opening = (draft.uniform(-0.6, 0.6), 0.9, draft.uniform(1.2, 2.0), draft.uniform(1.0, 1.3))
    _shell(draft, width, depth, height, [opening, None, None, (0.0, 0.9, 1.2, 1.2) if draft.chance(0.5) else None])
    focus = _furnish(draft, width, depth, height)
    sun = [draft.uniform(-0.5, 0.7), draft.uniform(0.5, 1.0), draft.uniform(0.5, 0.8)]
    length = math.hypot(*sun)
    lamps = [([v / length for v in sun], True, (1.6, 1.45, 1.2)), ([0.0, 0.0, height - 0.62], False, (1.5, 1.3, 1.05))]
    lights = _lights(draft, lamps, (0.3, 0.3, 0.31), (0.34, 0.32, 0.3))
    low, high = (-width / 2 + 0.3, -depth / 2 + 0.3, 0.9), (width / 2 - 0.3, depth / 2 - 0.3, min(1.9, height - 0.8))
    return draft.world(-3.0, None), draft.materials(_grass(), _NOTHING), lights, _stage(low, high, focus, 0.22)


def _furnish(draft: Draft, width: float, depth: float, height: float) -> list[Colour]:
    timber, x, y = things.wood(draft), draft.uniform(-0.6, 0.6), draft.uniform(-0.4, 0.6)
    draft.at(x, y).box(0, 0, 0, (2.6, 2.0, 0.012), things.cloth(draft))
    group = draft.at(x, y, 0.012, draft.uniform(-0.3, 0.3))
    things.table(group, 1.5, 0.85, 0.74, timber)
    for side in range(4):
        spot = group.at(
            (-0.35, 0.35)[side % 2], -0.6 if side < 2 else 0.6, 0, math.pi * (side < 2) + draft.uniform(-0.3, 0.3)
        )
        things.chair(spot, timber, things.cloth(draft))
    for slot in (-0.5, -0.1, 0.3):
        things.small_thing(
            group.at(slot + draft.uniform(0, 0.2), draft.uniform(-0.25, 0.25), 0.74, draft.uniform(0, 6))
        )
    left = draft.at(-width / 2, 0, 0, math.pi / 2)
    things.shelf(
        left.at(draft.uniform(-0.8, 0.8), -0.17), draft.uniform(0.9, 1.6), draft.uniform(1.2, 2.1), things.wood(draft)
    )
    back = draft.at(0, -depth / 2, 0, math.pi)
    things.sofa(back.at(draft.uniform(-0.5, 0.5), -0.48), draft.uniform(1.5, 2.2), things.cloth(draft))
    things.picture(back.at(draft.uniform(-0.6, 0.6), 0, 1.35), draft.uniform(0.7, 1.3), draft.uniform(0.5, 0.8))
    things.picture(left.at(draft.uniform(1.2, 1.5), 0, 1.4), 0.5, 0.65)
    corner = draft.at(width / 2 - 0.4, depth / 2 - 0.4)
    things.plant(corner, draft.uniform(0.9, 1.4))
    cupboard = draft.at(width / 2, -depth / 4, 0, -math.pi / 2).at(0, -0.24)
    cupboard.box(0, 0, 0, (1.2, 0.45, 0.85), things.wood(draft))
    for slot in (-0.4, 0.0, 0.4):
        cupboard.box(slot, -0.225, 0.06, (0.37, 0.02, 0.73), things.wood(draft) if slot == 0 else timber)
        cupboard.rod(slot + 0.12, -0.25, 0.5, 0.02, 0.1, things.METAL)
        things.small_thing(cupboard.at(slot, 0, 0.85, draft.uniform(0, 6)))
    pendant = draft.at(0, 0)
    pendant.rod(0, 0, height - 0.45, 0.015, 0.45, things.RUBBER)
    pendant.cup(0, 0, height - 0.6, 0.4, 0.2, Look("plain", (0.8, 0.75, 0.6), glow=0.4), wall=0.04)
    return [
        (x, y, 0.75),
        (-width / 2 + 0.3, 0.0, 1.1),
        (0.0, -depth / 2 + 0.5, 0.7),
        (width / 2 - 0.4, -depth / 4, 0.8),
        (0.0, depth / 2, 1.2),
    ]


def _corridor(draft: Draft) -> _Made:
    width, length, height = draft.uniform(1.9, 2.8), draft.uniform(10, 18), draft.uniform(2.4, 2.8)
    _shell(draft, width, length, height, [(0.0, 0.9, width * 0.55, 1.3), None, None, None])
    frame = tinted(things.wood(draft), draft.uniform(0.7, 1.4))
    leaf = Look("grain", draft.colour(0.25, 0.6, 0.6), draft.colour(0.2, 0.4, 0.4), period=0.2, gloss=0.2)
    lamp = Look("plain", (0.95, 0.95, 0.9), glow=0.8)
    focus: list[Colour] = [(0.0, length / 2, 1.3), (0.0, -length / 2, 1.2)]
    for number in range(int(length / 2.4)):
        y = -length / 2 + 1.2 + 2.4 * number
        for side, yaw in ((-1, math.pi / 2), (1, -math.pi / 2)):
            _corridor_bay(draft.at(side * width / 2, y, 0, yaw), frame, leaf)
        draft.at(0, y).box(0, 0, height - 0.04, (0.5, 1.1, 0.04), lamp)
        focus += [(-width / 2, y, 1.2), (width / 2, y, 1.2)]
    draft.at(-width / 2 + 0.12, 0).lying(0, 0, height - 0.2, 0.1, length, things.METAL)
    lamps = [([0.0, s * length * 0.25, height - 0.2], False, (1.9, 1.8, 1.55)) for s in (-1, 1)]
    lights = _lights(draft, lamps, (0.3, 0.3, 0.31), (0.24, 0.23, 0.21))
    low, high = (-width / 2 + 0.45, -length / 2 + 0.5, 1.0), (width / 2 - 0.45, length / 2 - 0.8, 1.8)
    return draft.world(-4.0, None), draft.materials(_grass(), _NOTHING), lights, _stage(low, high, focus, 0.2)


def _corridor_bay(place: Place, frame: Look, leaf: Look) -> None:
    """One piece of corridor wall (at y = 0, facing -y): a door, a picture, a bench, a plant, a cupboard or nothing."""
    draft = place.draft
    what = draft.pick("door", "door", "picture", "plant", "crate", "board", "none")
    if what == "door":
        place.box(0, -0.02, 0, (1.06, 0.05, 2.13), frame)
        place.box(0, -0.03, 0, (0.92, 0.06, 2.05), leaf)
        place.ball(0.38, -0.075, 1.0, (0.05, 0.05, 0.05), things.METAL)
        place.box(0, -0.06, 1.55, (0.25, 0.01, 0.1), things.ware(draft))
    elif what == "picture":
        things.picture(place.at(0, 0, 1.25), draft.uniform(0.6, 1.2), draft.uniform(0.5, 0.8))
    elif what == "plant":
        things.plant(place.at(0, -0.22), draft.uniform(0.7, 1.1))
    elif what == "crate":
        place.box(0, -0.2, 0, (0.5, 0.36, draft.uniform(0.3, 0.8)), things.wood(draft))
    elif what == "board":
        notes = Look("checker", draft.colour(0.5, 0.8, 0.6), draft.colour(0.3, 0.7, 0.8), period=0.31)
        place.box(0, -0.015, 1.0, (1.3, 0.03, 0.9), frame)
        place.box(0, -0.02, 1.05, (1.2, 0.03, 0.8), notes)


def _tabletop(draft: Draft) -> _Made:
    width, depth, height = draft.uniform(3.2, 4.2), draft.uniform(3.2, 4.2), 2.6
    _shell(draft, width, depth, height, [(0.3, 0.9, 1.4, 1.2), None, None, None])
    long, short, top = draft.uniform(0.9, 1.5), draft.uniform(0.7, 0.9), draft.uniform(0.68, 0.78)
    place = draft.at(0, 0, 0, draft.uniform(0, math.pi))
    things.table(place, long, short, top, things.wood(draft) if draft.chance(0.6) else things.cloth(draft))
    if draft.chance(0.6):
        place.box(0, 0, top, (long * 0.7, short * 0.6, 0.004), things.cloth(draft))
    columns, rows = int(long / 0.24), int(short / 0.24)
    focus: list[Colour] = [(0.0, 0.0, top + 0.05)]
    for index in range(columns * rows):
        if draft.chance(0.78):
            x = (index % columns + 0.5) / columns * long - long / 2 + draft.uniform(-0.02, 0.02)
            y = (index // columns + 0.5) / rows * short - short / 2 + draft.uniform(-0.02, 0.02)
            spot = place.at(x, y, top + 0.004, draft.uniform(0, 6.3))
            things.small_thing(spot)
            focus.append((float(spot.origin[0]), float(spot.origin[1]), top + 0.08))
    wall = draft.at(0, -depth / 2, 0, math.pi)
    things.picture(wall.at(draft.uniform(-0.6, 0.6), 0, 1.1), 1.0, 0.7)
    things.shelf(draft.at(-width / 2, 0, 0, math.pi / 2).at(0, -0.17), 1.4, 1.8, things.wood(draft))
    things.plant(draft.at(width / 2 - 0.35, depth / 2 - 0.35), 1.1)
    lamps = [([0.4, 0.9, 2.3], False, (2.2, 2.0, 1.7)), ([-1.2, -0.9, 1.9], False, (0.7, 0.8, 1.0))]
    lights = _lights(draft, lamps, (0.3, 0.3, 0.31), (0.2, 0.18, 0.17))
    low, high = (-1.25, -1.25, top + 0.15), (1.25, 1.25, top + 0.8)
    return draft.world(-3.0, None), draft.materials(_grass(), _NOTHING), lights, _stage(low, high, focus, 0.09)


def _grass() -> Look:
    return Look("leaves", (0.1, 0.19, 0.05), (0.2, 0.3, 0.09), period=0.8, dirt=0.4)


def _street(draft: Draft) -> _Made:
    half, walk = draft.uniform(3.0, 4.0), draft.uniform(2.0, 3.0)
    paving = Look("tiles", (0.42, 0.41, 0.39), (0.25, 0.25, 0.24), period=0.5, dirt=0.3)
    kerb = Look("tiles", (0.5, 0.5, 0.48), (0.3, 0.3, 0.3), period=1.0, dirt=0.3)
    white = Look("plain", (0.75, 0.75, 0.72), dirt=0.5)
    road = draft.at(0, 0)
    for side in (-1, 1):
        road.box(0, side * (half + walk / 2 + 0.07), 0, (160, walk, 0.14), paving)
        road.box(0, side * (half + 0.06), 0, (160, 0.16, 0.15), kerb)
        _house_row(draft, side, half + walk)
        _roadside(draft, side, half)
    for number in range(-8, 9):
        road.box(number * 5.0, 0, 0, (2.2, 0.14, 0.006), white)
    for stripe in range(int(2 * half / 0.9)):
        road.box(draft.uniform(11.99, 12.01), -half + 0.6 + stripe * 0.9, 0, (3.0, 0.45, 0.006), white)
    asphalt = Look("speckle", (0.09, 0.09, 0.095), (0.2, 0.2, 0.2), period=0.12, dirt=0.35)
    beside = ((-half - 2, 1.5), (half + 2, 1.5), (0.0, 1.2))
    focus: list[Colour] = [(x, y, z) for x in (-30.0, -12.0, 0.0, 12.0, 30.0) for y, z in beside]
    low, high = (-26.0, -half + 1.0, 1.2), (26.0, half - 1.0, 2.4)
    lights = _daylight(draft, draft.uniform(0.001, 0.005))
    return (
        draft.world(0.0, None),
        draft.materials(asphalt, _NOTHING),
        lights,
        _stage(low, high, focus, 0.5, (30.0, 6.0)),
    )


def _house_row(draft: Draft, side: int, front: float) -> None:
    """Town houses side by side along the street, with their fronts at ``front`` from its middle."""
    x = -64.0
    while x < 62:
        width, depth, height = draft.uniform(7, 15), draft.uniform(8, 12), 3.1 * int(draft.rng.integers(2, 6)) + 0.4
        back = draft.uniform(0, 0.8)
        place = draft.at(x + width / 2, side * (front + back), 0, 0.0 if side > 0 else math.pi)
        facade = Look("windows", draft.colour(0.3, 0.7, 0.45), (0.07, 0.09, 0.12), 3.1, draft.uniform(0.6, 0.9), 0.25)
        place.box(0, depth / 2, 0, (width, depth, height), facade)
        _ground_floor(place, width)
        trim = tinted(Look("plain", facade.first, dirt=0.3), 0.8)
        place.box(0, depth / 2, height, (width + 0.2, depth + 0.5, 0.25), trim)
        if draft.chance(0.5):
            roof = Look("bricks", (0.3, 0.12, 0.08), (0.12, 0.06, 0.05), period=0.25, aspect=1.3, dirt=0.35)
            place.ramp(0, depth * 0.25 - 0.2, height + 0.25, (depth * 0.5, width, depth * 0.35), roof, yaw=-math.pi / 2)
            place.ramp(0, depth * 0.75 - 0.2, height + 0.25, (depth * 0.5, width, depth * 0.35), roof, yaw=math.pi / 2)
        x += width + (draft.uniform(1.5, 5) if draft.chance(0.25) else 0.02)


def _ground_floor(place: Place, width: float) -> None:
    """A plinth with a door and a shop window before the wall y = 0."""
    draft = place.draft
    stone = Look("tiles", draft.colour(0.25, 0.5, 0.25), (0.2, 0.2, 0.2), period=0.6, aspect=0.6, dirt=0.3)
    place.box(0, -0.06, 0, (width, 0.12, 3.0), stone)
    shift = draft.uniform(-0.25, 0.25) * width
    place.box(shift, -0.1, 0.14, (1.1, 0.1, 2.2), things.wood(draft))
    for x in (shift - width * 0.24, shift + width * 0.24):
        if abs(x) + width * 0.17 < width / 2:
            place.box(x, -0.1, 0.6, (width * 0.3, 0.1, 1.7), things.GLASS)
            if draft.chance(0.6):
                place.ramp(x, -0.7, 2.4, (1.1, width * 0.32, 0.45), things.cloth(draft), yaw=-math.pi / 2)


def _roadside(draft: Draft, side: int, half: float) -> None:
    """Trees, lamps, signs and parked cars along one side."""
    yaw = 0.0 if side > 0 else math.pi
    for number in range(-4, 5):
        x = number * 9.0 + draft.uniform(-1, 1)
        what = draft.pick("tree", "tree", "lamp", "lamp", "sign", "none")
        spot = draft.at(x, side * (half + 0.6), 0.14, yaw)
        if what == "tree":
            things.tree(spot, draft.uniform(4.0, 6.5))
        elif what == "lamp":
            things.street_lamp(spot, draft.uniform(4.5, 6))
        elif what == "sign":
            things.sign(spot)
        if draft.chance(0.4):
            turn = draft.uniform(-0.03, 0.03) + (math.pi if side > 0 else 0.0)
            things.car(draft.at(x + 4.5, side * (half - 0.95), 0, turn))
        if draft.chance(0.3):
            draft.at(x + 2, side * (half + 1.4), 0.14).cup(0, 0, 0, 0.45, 0.9, things.paint(draft))


def _hills(draft: Draft, extent: float, highest: float, cells: int = 96) -> Terrain:
    """Hills that sink to z = 0 at the border; slopes stay moderate."""
    axis = np.linspace(-1, 1, cells + 1)
    x, y = np.meshgrid(axis, axis)
    height = np.zeros_like(x)
    for octave in range(1, 6):
        angle = draft.rng.uniform(0, 2 * np.pi, 4)
        for a in angle:
            phase = draft.uniform(0, 2 * math.pi)
            height += np.sin(octave * 2.3 * (np.cos(a) * x + np.sin(a) * y) + phase) / (4 * octave**1.4)
    height -= height.min()
    ring = np.clip(np.hypot(x, y) * 1.5 - 0.35, 0, 1)
    fade = np.clip((1 - np.maximum(np.abs(x), np.abs(y))) * 2.5, 0, 1)
    height = height * highest * (0.25 + 0.75 * ring**2) / height.max() * fade * fade * (3 - 2 * fade)
    # The sun stands higher than the steepest slope, as it does over most open country.
    across, along = np.gradient(height, extent / cells)
    height *= min(1.0, 0.42 / float(np.hypot(across, along).max()))
    corner = torch.tensor([-extent / 2, -extent / 2])
    return Terrain(heights=torch.from_numpy(height.astype(np.float32)), corner=corner, cell=extent / cells)


def _open(draft: Draft) -> _Made:
    extent = draft.uniform(90, 140)
    terrain = _hills(draft, extent, draft.uniform(4, 11))

    def ground(x: float, y: float) -> float:
        return float(height_at(terrain, torch.tensor([x]), torch.tensor([y]))[0])

    focus: list[Colour] = []
    x, y = draft.uniform(-6, 6), draft.uniform(7, 11)
    things.house(
        draft.at(x, y, ground(x, y - 3), draft.uniform(-0.5, 0.5)),
        draft.uniform(6, 9),
        draft.uniform(5, 6.5),
        draft.uniform(2.6, 4.5),
    )
    focus.append((x, y, ground(x, y) + 2))
    for number in range(22):
        angle, reach = number * 2.4 + draft.uniform(-0.4, 0.4), 9 + 1.7 * number
        tx, ty = reach * math.cos(angle), reach * math.sin(angle)
        if math.hypot(tx - x, ty - y) > 7:
            things.tree(draft.at(tx, ty, ground(tx, ty), draft.uniform(0, 6)), draft.uniform(3.5, 8))
            focus.append((tx, ty, ground(tx, ty) + 2))
    _fence(draft, ground)
    for _ in range(10):
        rx, ry, size = draft.uniform(-16, 16), draft.uniform(-16, 4), draft.uniform(0.3, 1.4)
        stone = Look("speckle", (0.3, 0.29, 0.27), (0.45, 0.44, 0.4), period=0.25, dirt=0.5)
        draft.at(rx, ry, ground(rx, ry) - size * 0.2, draft.uniform(0, 6)).ball(
            0, 0, 0, (size, size * 0.8, size * 0.65), stone
        )
    bx, by = draft.uniform(-5, 5), draft.uniform(-4, 2)
    things.table(draft.at(bx, by, ground(bx, by), draft.uniform(0, 3)), 1.8, 0.8, 0.75, things.wood(draft))
    focus.append((bx, by, ground(bx, by) + 0.7))
    field = _grass() if draft.chance(0.7) else Look("stains", (0.35, 0.27, 0.17), (0.22, 0.2, 0.1), 1.5, dirt=0.5)
    lights = _daylight(draft, draft.uniform(0.002, 0.008))
    stage = _stage((-13.0, -13.0, 1.3), (13.0, 5.0, 2.6), focus, 0.5, (20.0, 20.0))
    return draft.world(0.0, terrain), draft.materials(_grass(), field), lights, stage


def _fence(draft: Draft, ground: Callable[[float, float], float]) -> None:
    """Posts with two rails on a curve around the stage."""
    timber, count = things.wood(draft), 14
    start = draft.uniform(0, 6.3)
    spots = [(15.5 * math.cos(start + 0.16 * i), 15.5 * math.sin(start + 0.16 * i)) for i in range(count)]
    for (x, y), (nx, ny) in itertools.pairwise(spots):
        z, length = ground(x, y), math.hypot(nx - x, ny - y)
        draft.at(x, y, z - 0.2).box(0, 0, 0, (0.1, 0.1, 1.3), timber)
        middle = draft.at((x + nx) / 2, (y + ny) / 2, (z + ground(nx, ny)) / 2, math.atan2(ny - y, nx - x))
        for height in (0.4, 0.85):
            middle.box(0, 0, height, (length, 0.03, 0.1), timber)


KINDS: dict[str, Callable[[Draft], _Made]] = {
    "room": _room,
    "corridor": _corridor,
    "tabletop": _tabletop,
    "street": _street,
    "open": _open,
}
"""Kinds of scenes by name."""
