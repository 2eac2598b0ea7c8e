"""Fusion of depth maps into one surface (Curless and Levoy, 1996), in blocks of voxels where surfaces are.

The volume holds samples of the signed distance to the surface along the line of sight, cut off at the truncation
distance: positive in front of it (towards the cameras), negative behind. Samples lie at whole multiples of the voxel
size, in blocks of 8 x 8 x 8 that are made only within the truncation distance of some point (Niessner et al., 2013).

Memory: 20 bytes for a sample (distance, weight, three colours), so 10 KiB for a block, and never more blocks than
``max_blocks``; the work on top of it is done in pieces of fixed size, and the surface takes about as much again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.refine.clean import keep_pixels
from depth_anything_3.refine.marching_cubes import EDGES, triangle_table
from depth_anything_3.refine.points import require_cameras, unit_vectors
from depth_anything_3.types.cloud import Mesh
from depth_anything_3.types.options import CleanOptions, FuseOptions
from depth_anything_3.types.prediction import Prediction

SIDE = 8
"""Samples along each side of a block."""

_SAMPLES = SIDE**3
_BITS = 21  # of each coordinate of a block in its key
_HALF = 1 << (_BITS - 1)
_PIECE = 1024  # blocks that are worked on at a time
_COARSER = 1.1


@dataclass
class Volume:
    """Samples of the distance to the surfaces; M blocks. Made by :func:`allocate`, filled by :func:`integrate`.

    Attributes:
        voxel: distance of the samples.
        truncation: largest distance that is told apart.
        keys: (M,) ascending; the coordinates of the blocks, packed.
        distance: (M, 512) signed distance as a share of the truncation, from -1 to 1; x varies slowest.
        weight: (M, 512) sum of the weights of what was seen.
        colour: (M, 512, 3) mean of the colours from 0 to 255.
    """

    voxel: float
    truncation: float
    keys: Int[Tensor, " m"]
    distance: Float[Tensor, "m 512"]
    weight: Float[Tensor, "m 512"]
    colour: Float[Tensor, "m 512 3"]


def mesh(
    prediction: Prediction,
    clean: CleanOptions | str = "clean",
    options: FuseOptions | None = None,
    *,
    mask: np.ndarray | None = None,
) -> Mesh:
    """One coloured surface from all views of a prediction, after cleaning; weighted by confidence where there is one.

    Args:
        prediction: with cameras and pictures; it is not changed.
        clean: which pixels take part, or the name of a preset.
        options: see :class:`~depth_anything_3.types.options.FuseOptions`.
        mask: False where a pixel must not take part.

    Raises:
        CapabilityError: the prediction has no cameras.
        InputError: no pixel takes part, or the voxels are too small for ``max_blocks``; the message names a size
            that fits.
    """
    require_cameras(prediction)
    keep = keep_pixels(prediction, clean, mask=mask)
    pictures = prediction.processed_images
    return fuse(
        np.where(keep, prediction.depth, 0),
        np.full((*keep.shape, 3), 128, np.uint8) if pictures is None else pictures,
        prediction.intrinsics,
        prediction.extrinsics,
        options,
        weights=None if prediction.conf is None else np.where(np.isfinite(prediction.conf), prediction.conf, 0),
        is_metric=prediction.is_metric,
    )


def fuse(
    depth: Float[np.ndarray, "n h w"],
    images: UInt8[np.ndarray, "n h w 3"],
    intrinsics: Float[np.ndarray, "n 3 3"] | None,
    extrinsics: Float[np.ndarray, "n 3 4"] | None,
    options: FuseOptions | None = None,
    *,
    weights: Float[np.ndarray, "n h w"] | None = None,
    is_metric: bool = True,
) -> Mesh:
    """One coloured surface from depth maps with cameras.

    Args:
        depth: z-depth; pixels that are not finite and positive do not take part.
        images: RGB.
        intrinsics: camera matrices in pixels of the depth.
        extrinsics: world-to-camera poses in the unit of the depth.
        options: voxel size, truncation, bound on the memory.
        weights: how much each pixel counts; 1 where left out.
        is_metric: noted in the mesh.

    Raises:
        InputError: shapes that do not fit, no pixel takes part, or the voxels are too small for ``max_blocks``.
    """
    chosen = options or FuseOptions()
    _check(depth, images=images, intrinsics=intrinsics, extrinsics=extrinsics, weights=weights)
    assert intrinsics is not None and extrinsics is not None
    clouds = [_world_points(depth[i], intrinsics[i], extrinsics[i]) for i in range(len(depth))]
    if not sum(map(len, clouds)):
        raise InputError("depth", "no pixel with a depth that takes part", "at least one")
    if chosen.voxel is None:
        voxel = _smallest_that_fits(clouds, _two_pixels(depth, intrinsics), chosen)
    else:
        voxel = chosen.voxel
    volume = allocate(clouds, voxel, chosen.truncation, max_blocks=chosen.max_blocks)
    for i in range(len(depth)):
        weight = None if weights is None else weights[i]
        integrate(volume, depth[i], images[i], intrinsics[i], extrinsics[i], weight=weight)
    surface = extract(volume, min_weight=chosen.min_weight, is_metric=is_metric)
    return without_islands(surface, chosen.min_island) if chosen.min_island > 1 else surface


def allocate(
    clouds: list[Float[Tensor, "p 3"]], voxel: float, truncation: float = 4.0, *, max_blocks: int = 51_200
) -> Volume:
    """An empty volume with all blocks within the truncation distance of the points.

    Args:
        clouds: points of each view, world.
        voxel: distance of the samples, in the unit of the points.
        truncation: in voxels.
        max_blocks: at most so many blocks.

    Raises:
        InputError: more blocks would be needed, or coordinates do not fit; the message names a voxel size that fits.
    """
    keys = _block_keys(clouds, voxel, truncation)
    if keys is None or len(keys) > max_blocks:
        fits = _smallest_that_fits(clouds, voxel * _COARSER, FuseOptions(truncation=truncation, max_blocks=max_blocks))
        needed = "too many blocks to count" if keys is None else f"{len(keys)} blocks of {SIDE} x {SIDE} x {SIDE}"
        raise InputError(
            "voxel", f"{voxel:g}, which needs {needed}", f"at least {fits:.4g}, which fits max_blocks={max_blocks}"
        )
    count = len(keys)
    return Volume(
        voxel=voxel,
        truncation=truncation * voxel,
        keys=keys,
        distance=torch.zeros(count, _SAMPLES),
        weight=torch.zeros(count, _SAMPLES),
        colour=torch.zeros(count, _SAMPLES, 3),
    )


def _smallest_that_fits(clouds: list[Tensor], voxel: float, options: FuseOptions) -> float:
    """The first size from ``voxel`` upwards whose blocks fit, found by trying; a little more than needed."""
    while True:
        keys = _block_keys(clouds, voxel, options.truncation)
        if keys is not None and len(keys) <= options.max_blocks:
            return voxel
        # A surface needs a number of blocks that falls with the square of their size.
        excess = 16.0 if keys is None else len(keys) / options.max_blocks
        voxel = float(f"{voxel * max(math.sqrt(excess), _COARSER) * 1.0005:.4g}")


def _block_keys(clouds: list[Tensor], voxel: float, truncation: float) -> Tensor | None:
    """Ascending keys of the blocks near the points; None where a coordinate does not fit."""
    side, reach = SIDE * voxel, truncation * voxel
    steps = torch.linspace(-reach, reach, math.ceil(2 * truncation / SIDE) + 1, dtype=torch.float64)
    keys = torch.zeros(0, dtype=torch.int64)
    for points in clouds:
        if len(points) and float(points.abs().max()) + reach >= (_HALF - 2) * side:
            return None
        for offset in torch.cartesian_prod(steps, steps, steps):
            keys = torch.cat([keys, _packed(torch.floor((points + offset) / side).long()).unique()])
        keys = keys.unique()
    return keys


def _packed(block: Int[Tensor, "*m 3"]) -> Int[Tensor, "*m"]:
    x, y, z = (block + _HALF).unbind(-1)
    return (x << 2 * _BITS) | (y << _BITS) | z


def _unpacked(keys: Int[Tensor, " m"]) -> Int[Tensor, "m 3"]:
    parts = [keys >> 2 * _BITS, keys >> _BITS, keys]
    return torch.stack([part & ((1 << _BITS) - 1) for part in parts], -1) - _HALF


def _local() -> Int[Tensor, "512 3"]:
    axis = torch.arange(SIDE)
    return torch.cartesian_prod(axis, axis, axis)


def integrate(
    volume: Volume,
    depth: Float[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    *,
    weight: Float[np.ndarray, "h w"] | None = None,
) -> None:
    """Add one view to a volume: the running weighted mean of distances and colours at all samples that it sees.

    Args:
        volume: is changed.
        depth: z-depth; pixels that are not finite and positive say nothing.
        image: RGB.
        intrinsics: camera matrix in pixels of the depth.
        extrinsics: world-to-camera pose in the unit of the volume.
        weight: of the pixels; 1 where left out.
    """
    known = np.isfinite(depth) & (depth > 0)
    weights = np.where(known, 1.0 if weight is None else weight, 0.0)
    planes = torch.from_numpy(
        np.concatenate((np.where(known, depth, 0)[None], weights[None], np.moveaxis(image, -1, 0))).astype(np.float32)
    ).flatten(1)
    k, pose = (torch.from_numpy(np.array(m, np.float64)) for m in (intrinsics, extrinsics))
    for rows in _in_sight(volume, k, pose, *depth.shape):
        _add(volume, rows, planes, k, pose, *depth.shape)


def _in_sight(volume: Volume, k: Tensor, pose: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Rows of the blocks that may be seen, in pieces."""
    side = SIDE * volume.voxel
    centre = (_unpacked(volume.keys) + 0.5).double() * side
    camera = centre @ pose[:, :3].T + pose[:, 3]
    radius = side * math.sqrt(3) / 2
    z = camera[:, 2].clamp_min(radius)
    xy = (camera @ k.T)[:, :2] / z[:, None]
    margin = (k[0, 0].abs() + k[1, 1].abs()) * radius / z * 2 + 1
    inside = (xy > -margin[:, None]).all(1) & (xy[:, 0] < width + margin) & (xy[:, 1] < height + margin)
    # Nearer than its own radius a block covers everything, whatever its centre does.
    rows = ((camera[:, 2] > -radius) & (inside | (camera[:, 2] < 2 * radius))).nonzero()[:, 0]
    return iter(rows.split(_PIECE))


