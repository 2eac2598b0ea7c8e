"""Ray casting against a :class:`~depth_anything_3.synth.shapes.World`, in torch on any device.

Rays are handled in tiles of neighbours. A tile is bounded by a cone, each solid by a sphere, and only the pairs that
touch are computed: first the interval of the ray inside each candidate, the nearest one kept; then point, normal and
surface coordinates once per ray. Everything is float32.

The directions are not normalised and the hit parameter counts in them: with ``d = R_world_from_camera K^-1 (x, y, 1)``
it *is* the z-depth. T tiles, L rays of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.synth.shapes import CYLINDER, SPHERE, WEDGE, Solids, Vector, World, interval, outward
from depth_anything_3.synth.terrain import hit_terrain, terrain_normal

LANES = 64
"""Rays of a tile; eight by eight pixels of an image."""

SELF_HIT = 1e-4
"""Hits nearer than this (in ray parameter) are the surface that the ray starts on."""


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Rays in tiles. Each component is (T, L), or (T, 1) where it is the same for all rays of a tile.

    Attributes:
        origin: metres, world.
        direction: any length; the ray parameter counts in it.
        wanted: rays whose answer matters (T, L), or None for all of them.
    """

    origin: Vector
    direction: Vector
    wanted: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What rays met first.

    Attributes:
        depth: ray parameter of the hit; inf where there is none.
        object_id: see :class:`~depth_anything_3.synth.shapes.World`; -1 where there is none.
        normal: unit length, out of the solid, world frame; 0 where there is none.
        coordinates: surface coordinates in metres; 0 where there is none.
    """

    depth: Float[Tensor, " r"]
    object_id: Int[Tensor, " r"]
    normal: Float[Tensor, "r 3"]
    coordinates: Float[Tensor, "r 2"]


def cast(
    world: World,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    cull: bool = True,
    chunk: int = 1 << 17,
) -> Hits:
    """First hit of each ray.

    Args:
        world: on the device of the rays.
        origins: metres, world.
        directions: any length but zero; the depth counts in it. Neighbouring rays should be neighbours in space.
        cull: skip solids that a tile of rays cannot reach. Without it the result is the same, only slower.
        chunk: rays that are handled at a time, which bounds the memory.

    Raises:
        InputError: the shapes are wrong, or a value is not finite.
    """
    for name, value in (("origins", origins), ("directions", directions)):
        if value.dim() != 2 or value.shape[1] != 3 or value.shape != origins.shape:
            raise InputError(name, f"shape {tuple(value.shape)}", "shape (R, 3), the same for both")
        if not bool(torch.isfinite(value).all()):
            raise InputError(name, "a value that is not finite", "finite rays")
    count = origins.shape[0]
    if count == 0:
        empty = origins.new_zeros(0)
        return Hits(depth=empty, object_id=empty.int(), normal=empty.new_zeros(0, 3), coordinates=empty.new_zeros(0, 2))
    size = max(chunk // LANES, 1) * LANES
    parts = [_cast_chunk(world, origins[i : i + size], directions[i : i + size], cull) for i in range(0, count, size)]
    return Hits(**{name: torch.cat([getattr(p, name) for p in parts]) for name in Hits.__dataclass_fields__})


def _cast_chunk(world: World, origins: Tensor, directions: Tensor, cull: bool) -> Hits:
    count = origins.shape[0]
    index = torch.arange(-(-count // LANES) * LANES, device=origins.device).clamp_max(count - 1)
    rays = Rays(origin=_tiles(origins[index]), direction=_tiles(directions[index]))
    depth, object_id = nearest(world, rays, cull=cull)
    surface = surface_at(world, rays, depth, object_id)
    return Hits(
        depth=depth.flatten()[:count],
        object_id=object_id.flatten()[:count].int(),
        normal=torch.stack([v.flatten()[:count] for v in surface.normal], 1),
        coordinates=torch.stack([v.flatten()[:count] for v in surface.coordinates], 1),
    )


def _tiles(vectors: Tensor) -> Vector:
    x, y, z = vectors.float().reshape(-1, LANES, 3).unbind(-1)
    return x.contiguous(), y.contiguous(), z.contiguous()


def nearest(world: World, rays: Rays, *, cull: bool = True) -> tuple[Float[Tensor, "t lanes"], Int[Tensor, "t lanes"]]:
    """Parameter and object id of the first hit of each ray; inf and -1 where there is none."""
    shape = torch.broadcast_shapes(rays.origin[0].shape, rays.direction[0].shape)
    depth = torch.full(shape, torch.inf, device=rays.direction[0].device)
    owner = torch.full(shape, -1, dtype=torch.int64, device=depth.device)
    for hit, tile, solid in _pair_hits(world, rays, 1.0, cull, bounded=False):
        before = depth.index_select(0, tile)
        depth.index_copy_(0, tile, torch.minimum(hit, before))
        owner.index_copy_(0, tile, torch.where(hit < before, solid[:, None], owner.index_select(0, tile)))
    for candidate, identity in _landscape(world, rays, depth):
        nearer = candidate < depth
        depth = torch.where(nearer, candidate, depth)
        owner = torch.where(nearer, identity, owner)
    return depth, owner


def occluded(world: World, rays: Rays, limit: float, *, cull: bool = True) -> Bool[Tensor, "t lanes"]:
    """Whether something lies on each ray before the parameter ``limit`` (inf for light from far away)."""
    shape = torch.broadcast_shapes(rays.origin[0].shape, rays.direction[0].shape)
    dark = torch.zeros(shape, dtype=torch.bool, device=rays.direction[0].device)
    for hit, tile, _ in _pair_hits(world, rays, limit, cull, bounded=limit != torch.inf):
        dark.index_copy_(0, tile, dark.index_select(0, tile) | (hit < limit))
    if world.terrain is not None:
        reach = torch.where(dark, 0.0, torch.full(shape, limit, device=dark.device))
        if rays.wanted is not None:
            reach = torch.where(rays.wanted, reach, 0.0)
        dark |= hit_terrain(world.terrain, rays.origin, rays.direction, reach) < limit
    return dark


def _landscape(world: World, rays: Rays, depth: Tensor) -> Iterator[tuple[Tensor, int]]:
    if world.ground is not None:
        down = rays.direction[2]
        t = (world.ground - rays.origin[2]) / torch.where(down == 0, 1.0, down)
        hit = torch.where((t > SELF_HIT) & (down < 0), t, torch.inf)
        yield hit.expand_as(depth), world.ground_id
        depth = torch.minimum(depth, hit)
    if world.terrain is not None:
        yield hit_terrain(world.terrain, rays.origin, rays.direction, depth), world.terrain_id


def _pair_hits(
    world: World, rays: Rays, limit: float, cull: bool, bounded: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Hits of tiles with candidate solids, as (hit (P, L), tile (P,), solid (P,)); no tile twice in one item."""
    solids = world.solids
    if not len(solids):
        return
    touching = _touching(rays, solids, limit if bounded else None)
    if not cull:
        touching = torch.ones_like(touching)
    linear, cutter_linear = solids.unit_from_world(), world.cutters.unit_from_world()
    for shape, cutter, members in _groups(world):
        for tile, solid in _rounds(touching[:, members], members):
            origin, direction = _rows(rays.origin, tile), _rows(rays.direction, tile)
            ray = _into(linear[solid], solids.centre[solid], origin, direction)
            enter, leave = interval(shape, *ray)
            if cutter is None:
                hit = torch.where((enter < leave) & (enter > SELF_HIT), enter, torch.inf)
            else:
                cut = solids.cut[solid]
                ray = _into(cutter_linear[cut], world.cutters.centre[cut], origin, direction)
                hit = _first_of_difference(enter, leave, *interval(cutter, *ray))
            yield hit, tile, solid


