"""What the procedural world is made of: convex unit shapes placed in it, a height field, a ground plane.

The world is in metres with z up. A solid is a unit shape, scaled by its half size, rotated, and moved to its centre:
``x_world = rotation @ (half_size * x_unit) + centre``. The unit shapes fill the cube from -1 to 1:

* box: the cube;
* sphere: radius 1 (an ellipsoid where the half sizes differ);
* cylinder: radius 1 around z, from z = -1 to 1;
* wedge: the half of the cube where x + z <= 0, a ramp that falls towards +x.

All are convex, so a ray is inside one for a single interval of its parameter, and a solid may have one other solid cut
out of it. S solids, R rays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError

SHAPES = ("box", "sphere", "cylinder", "wedge")
"""Names of the unit shapes; a solid stores the index."""

BOX, SPHERE, CYLINDER, WEDGE = range(len(SHAPES))

Vector = tuple[Tensor, Tensor, Tensor]
"""x, y and z as separate tensors that broadcast against each other: the layout of all per-ray work."""

_TINY = 1e-12
_SPECK = 1e-30
T = TypeVar("T")


def to_device(value: T, device: torch.device | str) -> T:
    """A copy of a frozen dataclass of tensors (and of such dataclasses) on another device."""
    moved: dict[str, object] = {}
    for field in fields(value):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        if isinstance(item, Tensor):
            moved[field.name] = item.to(device)
        elif hasattr(item, "__dataclass_fields__"):
            moved[field.name] = to_device(item, device)
    return replace(value, **moved)  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class Solids:
    """Placed shapes.

    Attributes:
        shape: index into :data:`SHAPES`.
        centre: metres, world.
        rotation: world_from_object.
        half_size: metres, along the axes of the object; positive.
        cut: index of the solid in ``World.cutters`` that is cut out of this one, or -1.
    """

    shape: Int[Tensor, " s"]
    centre: Float[Tensor, "s 3"]
    rotation: Float[Tensor, "s 3 3"]
    half_size: Float[Tensor, "s 3"]
    cut: Int[Tensor, " s"]

    def __post_init__(self) -> None:
        count = self.shape.shape[0]
        wanted = {"centre": (count, 3), "rotation": (count, 3, 3), "half_size": (count, 3), "cut": (count,)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise InputError(name, f"shape {tuple(getattr(self, name).shape)}", f"shape {shape}")
        if count and not bool((self.half_size > 0).all()):
            raise InputError("half_size", "a value that is not positive", "positive half sizes in metres")

    def __len__(self) -> int:
        return self.shape.shape[0]

    def unit_from_world(self) -> Float[Tensor, "s 3 3"]:
        """Linear part of the map from the world into the unit shape."""
        return self.rotation.transpose(1, 2) / self.half_size[:, :, None]

    def radii(self) -> Float[Tensor, " s"]:
        """Radii of bounding spheres around the centres, a hair too large."""
        h = self.half_size
        ball = h.amax(1)
        rod = torch.hypot(h[:, :2].amax(1), h[:, 2])
        radius = torch.where(self.shape == SPHERE, ball, torch.where(self.shape == CYLINDER, rod, h.norm(dim=1)))
        return radius * 1.0001


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """A height field of bilinear patches over an axis-parallel rectangle.

    Attributes:
        heights: z in metres at the grid points, ``heights[i, j]`` at ``corner + cell * (j, i)``.
        corner: x and y of ``heights[0, 0]``.
        cell: side of a grid cell in metres.
    """

    heights: Float[Tensor, "gy gx"]
    corner: Float[Tensor, " 2"]
    cell: float

    def __post_init__(self) -> None:
        if self.heights.dim() != 2 or min(self.heights.shape) < 2:
            raise InputError("heights", f"shape {tuple(self.heights.shape)}", "a grid of at least 2 x 2 heights")
        if not self.cell > 0:
            raise InputError("cell", str(self.cell), "a positive length in metres")


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a ray can hit. Object ids: the index of a solid; then the ground, then the terrain; -1 is sky.

    Attributes:
        solids: the visible solids.
        cutters: solids that ``solids.cut`` refers to; not visible themselves.
        ground: height of an endless horizontal plane, or None.
        terrain: the height field, or None.
    """

    solids: Solids
    cutters: Solids
    ground: float | None = None
    terrain: Terrain | None = None

    @property
    def ground_id(self) -> int:
        """Object id of the ground plane."""
        return len(self.solids)

    @property
    def terrain_id(self) -> int:
        """Object id of the height field."""
        return len(self.solids) + 1


