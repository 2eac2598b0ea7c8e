"""Building a scene piece by piece: looks, placed shapes, and the random choices of one seed.

Everything here is host-side numpy; a finished :class:`Draft` turns into tensors once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from depth_anything_3.synth.shapes import SHAPES, Solids, Terrain, World
from depth_anything_3.synth.textures import Materials, texture_index

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """One row of :class:`~depth_anything_3.synth.textures.Materials`; the fields mean the same."""

    texture: str
    first: Colour
    second: Colour = (0.5, 0.5, 0.5)
    period: float = 1.0
    aspect: float = 1.0
    dirt: float = 0.15
    gloss: float = 0.0
    sharpness: float = 40.0
    glow: float = 0.0


@dataclass(frozen=True)
class Part:
    """A shape to be placed: half size along its own axes, world_from_object rotation."""

    shape: str
    centre: np.ndarray
    half: np.ndarray
    rotation: np.ndarray


def turn_z(angle: float) -> np.ndarray:
    """Rotation about the vertical by ``angle`` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def turn_x(angle: float) -> np.ndarray:
    """Rotation about x by ``angle`` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


@dataclass
class Draft:
    """Solids and their looks while a scene is being put together."""

    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    cutters: list[Part] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        """A random number from ``low`` to ``high``."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def pick(self, *choices: str) -> str:
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def colour(self, low: float = 0.15, high: float = 0.75, vivid: float = 0.5) -> Colour:
        """A random linear colour: brightness from ``low`` to ``high``, saturation up to ``vivid``."""
        value, hue = self.uniform(low, high), self.uniform(0, 2 * math.pi)
        strength = self.uniform(0, vivid)
        red, green, blue = (
            value * (1 - strength + strength * (0.5 + 0.5 * math.cos(hue + shift)) * 1.6) for shift in (0, 2.1, 4.2)
        )
        return red, green, blue

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Place:
        """A frame with its origin at a point of the world, turned about the vertical."""
        return Place(self, np.array([x, y, z]), turn_z(yaw))

    def add(self, part: Part, look: Look, cut: Part | None = None) -> None:
        """Put a part into the world, with another part cut out of it."""
        self.parts.append(part)
        self.looks.append(look)
        self.cuts.append(-1 if cut is None else len(self.cutters))
        if cut is not None:
            self.cutters.append(cut)

    def world(self, ground: float | None, terrain: Terrain | None) -> World:
        """The finished geometry."""
        return World(
            solids=_solids(self.parts, self.cuts),
            cutters=_solids(self.cutters, [-1] * len(self.cutters)),
            ground=ground,
            terrain=terrain,
        )

    def materials(self, ground: Look, terrain: Look) -> Materials:
        """The finished looks, one row per object id."""
        looks = [*self.looks, ground, terrain]
        columns = {
            name: torch.tensor([getattr(look, name) for look in looks], dtype=torch.float32)
            for name in ("first", "second", "period", "aspect", "dirt", "gloss", "sharpness", "glow")
        }
        texture = torch.tensor([texture_index(look.texture) for look in looks])
        phase = torch.from_numpy(self.rng.uniform(0, 1, (len(looks), 2)).astype(np.float32))
        # Whole periods apart, so that no two bricks walls have the same odd brick in the same place.
        phase = phase + torch.from_numpy(self.rng.integers(0, 200, (len(looks), 2)).astype(np.float32))
        return Materials(texture=texture, phase=phase, photo=torch.full((len(looks),), -1), **columns)


@dataclass(frozen=True)
class Place:
    """A frame in which furniture is described: x to its right, y to its back, z up, metres."""

    draft: Draft
    origin: np.ndarray
    rotation: np.ndarray

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Place:
        """A frame within this frame."""
        return Place(self.draft, self.point(x, y, z), self.rotation @ turn_z(yaw))

    def point(self, x: float, y: float, z: float) -> np.ndarray:
        """World coordinates of a point."""
        return self.origin + self.rotation @ np.array([x, y, z])

    def part(self, shape: str, x: float, y: float, z: float, size: Colour, tilt: np.ndarray | None = None) -> Part:
        """A shape of full ``size`` that stands on the point (x, y, z)."""
        half = np.array(size) / 2
        rotation = self.rotation if tilt is None else self.rotation @ tilt
        return Part(shape, self.point(x, y, z + half[2]), half, rotation)

    def box(self, x: float, y: float, z: float, size: Colour, look: Look) -> None:
        """A box that stands on a point."""
        self.draft.add(self.part("box", x, y, z, size), look)

    def ball(self, x: float, y: float, z: float, size: Colour, look: Look) -> None:
        """An ellipsoid that stands on a point."""
        self.draft.add(self.part("sphere", x, y, z, size), look)

    def rod(self, x: float, y: float, z: float, width: float, height: float, look: Look) -> None:
        """An upright cylinder that stands on a point."""
        self.draft.add(self.part("cylinder", x, y, z, (width, width, height)), look)

    def ramp(self, x: float, y: float, z: float, size: Colour, look: Look, yaw: float = 0.0) -> None:
        """A wedge that stands on a point and falls towards its own +x."""
        self.draft.add(self.part("wedge", x, y, z, size, turn_z(yaw)), look)

    def cup(self, x: float, y: float, z: float, width: float, height: float, look: Look, wall: float = 0.1) -> None:
        """An open cylinder: cup, pot, bin."""
        inner = width * (1 - wall)
        cut = self.part("cylinder", x, y, z + height * wall, (inner, inner, height))
        self.draft.add(self.part("cylinder", x, y, z, (width, width, height)), look, cut)

    def lying(self, x: float, y: float, z: float, width: float, length: float, look: Look) -> None:
        """A cylinder along y whose lowest line lies at z."""
        half = np.array([width, width, length]) / 2
        centre = self.point(x, y, z + width / 2)
        self.draft.add(Part("cylinder", centre, half, self.rotation @ turn_x(math.pi / 2)), look)

    def wall(self, size: Colour, look: Look, opening: tuple[float, float, float, float] | None) -> None:
        """A wall along x that stands on the origin, with an opening (x, z, width, height) through it."""
        cut = None
        if opening is not None:
            x, z, width, height = opening
            cut = self.part("box", x, 0.0, z, (width, size[1] * 3, height))
        self.draft.add(self.part("box", 0.0, 0.0, 0.0, size), look, cut)


def _solids(parts: list[Part], cuts: list[int]) -> Solids:
    def stacked(name: str, *shape: int) -> torch.Tensor:
        values = [getattr(part, name) for part in parts]
        return torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(len(parts), *shape))

    return Solids(
        shape=torch.tensor([SHAPES.index(part.shape) for part in parts], dtype=torch.int64),
        centre=stacked("centre", 3),
        rotation=stacked("rotation", 3, 3),
        half_size=stacked("half", 3),
        cut=torch.tensor(cuts, dtype=torch.int64),
    )


def tinted(look: Look, factor: float) -> Look:
    """The same look, brighter or darker."""
    a, b, c = (v * factor for v in look.first)
    d, e, f = (v * factor for v in look.second)
    return replace(look, first=(a, b, c), second=(d, e, f))
