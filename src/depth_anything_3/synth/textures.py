"""Procedural textures: pure functions of surface coordinates in metres and a few numbers.

Each texture gives a weight from 0 to 1 between two colours, and a brightness around 1 that makes single bricks, boards
and stains differ. Where a pixel covers more than the pattern can show, the pattern fades into its mean, so that far
surfaces do not flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.synth.album import Album, look_up

Pattern = tuple[Tensor, Tensor]
"""Weight of the second colour, brightness."""

_LATTICE = 256


@dataclass(frozen=True, kw_only=True)
class Materials:
    """Look of each object, one row per object id. M materials.

    Attributes:
        texture: index into :data:`TEXTURES`.
        first: linear RGB from 0 to 1.
        second: linear RGB from 0 to 1.
        period: metres after which the pattern repeats, or the size of its largest spot.
        aspect: length of a brick, board or stain over its width.
        phase: shift in periods; also which stains and boards one gets.
        dirt: strength from 0 to 1 of a slow variation of brightness over everything.
        gloss: strength of the highlight from 0 to 1.
        sharpness: exponent of the highlight.
        glow: light that the object gives off by itself, as a factor of its colour.
        photo: row of the scene's album that covers the object instead of the texture, or -1. A photo is ``period``
            metres high and ``aspect`` times as wide.
    """

    texture: Int[Tensor, " m"]
    first: Float[Tensor, "m 3"]
    second: Float[Tensor, "m 3"]
    period: Float[Tensor, " m"]
    aspect: Float[Tensor, " m"]
    phase: Float[Tensor, "m 2"]
    dirt: Float[Tensor, " m"]
    gloss: Float[Tensor, " m"]
    sharpness: Float[Tensor, " m"]
    glow: Float[Tensor, " m"]
    photo: Int[Tensor, " m"]


@lru_cache(maxsize=8)
def _lattice(device: str) -> Tensor:
    """Random numbers from 0 to 1 on a periodic grid, always the same."""
    generator = torch.Generator().manual_seed(20231)
    return torch.rand(_LATTICE * _LATTICE, generator=generator).to(device)


@lru_cache(maxsize=8)
def _patches(device: str) -> Tensor:
    """p, b, a, c of p + a u + b v + c u v in every cell of the lattice: (4, cells)."""
    grid = _lattice("cpu").view(_LATTICE, _LATTICE)
    right, up, far = grid.roll(-1, 0), grid.roll(-1, 1), grid.roll((-1, -1), (0, 1))
    return torch.stack((grid, up - grid, right - grid, far - right - up + grid)).flatten(1).to(device)


def scatter(i: Tensor, j: Tensor) -> Tensor:
    """A random number from 0 to 1 for each cell of the plane, the same for the same whole numbers i and j."""
    index = (i.int() & (_LATTICE - 1)) * _LATTICE + (j.int() & (_LATTICE - 1))
    return _lattice(str(i.device)).index_select(0, index)


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Smooth noise from 0 to 1 with spots of about one unit."""
    i, j = u.floor(), v.floor()
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    corner = (i.int() & (_LATTICE - 1)) * _LATTICE + (j.int() & (_LATTICE - 1))
    p, along_v, along_u, twist = _patches(str(u.device)).index_select(1, corner.flatten()).unbind(0)
    p, along_v, along_u, twist = (value.view_as(u) for value in (p, along_v, along_u, twist))
    return torch.addcmul(torch.addcmul(p, along_u, a), torch.addcmul(along_v, twist, a), b)


def fbm(u: Tensor, v: Tensor, octaves: int = 3) -> Tensor:
    """Noise with finer and weaker noise on top, from 0 to 1."""
    total, weight = noise(u, v), 1.0
    for octave in range(1, octaves):
        total = total + noise(u * 2.0**octave + 17.3 * octave, v * 2.0**octave + 5.1 * octave) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def _fraction(x: Tensor) -> Tensor:
    return x - x.floor()


def _line(x: Tensor, width: Tensor | float, blur: Tensor) -> Tensor:
    """1 in a band of ``width`` around whole numbers, with edges as soft as a pixel is large."""
    distance = 0.5 - (_fraction(x) - 0.5).abs()
    return ((width * 0.5 - distance) / blur + 0.5).clamp(0, 1)


