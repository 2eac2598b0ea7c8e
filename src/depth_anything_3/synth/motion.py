"""Things that move: rigid bodies of one or several solids, and the scene at an instant.

A scene itself stands still. Its moving bodies are listed beside it as :class:`Motion`, and :func:`scene_at` puts them
where they are at a time; a view rendered there has the exact truth of its own instant. Everything is a function of the
scene and an integer seed; metres, seconds and radians, world with z up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.synth import furniture as things
from depth_anything_3.synth.cameras import clearance
from depth_anything_3.synth.draft import Draft, Look, Part, Place, turn_z
from depth_anything_3.synth.scenes import Scene, joined, with_parts
from depth_anything_3.synth.shapes import Solids
from depth_anything_3.synth.terrain import height_at
from depth_anything_3.synth.textures import Materials

_MOST = 8
_TRIES = 60

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One rigid body on its way.

    Attributes:
        solids: object ids of its solids.
        pivot: the point it turns about, at time 0; metres, world.
        velocity: metres per second.
        axis: unit vector that it turns about.
        turn: radians per second about the axis.
        sway: metres that it swings to either side of its straight path.
        period: seconds of a full swing.
    """

    solids: tuple[int, ...]
    pivot: Triple
    velocity: Triple
    axis: Triple
    turn: float
    sway: Triple
    period: float