def _add(volume: Volume, rows: Tensor, planes: Tensor, k: Tensor, pose: Tensor, height: int, width: int) -> None:
    samples = ((_unpacked(volume.keys[rows]) * SIDE)[:, None] + _local()).double() * volume.voxel
    camera = samples @ pose[:, :3].T + pose[:, 3]
    z = camera[..., 2]
    xy = (camera @ k.T)[..., :2] / z.clamp_min(1e-12)[..., None]
    column, row = xy.clamp(-1, max(height, width) + 1).floor().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = torch.where(inside, row * width + column, 0)
    depth, new = planes[0][pixel], planes[1][pixel]
    distance = ((depth - z) / volume.truncation).float()
    new = torch.where(inside & (distance >= -1), new, 0.0)
    weight = volume.weight[rows] + new
    share = new / weight.clamp_min(1e-12)
    volume.weight[rows] = weight
    volume.distance[rows] = torch.lerp(volume.distance[rows], distance.clamp_max(1), share)
    colour = planes[2:, pixel].movedim(0, -1)
    volume.colour[rows] = torch.lerp(volume.colour[rows], colour, share[..., None])


def extract(volume: Volume, *, min_weight: float = 1.0, is_metric: bool = True) -> Mesh:
    """The surface where the distance is 0, by marching cubes, over cells whose eight corners were all seen.

    Args:
        volume: any.
        min_weight: every corner must have been seen with so much weight.
        is_metric: noted in the mesh.
    """
    neighbours = _neighbours(volume.keys)
    triangles = [_cells(volume, neighbours, rows, min_weight) for rows in torch.arange(len(volume.keys)).split(_PIECE)]
    edges = torch.cat([torch.zeros(0, 3, dtype=torch.int64), *triangles])
    used, faces = edges.unique(return_inverse=True)
    vertices, colours = _vertices(volume, neighbours, used)
    corners, index = vertices.double().numpy(), faces.reshape(-1, 3).int().numpy()
    return Mesh(
        vertices=corners.astype(np.float32),
        faces=index,
        rgb=colours.round().clamp(0, 255).byte().numpy(),
        normals=_vertex_normals(corners, index),
        is_metric=is_metric,
    )