def _first_of_difference(enter: Tensor, leave: Tensor, cut_enter: Tensor, cut_leave: Tensor) -> Tensor:
    """First entry into a solid without its cut: before the cut begins, or where it ends."""
    missed = cut_enter >= cut_leave
    cut_enter = torch.where(missed, torch.inf, cut_enter)
    cut_leave = torch.where(missed, -torch.inf, cut_leave)
    behind = torch.maximum(enter, cut_leave)
    hit = torch.where((behind < leave) & (behind > SELF_HIT), behind, torch.inf)
    return torch.where((enter < torch.minimum(leave, cut_enter)) & (enter > SELF_HIT), enter, hit)


def _into(linear: Tensor, centre: Tensor, origin: Vector, direction: Vector) -> tuple[Vector, Vector]:
    """Rays (P, 1 or L) in the unit space of one solid per row."""
    moved = [o - centre[:, i, None] for i, o in enumerate(origin)]
    return _turn(linear, moved), _turn(linear, direction)


def _rows(vector: Vector, index: Tensor) -> Vector:
    x, y, z = (v.index_select(0, index) for v in vector)
    return x, y, z


def _turn(linear: Tensor, v: tuple[Tensor, ...] | list[Tensor]) -> Vector:
    x, y, z = (
        torch.addcmul(torch.addcmul(v[0] * m[:, 0, None], v[1], m[:, 1, None]), v[2], m[:, 2, None])
        for m in linear.unbind(1)
    )
    return x, y, z