def pose_at(motion: Motion, time: float) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Rotation and translation that bring a point of the body from its place at time 0 to that at ``time`` (s)."""
    pivot = np.array(motion.pivot)
    rotation = _rotation(np.array(motion.axis), motion.turn * time)
    swing = math.sin(2 * math.pi * time / motion.period)
    moved = pivot + np.array(motion.velocity) * time + np.array(motion.sway) * swing
    return rotation, moved - rotation @ pivot


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def scene_at(scene: Scene, motions: Sequence[Motion], time: float) -> Scene:
    """The scene at an instant.

    Args:
        scene: at time 0.
        motions: its moving bodies, on the host like the scene.
        time: seconds.

    Raises:
        InputError: a motion names a solid that the scene does not have.
    """
    solids, cutters = scene.world.solids, scene.world.cutters
    for motion in motions:
        if motion.solids and not 0 <= min(motion.solids) <= max(motion.solids) < len(solids):
            raise InputError("motions", f"the solids {motion.solids}", f"object ids below {len(solids)}")
        rotation, translation = pose_at(motion, time)
        ids = torch.tensor(motion.solids, dtype=torch.int64)
        cuts = solids.cut[ids]
        solids = _moved(solids, ids, rotation, translation)
        cutters = _moved(cutters, cuts[cuts >= 0], rotation, translation)
    return replace(scene, world=replace(scene.world, solids=solids, cutters=cutters))


def _moved(solids: Solids, ids: Tensor, rotation: np.ndarray, translation: np.ndarray) -> Solids:
    r, t = torch.from_numpy(rotation), torch.from_numpy(translation)
    centre, turned = solids.centre.clone(), solids.rotation.clone()
    centre[ids] = (centre[ids].double() @ r.T + t).float()
    turned[ids] = (r @ turned[ids].double()).float()
    return replace(solids, centre=centre, rotation=turned)


def moving_pixels(object_id: Int[Tensor, "*n h w"], motions: Iterable[Motion]) -> Bool[Tensor, "*n h w"]:
    """Which pixels show something that moves, from the object ids of a rendering."""
    ids = torch.tensor(sorted({i for motion in motions for i in motion.solids}), dtype=object_id.dtype)
    return torch.isin(object_id, ids.to(object_id.device))


def swept(scene: Scene, motions: Sequence[Motion], times: Iterable[float]) -> Scene:
    """The scene with its moving bodies at all the times at once: cameras chosen there are hit by none of them."""
    ids = torch.tensor([i for motion in motions for i in motion.solids], dtype=torch.int64)
    if not len(ids):
        return scene
    looks = Materials(**{f.name: getattr(scene.materials, f.name)[ids] for f in fields(Materials)})
    result = scene
    for time in times:
        world = scene_at(scene, motions, time).world
        copies = Solids(**{f.name: getattr(world.solids, f.name)[ids] for f in fields(Solids)})
        result = joined(result, copies, world.cutters, looks)
    return result


def with_motion(scene: Scene, seed: int, count: int = 1, *, duration: float = 3.0) -> tuple[Scene, tuple[Motion, ...]]:
    """The scene with moving bodies that pass places worth looking at, and their motions.

    Half of the points of ``stage.focus`` are theirs afterwards, so that cameras look at them.

    Args:
        scene: where they move.
        seed: not negative.
        count: how many bodies, from 1 to 8.
        duration: seconds in which they pass; at half of it each is nearest to what it passes.

    Raises:
        InputError: a number out of its range.
    """
    if seed < 0 or not 1 <= count <= _MOST or not duration > 0:
        got = f"{seed}, {count}, {duration}"
        raise InputError("seed, count, duration", got, f"no negative seed, a count from 1 to {_MOST}, some seconds")
    rng = np.random.default_rng([seed, scene.seed, 101])
    result, motions, places = scene, list[Motion](), list[np.ndarray]()
    for _ in range(count):
        result, motion, place = _with_body(result, scene, rng, duration)
        motions.append(motion)
        places.append(place)
    old = scene.stage.focus
    new = torch.tensor(np.array(places), dtype=torch.float32).repeat(-(-len(old) // count), 1)
    return replace(result, stage=replace(scene.stage, focus=torch.cat([old, new]))), tuple(motions)


@dataclass(frozen=True)
class _Body:
    """How to build a body at the origin, standing on z = 0, and the room it takes there in metres."""

    build: Callable[[Place], None]
    radius: float
    height: float
    slides: bool = True
    speed: float = 0.6


def _person(place: Place) -> None:
    draft = place.draft
    shirt, trousers, skin = things.cloth(draft), things.cloth(draft), Look("plain", (0.55, 0.36, 0.26), dirt=0.05)
    for side in (-1, 1):
        place.at(side * 0.1, side * 0.12).rod(0, 0, 0.04, 0.14, 0.8, trousers)
        place.box(side * 0.1, side * 0.12 - 0.05, 0, (0.1, 0.27, 0.08), things.RUBBER)
        place.rod(side * 0.24, 0, 0.75, 0.09, 0.62, shirt)
        place.ball(side * 0.24, 0, 0.67, (0.1, 0.1, 0.12), skin)
    place.ball(0, 0, 0.75, (0.44, 0.28, 0.75), shirt)
    place.rod(0, 0, 1.4, 0.11, 0.15, skin)
    place.ball(0, 0, 1.48, (0.19, 0.22, 0.27), skin)
    place.ball(0, 0.02, 1.56, (0.2, 0.22, 0.21), Look("stains", (0.1, 0.06, 0.03), (0.05, 0.03, 0.02), period=0.02))


def _ball(place: Place) -> None:
    draft = place.draft
    texture = draft.pick("stripes", "checker", "dots", "stains")
    look = Look(texture, draft.colour(0.3, 0.8, 1), draft.colour(0.1, 0.6, 1), 0.25, gloss=0.4)
    place.ball(0, 0, 0, (0.4, 0.4, 0.4), look)


def _crates(place: Place) -> None:
    draft, z = place.draft, 0.0
    for size in (0.5, 0.42, 0.34):
        height = size * draft.uniform(0.5, 0.9)
        look = things.wood(draft) if draft.chance(0.5) else things.cloth(draft)
        place.at(0, 0, 0, draft.uniform(-0.4, 0.4)).box(0, 0, z, (size, size * 0.9, height), look)
        z += height


def _chair(place: Place) -> None:
    things.chair(place, things.wood(place.draft), things.cloth(place.draft))


def _robot(place: Place) -> None:
    draft = place.draft
    place.rod(0, 0, 0.03, 0.42, 0.2, things.paint(draft))
    place.box(0, 0, 0.23, (0.3, 0.26, 0.4), things.paint(draft))
    place.ball(0, 0, 0.6, (0.26, 0.26, 0.26), things.ware(draft))
    for side in (-1, 1):
        place.ball(side * 0.07, -0.11, 0.69, (0.06, 0.06, 0.06), Look("plain", (0.02, 0.02, 0.02), gloss=0.9))
        place.rod(side * 0.06, 0, 0.82, 0.015, 0.16, things.METAL)


def _drone(place: Place) -> None:
    look = things.paint(place.draft)
    place.ball(0, 0, 0, (0.3, 0.3, 0.16), look)
    for x in (-0.22, 0.22):
        for y in (-0.22, 0.22):
            place.box(x / 2, y / 2, 0.07, (abs(x), 0.03, 0.03), things.METAL)
            place.rod(x, y, 0.05, 0.03, 0.1, things.METAL)
            place.rod(x, y, 0.14, 0.26, 0.012, things.ware(place.draft))


_INSIDE = (
    _Body(_person, 0.35, 1.75),
    _Body(_ball, 0.2, 0.4, slides=False),
    _Body(_chair, 0.32, 0.95),
    _Body(_crates, 0.4, 1.0),
    _Body(_robot, 0.25, 0.95),
    _Body(_drone, 0.36, 0.2, slides=False),
)
_OUTSIDE = (
    _Body(_person, 0.35, 1.75, speed=1.4),
    _Body(things.car, 2.2, 1.4, speed=3.5),
    _Body(_crates, 0.4, 1.0, speed=1.2),
    _Body(_ball, 0.2, 0.4, slides=False, speed=2.0),
    _Body(_drone, 0.36, 0.2, slides=False, speed=1.5),
)
_ON_TABLES = (
    _Body(_ball, 0.2, 0.4, slides=False),
    _Body(things.car, 2.2, 1.4),
    _Body(_crates, 0.4, 1.0),
    _Body(_robot, 0.25, 0.95),
    _Body(_drone, 0.36, 0.2, slides=False),
)


def _with_body(
    result: Scene, still: Scene, rng: np.random.Generator, duration: float
) -> tuple[Scene, Motion, np.ndarray]:
    """The scene with one more body, its motion, and where it is half-way."""
    bodies = {"tabletop": _ON_TABLES, "street": _OUTSIDE, "open": _OUTSIDE}.get(still.kind, _INSIDE)
    body = bodies[int(rng.integers(len(bodies)))]
    scale = _scale(still.kind, body, rng)
    draft = Draft(rng)
    body.build(draft.at(0, 0))
    middle, velocity = _path(still, body, scale, rng, duration)
    half_way = 0.5 * duration
    lift = np.array([0.0, 0.0, 0.5 * body.height * scale])
    heading = math.atan2(velocity[1], velocity[0]) + (math.pi / 2 if body.build is not things.car else 0.0)
    pivot = middle - velocity * half_way + lift
    _place(draft, scale, turn_z(heading), pivot - lift)
    first = len(result.world.solids)
    motion = Motion(
        solids=tuple(range(first, first + len(draft.parts))),
        pivot=_triple(pivot),
        velocity=_triple(velocity),
        axis=_triple(np.array([0.0, 0.0, 1.0]) if body.slides else _unit(rng.normal(size=3))),
        turn=float(rng.uniform(-0.8, 0.8) * (0.15 if body.build is things.car else 1)),
        sway=_triple(np.array([0.0, 0.0, 0.0 if body.slides else rng.uniform(0.1, 0.4) * body.radius * scale])),
        period=float(rng.uniform(1, 3)),
    )
    return with_parts(result, draft), motion, middle + lift


def _scale(kind: str, body: _Body, rng: np.random.Generator) -> float:
    """Sizes for the scene: toys on a table, balls as large as people outside."""
    if kind == "tabletop":
        return float(rng.uniform(0.1, 0.16)) / (2 * body.radius) if body.build is not things.car else 0.05
    if kind in ("street", "open"):
        return float(rng.uniform(1.5, 3.5)) if body.radius < 1 and body.build is not _person else 1.0
    return float(rng.uniform(0.8, 1.3)) if body.build in (_ball, _drone, _crates) else 1.0


def _path(
    scene: Scene, body: _Body, scale: float, rng: np.random.Generator, duration: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where a body stands half-way, and its velocity: the first of some proposals that runs into nothing."""
    radius, height = body.radius * scale, body.height * scale
    best, best_room = None, -math.inf
    for _ in range(_TRIES):
        middle, velocity = _propose(scene, body, height, rng, 0.12 if scene.kind == "tabletop" else body.speed)
        steps = np.linspace(-0.5, 0.5, 9)[:, None] * duration
        track = middle + velocity * steps + [0, 0, 0.5 * height]
        room = float(clearance(scene.world, track).min()) / min(radius, 0.5 * height)
        if room > best_room:
            best, best_room = (middle, velocity), room
        if room > 0.98:
            break
    assert best is not None
    return best