def without_islands(mesh: Mesh, least: int) -> Mesh:
    """Only the parts that hang together by at least so many triangles.

    Args:
        mesh: any; it is not changed.
        least: triangles of the smallest part that stays.
    """
    faces = mesh.faces.astype(np.int64)
    part = np.arange(len(mesh.vertices))
    while True:
        lower = part.copy()
        np.minimum.at(lower, faces, part[faces].min(1, keepdims=True))
        lower = lower[lower]
        if (lower == part).all():
            break
        part = lower
    size = np.bincount(part[faces[:, 0]], minlength=len(part))
    stays = size[part] >= least
    number = np.cumsum(stays) - 1
    return replace(
        mesh,
        vertices=mesh.vertices[stays],
        faces=number[faces[stays[faces[:, 0]]]].astype(mesh.faces.dtype),
        rgb=mesh.rgb[stays],
        normals=mesh.normals[stays],
    )


def _neighbours(keys: Tensor) -> Int[Tensor, "m 8"]:
    """Rows of the blocks one farther along the axes that are the bits of the column; -1 where there is none."""
    if not len(keys):
        return torch.zeros(0, 8, dtype=torch.int64)
    wanted = _packed(_unpacked(keys)[:, None] + _corner_offsets())
    row = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return torch.where(keys[row] == wanted, row, -1)