def plain(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """One colour."""
    return torch.zeros_like(u), torch.ones_like(u)


def checker(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Squares of half a period, each a little different."""
    a = ((_fraction(u) - 0.5).abs() - 0.25) / blur
    b = ((_fraction(v) - 0.5).abs() - 0.25) / blur
    weight = 0.5 + 2 * a.clamp(-0.5, 0.5) * b.clamp(-0.5, 0.5)
    return weight, 0.9 + 0.2 * scatter((2 * u + 0.5).floor(), (2 * v + 0.5).floor())


def bricks(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Rows one period high with bricks ``aspect`` times as long, every other row shifted by half a brick."""
    row = v.floor()
    along = u / aspect + 0.5 * _fraction(row * 0.5) * 2
    mortar = torch.maximum(_line(v, 0.12, blur), _line(along, 0.12 / aspect, blur / aspect))
    return mortar, 0.75 + 0.4 * scatter(row, along.floor())


def tiles(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Square tiles with thin joints."""
    joint = torch.maximum(_line(u, 0.05, blur), _line(v / aspect, 0.05 / aspect, blur / aspect))
    return joint, 0.88 + 0.2 * scatter(u.floor(), (v / aspect).floor())


def planks(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Boards one period wide along v, with grain; each board starts somewhere else."""
    board = u.floor()
    along = v / aspect + 3.7 * scatter(board, board * 0)
    gap = torch.maximum(_line(u, 0.04, blur), _line(along, 0.02 / aspect, blur / aspect))
    grain = noise(u * 9 + 40 * scatter(board, along.floor()), v * 0.8)
    return (gap * 0.8 + 0.45 * grain * (1 - gap)).clamp(0, 1), 0.75 + 0.4 * scatter(board + 7, along.floor())


def stripes(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Bands along v, half a period each."""
    return _line(u, 0.5, blur), torch.ones_like(u)


def stains(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Cloudy spots: plaster, earth, grass from afar."""
    weight = fbm(u, v / aspect)
    return ((weight - 0.5) * 2.2 + 0.5).clamp(0, 1), torch.ones_like(u)


def grain(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Wood: wavering lines along v."""
    rings = u + 1.2 * noise(u * 0.4, v * 0.25 / aspect)
    return _fraction(rings + 0.25 * noise(u * 6, v * 0.5)) * 0.8, 0.9 + 0.2 * noise(u * 0.5 + 9, v * 0.1)


def speckle(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Small grains over broad spots: asphalt, gravel, granite."""
    fine = noise(u * 4, v * 4)
    return (0.5 * fbm(u * 0.37, v * 0.37, 2) + (fine - 0.5) * 1.5 + 0.25).clamp(0, 1), torch.ones_like(u)


def gradient(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """From one colour to the other along v and back, over two periods."""
    return (_fraction(v * 0.5) * 2 - 1).abs(), torch.ones_like(u)


def dots(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Round dots on a grid."""
    radius = torch.hypot(_fraction(u) - 0.5, _fraction(v) - 0.5)
    return ((0.28 - radius) / blur + 0.5).clamp(0, 1), torch.ones_like(u)


def windows(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """A facade: panes ``aspect`` times as wide as a storey is high; a few are lit, some have blinds."""
    across, pane = u / aspect, torch.minimum
    a, b = _fraction(across), _fraction(v)
    soft = blur / aspect
    glass = pane(((a - 0.22) / soft).clamp(0, 1), ((0.78 - a) / soft).clamp(0, 1))
    glass = pane(glass, pane(((b - 0.25) / blur).clamp(0, 1), ((0.8 - b) / blur).clamp(0, 1)))
    bar = ((0.02 - (a - 0.5).abs()) / soft + 0.5).clamp(0, 1)
    blind = (b > 0.35 + 0.5 * scatter(across.floor() + 31, v.floor())).to(u.dtype)
    lit = 0.8 + 1.2 * scatter(across.floor(), v.floor()) ** 3 + 0.8 * blind
    sill = ((0.015 - (b - 0.23).abs()) / blur + 0.5).clamp(0, 1)
    return glass * (1 - bar), torch.where(glass > 0.5, lit, 1 + 0.15 * sill)


def leaves(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Clumps of light and shade: hedges, tree crowns, meadows from near."""
    clumps = fbm(u, v)
    return ((clumps - 0.45) * 4 + 0.4).clamp(0, 1), 0.55 + 0.9 * noise(u * 5 + 3, v * 5)


def books(u: Tensor, v: Tensor, aspect: Tensor, blur: Tensor) -> Pattern:
    """Backs of books side by side, with a band each: also labels and posters."""
    back = u.floor()
    band = 0.15 + 0.7 * scatter(back, back + 3)
    label = ((0.1 - (_fraction(v / aspect) - band).abs()) / (blur / aspect) + 0.5).clamp(0, 1)
    gap = _line(u, 0.1, blur)
    return label, (0.35 + 1.1 * scatter(back + 5, back * 0)) * (1 - 0.7 * gap)


TEXTURES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Pattern]] = {
    "plain": plain,
    "checker": checker,
    "bricks": bricks,
    "tiles": tiles,
    "planks": planks,
    "stripes": stripes,
    "stains": stains,
    "grain": grain,
    "speckle": speckle,
    "gradient": gradient,
    "dots": dots,
    "windows": windows,
    "leaves": leaves,
    "books": books,
}
"""All textures by name. Arguments: u and v in periods, ``aspect``, and ``blur``, the size of a pixel in periods."""

_NAMES = tuple(TEXTURES)


def texture_index(name: str) -> int:
    """The number under which :class:`Materials` stores a texture."""
    return _NAMES.index(name)


def colours_at(
    materials: Materials,
    object_id: Int[Tensor, " r"],
    coordinates: tuple[Tensor, Tensor],
    footprint: Float[Tensor, " r"],
    album: Album | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear red, green and blue of surface points.

    Args:
        materials: one row per object id.
        object_id: which row, from 0 on.
        coordinates: metres along the surface.
        footprint: metres that a pixel covers there.
        album: what ``materials.photo`` refers to.
    """
    u, v, aspect, blur, dirt = _in_periods(materials, object_id, coordinates, footprint)
    weight, brightness = torch.zeros_like(u), torch.ones_like(u)
    kinds = materials.texture.index_select(0, object_id)
    for index in sorted(set(materials.texture.tolist())):
        chosen = (kinds == index).nonzero()[:, 0]
        if index and chosen.numel():
            here = [value.index_select(0, chosen) for value in (u, v, aspect, blur)]
            w, b = TEXTURES[_NAMES[index]](*here)
            fade = ((here[3] - 0.35) * 1.6).clamp(0, 1)
            weight.index_copy_(0, chosen, torch.lerp(w, torch.full_like(w, 0.3), fade))
            brightness.index_copy_(0, chosen, torch.lerp(b, torch.ones_like(b), fade))
    slow = noise(coordinates[0] * 0.9 + 11, coordinates[1] * 0.9) + 0.5 * noise(
        coordinates[0] * 3.1, coordinates[1] * 3.1
    )
    brightness = brightness * (1 + dirt * (slow - 0.75))
    table = torch.cat([materials.first, materials.second - materials.first], 1).T.contiguous()
    rows = table.index_select(1, object_id)
    colour = [torch.addcmul(rows[c], rows[c + 3], weight) for c in range(3)]
    if album is not None:
        photo = materials.photo.index_select(0, object_id)
        covered = (photo >= 0).nonzero()[:, 0]
        across, up, wide, soft, which = (value.index_select(0, covered) for value in (u, v, aspect, blur, photo))
        for plane, value in zip(colour, look_up(album, which, (across / wide, up), soft), strict=True):
            plane.index_copy_(0, covered, value)
    red, green, blue = (plane * brightness for plane in colour)
    return red, green, blue


def _in_periods(
    materials: Materials, object_id: Tensor, coordinates: tuple[Tensor, Tensor], footprint: Tensor
) -> tuple[Tensor, ...]:
    table = torch.stack([1 / materials.period, *materials.phase.T, materials.aspect, materials.dirt])
    per_metre, shift_u, shift_v, aspect, dirt = table.index_select(1, object_id).unbind(0)
    u, v = coordinates[0] * per_metre + shift_u, coordinates[1] * per_metre + shift_v
    return u, v, aspect, (footprint * per_metre).clamp_min(1e-4), dirt