def _propose(
    scene: Scene, body: _Body, height: float, rng: np.random.Generator, speed: float
) -> tuple[np.ndarray, np.ndarray]:
    low, high = scene.stage.low.double().numpy(), scene.stage.high.double().numpy()
    focus = scene.stage.focus.double().numpy()
    target = focus[int(rng.integers(len(focus)))]
    spot = target + (rng.uniform(low, high) - target) * rng.uniform(0.1, 0.7)
    heading = rng.uniform(0, 2 * np.pi)
    if scene.kind == "street" and body.build is things.car:
        heading, spot[1] = np.pi * rng.integers(2), rng.uniform(-0.5, 0.5) * high[1]
    velocity = speed * rng.uniform(0.5, 1.2) * np.array([np.cos(heading), np.sin(heading), 0.0])
    spot[2] = _floor(scene, spot)
    if not body.slides:
        spot[2] += rng.uniform(0.1, 1.0) * max(low[2] - spot[2], 0.05)
    return spot, velocity


def _floor(scene: Scene, spot: np.ndarray) -> float:
    """Height of what things stand on around a point."""
    terrain = scene.world.terrain
    if terrain is not None:
        return float(height_at(terrain, torch.tensor([spot[0]]), torch.tensor([spot[1]]))[0]) + 0.05
    on_table = float(scene.stage.focus[0, 2]) - 0.05
    return {"tabletop": on_table + 0.006, "street": 0.15, "room": 0.015}.get(scene.kind, 0.005)


def _place(draft: Draft, scale: float, rotation: np.ndarray, origin: np.ndarray) -> None:
    """Scale, turn and move all parts that were built around the origin."""

    def placed(part: Part) -> Part:
        centre = origin + rotation @ (part.centre * scale)
        return Part(part.shape, centre, part.half * scale, rotation @ part.rotation)

    draft.parts[:] = [placed(part) for part in draft.parts]
    draft.cutters[:] = [placed(part) for part in draft.cutters]
    draft.looks[:] = [replace(look, period=look.period * scale) for look in draft.looks]


def _triple(vector: np.ndarray) -> Triple:
    x, y, z = (float(v) for v in vector)
    return x, y, z


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