def _groups(world: World) -> list[tuple[int, int | None, Tensor]]:
    """Solids that are computed alike: shape, shape of the cutter or None, indices."""
    cutter_shapes = world.cutters.shape.tolist()
    groups: dict[tuple[int, int | None], list[int]] = {}
    for index, (shape, cut) in enumerate(zip(world.solids.shape.tolist(), world.solids.cut.tolist(), strict=True)):
        groups.setdefault((shape, None if cut < 0 else cutter_shapes[cut]), []).append(index)
    device = world.solids.shape.device
    return [(shape, cut, torch.tensor(members, device=device)) for (shape, cut), members in groups.items()]


def _rounds(touching: Tensor, members: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs of a (T, members) table in rounds that hold each tile at most once."""
    tile, column = touching.nonzero(as_tuple=True)
    turn = (touching.cumsum(1) - 1)[tile, column]
    order = torch.argsort(turn, stable=True)
    sizes = torch.bincount(turn).tolist()
    return zip(tile[order].split(sizes), members[column[order]].split(sizes), strict=True)


def _touching(rays: Rays, solids: Solids, limit: float | None) -> Bool[Tensor, "t s"]:
    """Which solids' bounding spheres reach into the cone of each tile; never False where a ray hits.

    The cone starts in a ball around the origins of the tile and holds all its directions.
    """
    middle, spread = _origin_balls(rays)
    axis, cosine, longest = _direction_cones(rays)
    sine = (1 - cosine * cosine).clamp_min(0).sqrt()
    reach = solids.radii()[None] + spread[:, None] + 1e-4
    offset = solids.centre[None] - middle[:, None]
    along = (offset * axis[:, None]).sum(-1)
    across = ((offset * offset).sum(-1) - along * along).clamp_min(0).sqrt()
    inside = (across * cosine[:, None] - along * sine[:, None] <= reach * 1.0001) & (along >= -reach)
    inside |= cosine[:, None] <= 0
    if limit is not None:
        inside &= along - reach <= limit * longest[:, None]
    if rays.wanted is not None:
        inside &= rays.wanted.any(1)[:, None]
    return inside


def _origin_balls(rays: Rays) -> tuple[Tensor, Tensor]:
    lows, highs = [], []
    for o in rays.origin:
        if rays.wanted is None or o.shape[1] == 1:
            lows.append(o.amin(1))
            highs.append(o.amax(1))
        else:
            lows.append(torch.where(rays.wanted, o, torch.inf).amin(1))
            highs.append(torch.where(rays.wanted, o, -torch.inf).amax(1))
    low, high = torch.stack(lows, 1), torch.stack(highs, 1)
    empty = ~torch.isfinite(low[:, :1])
    middle = torch.where(empty, 0.0, (low + high) / 2)
    return middle, torch.where(empty, 0.0, (high - low) / 2).norm(dim=1)


def _direction_cones(rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
    """Axis, cosine of the half angle (a hair too small) and the longest direction of each tile."""
    length = (rays.direction[0] ** 2 + rays.direction[1] ** 2 + rays.direction[2] ** 2).sqrt()
    keep = rays.wanted if rays.wanted is not None and length.shape[1] > 1 else None
    units = [d / length for d in rays.direction]
    total = torch.stack([(u if keep is None else torch.where(keep, u, 0.0)).sum(1) for u in units], 1)
    axis = torch.nn.functional.normalize(total, dim=1)
    cosines = sum((u * a[:, None] for u, a in zip(units, axis.unbind(1), strict=True)), torch.zeros_like(length))
    if keep is not None:
        cosines, length = torch.where(keep, cosines, 1.0), torch.where(keep, length, 0.0)
    # Rounding of a cosine near 1 is an angle of 3e-4; the cone is made that much wider.
    return axis, (cosines.amin(1) - 1e-6).clamp(-1, 1), length.amax(1)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Where rays hit, (T, L) each; zeros where there is no hit.

    Attributes:
        point: metres, world.
        normal: unit length, out of the solid, world.
        coordinates: metres along the surface: two axes of a flat face, arc length and axis on cylinders, longitude and
            latitude times the radius on spheres, x and y on ground and terrain.
    """

    point: Vector
    normal: Vector
    coordinates: tuple[Tensor, Tensor]


def surface_at(world: World, rays: Rays, depth: Tensor, object_id: Tensor) -> Surface:
    """Point, normal and surface coordinates of the hits that :func:`nearest` found."""
    hit = object_id >= 0
    t = torch.where(hit, depth, 0.0)
    point = tuple(
        torch.where(hit, torch.addcmul(o, d, t), 0.0) for o, d in zip(rays.origin, rays.direction, strict=True)
    )
    normal = [torch.zeros_like(t) for _ in range(3)]
    normal[2] = (object_id >= world.ground_id).to(t.dtype)
    coordinates = [point[0].clone(), point[1].clone()]
    flat, owner = [p.flatten() for p in point], object_id.flatten()
    groups = _groups(world)
    group_of = torch.full((world.terrain_id + 2,), -1, dtype=torch.int32, device=owner.device)
    for number, (_, _, members) in enumerate(groups):
        group_of[members + 1] = number
    group = group_of.index_select(0, owner + 1)
    for number, (shape, cutter, _) in enumerate(groups):
        chosen = (group == number).nonzero()[:, 0]
        if chosen.numel():
            here = [p.index_select(0, chosen) for p in flat]
            out, uv = _solid_surface(world, shape, cutter, owner.index_select(0, chosen), here)
            for target, value in zip((*normal, *coordinates), (*out, *uv), strict=True):
                target.view(-1).index_copy_(0, chosen, value)
    if world.terrain is not None:
        chosen = (owner == world.terrain_id).nonzero()[:, 0]
        slopes = terrain_normal(world.terrain, *(p.index_select(0, chosen) for p in flat[:2]))
        for target, value in zip(normal, slopes, strict=True):
            target.view(-1).index_copy_(0, chosen, value)
    x, y, z = point
    return Surface(
        point=(x, y, z), normal=(normal[0], normal[1], normal[2]), coordinates=(coordinates[0], coordinates[1])
    )


def _solid_surface(
    world: World, shape: int, cutter: int | None, solid: Tensor, point: list[Tensor]
) -> tuple[Vector, tuple[Tensor, Tensor]]:
    distance, normal, coordinates = _face(world.solids, shape, solid, point)
    if cutter is not None:
        inner, inner_normal, inner_coordinates = _face(world.cutters, cutter, world.solids.cut[solid], point)
        # In the cut the surface belongs to the cutter, turned inside out.
        cut = -inner > distance
        a, b, c = (torch.where(cut, -i, n) for n, i in zip(normal, inner_normal, strict=True))
        u, v = (torch.where(cut, i, o) for o, i in zip(coordinates, inner_coordinates, strict=True))
        normal, coordinates = (a, b, c), (u, v)
    return normal, coordinates


def _face(
    solids: Solids, shape: int, solid: Tensor, point: list[Tensor]
) -> tuple[Tensor, Vector, tuple[Tensor, Tensor]]:
    """Distance, world normal and surface coordinates of the face that each point lies on."""
    table = torch.cat([solids.centre, solids.half_size, solids.unit_from_world().flatten(1)], 1).T.contiguous()
    row = table.index_select(1, solid).unbind(0)
    half: Vector = (row[3], row[4], row[5])
    moved = [p - c for p, c in zip(point, row[:3], strict=True)]
    m = [row[6 + 3 * i : 9 + 3 * i] for i in range(3)]
    x, y, z = (moved[0] * a + moved[1] * b + moved[2] * c for a, b, c in m)
    distance, (gx, gy, gz) = outward(shape, (x, y, z), half)
    nx, ny, nz = (gx * m[0][i] + gy * m[1][i] + gz * m[2][i] for i in range(3))
    inverse = torch.rsqrt((nx * nx + ny * ny + nz * nz).clamp_min(1e-30))
    coordinates = _coordinates(shape, (x, y, z), (gx, gy, gz), half)
    return distance, (nx * inverse, ny * inverse, nz * inverse), coordinates


def _coordinates(shape: int, p: Vector, gradient: Vector, half: Vector) -> tuple[Tensor, Tensor]:
    x, y, z = p[0] * half[0], p[1] * half[1], p[2] * half[2]
    if shape == SPHERE:
        return torch.atan2(p[1], p[0]) * half[0], torch.asin(p[2].clamp(-1, 1)) * half[2]
    on_end = gradient[2].abs() > 0
    if shape == CYLINDER:
        return torch.where(on_end, x, torch.atan2(p[1], p[0]) * half[0]), torch.where(on_end, y, z)
    on_side = gradient[0].abs() > 0
    if shape == WEDGE:
        on_ramp = on_side & on_end
        return torch.where(on_side, y, x), torch.where(
            on_ramp, x * (half[0] ** 2 + half[2] ** 2).sqrt() / half[0], torch.where(on_end, y, z)
        )
    return torch.where(on_side, y, x), torch.where(on_end, y, z)
