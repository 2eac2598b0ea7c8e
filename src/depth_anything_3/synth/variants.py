"""The same places made harder: without texture, glossy, or full of thin things. Functions from scene to scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.synth.draft import Draft, Look, Part, Place, turn_x, turn_z
from depth_anything_3.synth.scenes import Scene, with_parts
from depth_anything_3.synth.shapes import Solids
from depth_anything_3.synth.terrain import height_at
from depth_anything_3.synth.textures import texture_index

_SLENDER = 5.0  # a thin thing is this many times as long as wide
_WIDEST = 0.045  # of the longer side of the picture: about ten pixels of 224


def textureless(scene: Scene, seed: int) -> Scene:
    """Plain surfaces in shades of one pale colour: only light and shade tell one thing from the next."""
    rng = _generator(scene, seed, 201)
    looks, count = scene.materials, len(scene.materials.texture)
    tone = rng.uniform(0.45, 0.75) * (1 + rng.uniform(-0.08, 0.08, 3))
    shades = torch.from_numpy((tone * rng.uniform(0.88, 1.12, (count, 1))).astype(np.float32))
    materials = replace(
        looks,
        texture=torch.full((count,), texture_index("plain")),
        first=shades,
        second=shades,
        dirt=torch.full((count,), 0.02),
        gloss=looks.gloss * 0.2,
        photo=torch.full((count,), -1),
    )
    return replace(scene, materials=materials, album=None)


def specular(scene: Scene, seed: int) -> Scene:
    """Everything shines, and there are more lamps to shine."""
    rng = _generator(scene, seed, 202)
    looks, count = scene.materials, len(scene.materials.texture)
    gloss = torch.from_numpy(rng.uniform(0.5, 1.0, count).astype(np.float32))
    sharpness = torch.from_numpy(np.exp(rng.uniform(math.log(15), math.log(250), count)).astype(np.float32))
    materials = replace(looks, first=looks.first * 0.75, second=looks.second * 0.75, gloss=gloss, sharpness=sharpness)
    return _with_lamps(replace(scene, materials=materials), rng)


def _with_lamps(scene: Scene, rng: np.random.Generator) -> Scene:
    low, high = scene.stage.low.double().numpy(), scene.stage.high.double().numpy()
    position = rng.uniform(low, high, (3, 3))
    position[:, 2] = high[2] + {"street": 2.5, "open": 3.0}.get(scene.kind, 0.1)
    if scene.world.terrain is not None:
        x, y = (torch.tensor(position[:, axis], dtype=torch.float32) for axis in (0, 1))
        position[:, 2] += height_at(scene.world.terrain, x, y).double().numpy()
    reach = {"tabletop": 0.35, "street": 12.0, "open": 14.0}.get(scene.kind, 0.7)
    colour = reach * rng.uniform(0.6, 1.2, (3, 3))
    lights = scene.lights
    lights = replace(
        lights,
        position=torch.cat([lights.position, torch.from_numpy(position.astype(np.float32))]),
        far=torch.cat([lights.far, torch.zeros(3, dtype=torch.bool)]),
        colour=torch.cat([lights.colour * 0.8, torch.from_numpy(colour.astype(np.float32))]),
    )
    return replace(scene, lights=lights)


def with_thin(scene: Scene, seed: int, count: int = 6) -> Scene:
    """More thin things where cameras look: bars, railings, wires, grids, tripods, racks.

    Args:
        scene: where.
        seed: not negative.
        count: how many groups, from 1 to 40.

    Raises:
        InputError: a number out of its range.
    """
    if not 1 <= count <= 40:
        raise InputError("count", str(count), "a number from 1 to 40")
    draft = Draft(_generator(scene, seed, 203))
    size = {"tabletop": 0.16, "street": 1.6, "open": 1.6}.get(scene.kind, 0.9)
    kinds = tuple(_THIN.values())
    offset, focus = int(draft.rng.integers(len(kinds))), scene.stage.focus.clone()
    for number in range(count):
        spot = _spot(scene, draft)
        look = Look("plain", draft.colour(0.08, 0.7, 0.8), gloss=draft.uniform(0, 0.5), sharpness=60.0)
        place = draft.at(*spot, draft.uniform(0, math.pi))
        kinds[(offset + number) % len(kinds)](place, size * draft.uniform(0.8, 1.25), look)
        focus = torch.cat([focus, torch.tensor([[spot[0], spot[1], spot[2] + 0.6 * size]], dtype=torch.float32)])
    return replace(with_parts(scene, draft), stage=replace(scene.stage, focus=focus))


def _spot(scene: Scene, draft: Draft) -> tuple[float, float, float]:
    """A place on the floor (or the table) between what there is to see and where cameras stand."""
    low, high = scene.stage.low.double().numpy(), scene.stage.high.double().numpy()
    focus = scene.stage.focus.double().numpy()
    target = focus[int(draft.rng.integers(len(focus)))]
    x, y, _ = target + (draft.rng.uniform(low, high) - target) * draft.uniform(0.1, 0.45)
    if scene.kind == "tabletop":
        return x * 0.5, y * 0.5, float(focus[0, 2]) - 0.05
    if scene.world.terrain is not None:
        return x, y, float(height_at(scene.world.terrain, torch.tensor([x]), torch.tensor([y]))[0])
    return float(x), float(y), 0.0


def _railing(place: Place, size: float, look: Look) -> None:
    width = 2.2 * size
    for z in (0.15, 1.0):
        place.box(0, 0, z * size, (width, 0.03 * size, 0.03 * size), look)
    for number in range(15):
        place.rod((number - 7) * width / 14.5, 0, 0, 0.018 * size, 1.0 * size, look)


def _bars(place: Place, size: float, look: Look) -> None:
    for number in range(7):
        height = size * place.draft.uniform(1.2, 1.9)
        place.rod((number - 3) * 0.3 * size, place.draft.uniform(-0.3, 0.3) * size, 0, 0.03 * size, height, look)


def _wires(place: Place, size: float, look: Look) -> None:
    for side in (-1, 1):
        place.rod(0, side * 1.3 * size, 0, 0.04 * size, 1.75 * size, look)
    for number in range(5):
        x = (number - 2) * 0.12 * size
        place.lying(x, 0, (1.1 + 0.13 * number) * size, 0.016 * size, 2.6 * size, look)


def _grid(place: Place, size: float, look: Look) -> None:
    for number in range(8):
        place.box((number - 3.5) * 0.2 * size, 0, 0, (0.016 * size, 0.016 * size, 1.42 * size), look)
        place.box(0, 0, (0.02 + number * 0.2) * size, (1.45 * size, 0.014 * size, 0.014 * size), look)


def _tripod(place: Place, size: float, look: Look) -> None:
    tilt, leg = 0.35, np.array([0.02, 0.02, 0.65]) * size
    for number in range(3):
        rotation = place.rotation @ turn_z(number * 2 * math.pi / 3) @ turn_x(tilt)
        centre = place.point(0, 0, 1.2 * size) - rotation @ np.array([0.0, 0.0, leg[2]])
        place.draft.add(Part("cylinder", centre, leg, rotation), look)
    place.rod(0, 0, 1.15 * size, 0.03 * size, 0.35 * size, look)
    place.box(0, 0, 1.5 * size, (0.2 * size, 0.14 * size, 0.13 * size), look)


def _rack(place: Place, size: float, look: Look) -> None:
    for side in (-1, 1):
        place.rod(side * 0.6 * size, 0, 0, 0.03 * size, 1.5 * size, look)
        place.box(side * 0.6 * size, 0, 0, (0.04 * size, 0.5 * size, 0.03 * size), look)
    place.box(0, 0, 1.47 * size, (1.2 * size, 0.03 * size, 0.03 * size), look)
    for number in range(9):
        x = (number - 4) * 0.13 * size
        place.rod(x, 0, 0.65 * size, 0.012 * size, 0.84 * size, look)
        place.box(x, 0, 0.65 * size, (0.02 * size, 0.3 * size, 0.015 * size), look)


_THIN: dict[str, Callable[[Place, float, Look], None]] = {
    "railing": _railing,
    "bars": _bars,
    "wires": _wires,
    "grid": _grid,
    "tripod": _tripod,
    "rack": _rack,
}


def thin_pixels(
    solids: Solids, object_id: Int[Tensor, "n h w"], depth: Float[Tensor, "n h w"], intrinsics: Float[Tensor, "n 3 3"]
) -> Bool[Tensor, "n h w"]:
    """Which pixels show something thin.

    That is a solid at least five times as long as it is wide (its middle extent) that looks at most 4.5 % of the
    longer side of the picture wide where it is.

    Args:
        solids: of the scene.
        object_id: of a rendering.
        depth: metres.
        intrinsics: camera matrices in pixels of the rendering.
    """
    ordered = (2 * solids.half_size).sort(dim=1).values
    slender = torch.cat([ordered[:, 2] >= _SLENDER * ordered[:, 1], torch.zeros(3, dtype=torch.bool)])
    width = torch.cat([ordered[:, 1], torch.zeros(3)])
    owner = object_id.long()  # -1, the sky, is the last of the three rows that are no solids
    focal = intrinsics[:, 0, 0, None, None]
    apparent = width[owner] * focal / depth.clamp_min(1e-6) / max(object_id.shape[1:])
    return slender[owner] & (apparent <= _WIDEST)


def _generator(scene: Scene, seed: int, stream: int) -> np.random.Generator:
    if seed < 0:
        raise InputError("seed", str(seed), "an integer that is not negative")
    return np.random.default_rng([seed, scene.seed, stream])