def _place(neighbours: Tensor, row: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """Row and sample of places in or just beyond blocks; the row is -1 where there is no block."""
    over = (local >= SIDE).long()
    bits = over[..., 0] | over[..., 1] << 1 | over[..., 2] << 2
    inner = local - SIDE * over
    sample = (inner[..., 0] * SIDE + inner[..., 1]) * SIDE + inner[..., 2]
    return neighbours[row, bits], sample


def _corner_offsets() -> Int[Tensor, "8 3"]:
    return torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)])


def _cells(volume: Volume, neighbours: Tensor, rows: Tensor, min_weight: float) -> Int[Tensor, "t 3"]:
    """Triangles of the cells that begin in some blocks, as keys of edges: (row, sample, axis) of the lower corner."""
    cell = _local()[None].expand(len(rows), -1, -1)
    owner = rows[:, None].expand(-1, _SAMPLES)
    case, seen = torch.zeros_like(owner), torch.ones_like(owner, dtype=torch.bool)
    for i, offset in enumerate(_corner_offsets()):
        row, sample = _place(neighbours, owner, cell + offset)
        seen &= (row >= 0) & (volume.weight[row, sample] >= max(min_weight, 1e-12))
        case |= (volume.distance[row, sample] < 0).long() << i
    active = seen & (case > 0) & (case < 255)
    triangles = torch.from_numpy(triangle_table())[case[active]]
    which, edge = owner[active][:, None, None].expand_as(triangles), triangles
    used = edge[..., 0] >= 0
    start = torch.tensor([first for first, _ in EDGES])[edge.clamp_min(0)]
    corner = cell[active][:, None, None] + _corner_offsets()[start]
    row, sample = _place(neighbours, which, corner)
    return ((row * _SAMPLES + sample) * 3 + edge.clamp_min(0) // 4)[used]


def _vertices(volume: Volume, neighbours: Tensor, edges: Int[Tensor, " v"]) -> tuple[Tensor, Tensor]:
    """Place and colour where the distance is 0 on edges."""
    axis, row, sample = edges % 3, edges // 3 // _SAMPLES, edges // 3 % _SAMPLES
    step = torch.nn.functional.one_hot(axis, 3)
    other_row, other = _place(neighbours, row, _local()[sample] + step)
    first, second = volume.distance[row, sample], volume.distance[other_row, other]
    share = (first / (first - second))[:, None]
    lower = (_unpacked(volume.keys[row]) * SIDE + _local()[sample]).double()
    colour = torch.lerp(volume.colour[row, sample], volume.colour[other_row, other], share)
    return (lower + share * step) * volume.voxel, colour


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mean of the normals of the triangles around each vertex, weighted by their area."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = [np.bincount(faces.ravel(), weights=np.repeat(n, 3), minlength=len(vertices)) for n in normal.T]
    return unit_vectors(np.stack(total, -1))


def _two_pixels(depth: np.ndarray, intrinsics: np.ndarray) -> float:
    """Twice the distance of neighbouring pixels at the median depth."""
    known = np.isfinite(depth) & (depth > 0)
    return float(f"{2 * np.median(depth[known]) / np.median(intrinsics[:, 0, 0]):.4g}")


def _world_points(depth: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray) -> Tensor:
    known = np.isfinite(depth) & (depth > 0)
    return torch.from_numpy(unproject(depth.astype(np.float64), intrinsics, extrinsics)[known])


def _check(depth: np.ndarray, **others: np.ndarray | None) -> None:
    if np.ndim(depth) != 3:
        raise InputError("depth", f"shape {np.shape(depth)}", "shape (N, H, W)")
    n, h, w = depth.shape
    shapes = {"images": (n, h, w, 3), "intrinsics": (n, 3, 3), "extrinsics": (n, 3, 4), "weights": (n, h, w)}
    for name, value in others.items():
        if value is None and name == "weights":
            continue
        shape = () if value is None else value.shape
        if shape != shapes[name]:
            raise InputError(name, f"shape {shape}", f"shape {shapes[name]}")