def interval(shape: int, origin: Vector, direction: Vector) -> tuple[Tensor, Tensor]:
    """Ray parameters where rays enter and leave a unit shape; enter >= leave where they miss it.

    Args:
        shape: index into :data:`SHAPES`.
        origin: in the unit space of the shape.
        direction: likewise; any length, and the parameter counts in it.
    """
    if shape == SPHERE:
        return _quadric(origin, direction)
    if shape == CYLINDER:
        enter, leave = _quadric(origin[:2], direction[:2])
        near, far = _slab(origin[2], direction[2])
        return torch.maximum(enter, near), torch.minimum(leave, far)
    enter, leave = _slab(origin[0], direction[0])
    for o, d in zip(origin[1:], direction[1:], strict=True):
        near, far = _slab(o, d)
        enter, leave = torch.maximum(enter, near), torch.minimum(leave, far)
    return _slope(origin, direction, enter, leave) if shape == WEDGE else (enter, leave)


def _nonzero(d: Tensor) -> Tensor:
    """``d`` with an exact zero moved aside; nothing else is large enough to notice the difference."""
    return d + _SPECK


def _slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    inverse = _nonzero(d).reciprocal()
    first, second = (-1.0 - o) * inverse, (1.0 - o) * inverse
    return torch.minimum(first, second), torch.maximum(first, second)


def _quadric(origin: tuple[Tensor, ...], direction: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Ball or disc of radius 1. Measured from the nearest point to the centre: no digits are lost far away."""
    dd = sum((d * d for d in direction[1:]), direction[0] * direction[0]).clamp_min(_TINY)
    od = sum((o * d for o, d in zip(origin[1:], direction[1:], strict=True)), origin[0] * direction[0])
    middle = -od / dd
    nearest = [torch.addcmul(o, d, middle) for o, d in zip(origin, direction, strict=True)]
    inside = 1.0 - sum((p * p for p in nearest[1:]), nearest[0] * nearest[0])
    half = torch.where(inside > 0, (inside.clamp_min(0) / dd).sqrt(), -torch.inf)
    return middle - half, middle + half


def _slope(origin: Vector, direction: Vector, enter: Tensor, leave: Tensor) -> tuple[Tensor, Tensor]:
    along = _nonzero(direction[0] + direction[2])
    crossing = -(origin[0] + origin[2]) / along
    falling = along < 0
    enter = torch.where(falling, torch.maximum(enter, crossing), enter)
    return enter, torch.where(falling, leave, torch.minimum(leave, crossing))


def outward(shape: int, p: Vector, half_size: Vector) -> tuple[Tensor, Vector]:
    """How far points lie outside the nearest face of a shape, roughly in metres, and the gradient of that face.

    Args:
        shape: index into :data:`SHAPES`.
        p: points in unit space, near the surface.
        half_size: of the solid, to compare its faces in metres.

    Returns:
        the distance (negative inside) and the direction out of the face in unit space, not normalised.
    """
    zero = torch.zeros_like(p[0])
    if shape == SPHERE:
        radius = (p[0] * p[0] + p[1] * p[1] + p[2] * p[2]).sqrt()
        return (radius - 1) * torch.minimum(torch.minimum(half_size[0], half_size[1]), half_size[2]), p
    end = (p[2].abs() - 1) * half_size[2]
    if shape == CYLINDER:
        side = (torch.hypot(p[0], p[1]) - 1) * torch.minimum(half_size[0], half_size[1])
        capped = end > side
        gradient = (torch.where(capped, zero, p[0]), torch.where(capped, zero, p[1]), torch.where(capped, p[2], zero))
        return torch.maximum(end, side), gradient
    distance, face = end, torch.full_like(end, 2)
    for axis in (1, 0):
        other = (p[axis].abs() - 1) * half_size[axis]
        face = torch.where(other > distance, axis, face)
        distance = torch.maximum(distance, other)
    gx, gy, gz = (torch.where(face == axis, p[axis], zero) for axis in range(3))
    if shape == WEDGE:
        ramp = (p[0] + p[2]) * torch.rsqrt(half_size[0] ** -2 + half_size[2] ** -2)
        on_ramp = ramp > distance
        one = torch.ones_like(zero)
        gx, gy, gz = torch.where(on_ramp, one, gx), torch.where(on_ramp, zero, gy), torch.where(on_ramp, one, gz)
        distance = torch.maximum(distance, ramp)
    return distance, (gx, gy, gz)
