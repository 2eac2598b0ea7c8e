"""The reference rasteriser: plain torch, on any device, differentiable, tile by tile.

Letters: F features (colour, depth, one), T tiles of a batch, C Gaussians of a chunk, P pixels of a tile.

Every tile blends its list of Gaussians in chunks of C, many tiles at a time as dense tensors. A tile is done when its
list ends, or when all of its pixels let less than ``MIN_TRANSMITTANCE`` of the light through. With gradients, chunks
are computed again in the backward pass instead of being kept, so that memory follows the lists and not the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from depth_anything_3.splat.base import MAX_ALPHA, MIN_ALPHA, Rendering
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.splat.projection import Ellipses, project_gaussians
from depth_anything_3.splat.tiles import TILE, Band, tile_bands
from depth_anything_3.types.gaussians import Gaussians

MIN_TRANSMITTANCE = 1e-4
"""What is behind pixels that let through less than this is not drawn."""

_CHUNK = 32
_BATCH_ELEMENTS = {"cpu": 1 << 19}  # fits the cache
_DEVICE_ELEMENTS = 1 << 25
_FEATURES = 5
_NOTHING = -1e4  # the logarithm of no opacity at all


def rasterise(
    gaussians: Gaussians,
    extrinsics: Float[Tensor, "B N 3 4"],
    intrinsics: Float[Tensor, "B N 3 3"],
    size: tuple[int, int],
    options: RenderOptions,
) -> Rendering:
    """Draw with torch alone; see :func:`~depth_anything_3.splat.base.render`."""
    scenes, views = extrinsics.shape[:2]
    images = [
        _draw(project_gaussians(gaussians, b, extrinsics[b, n], intrinsics[b, n], size, options), size)
        for b in range(scenes)
        for n in range(views)
    ]
    sums = torch.stack([image for image, _ in images]) if images else extrinsics.new_zeros((0, _FEATURES, *size))
    through = torch.stack([light for _, light in images]) if images else extrinsics.new_zeros((0, *size))
    background = sums.new_tensor(options.background)[:, None, None]
    alpha = sums[:, 4]
    covered = torch.where(alpha > 0, alpha, torch.ones_like(alpha))
    return Rendering(
        colour=(sums[:, :3] + through[:, None] * background).unflatten(0, (scenes, views)),
        depth=(sums[:, 3] / covered).unflatten(0, (scenes, views)),
        alpha=alpha.unflatten(0, (scenes, views)),
    )


def _draw(ellipses: Ellipses, size: tuple[int, int]) -> tuple[Float[Tensor, "F h w"], Float[Tensor, "h w"]]:
    """Sums of features weighted by visibility, and the share of light that comes through."""
    table = _table(ellipses)
    bands = [_Band(band, -(-size[1] // TILE), table).blend() for band in tile_bands(ellipses.box, size)]
    image = torch.cat(bands, 1)[:, : size[0], : size[1]]
    return image[:_FEATURES], image[_FEATURES]


def _table(ellipses: Ellipses) -> Float[Tensor, "g 11"]:
    """What blending needs to know of each Gaussian: centre, shape, logarithm of the opacity, features."""
    # With halves inside, the exponent -q / 2 is minus a sum of two squares.
    a, s, b = ellipses.shape.unbind(-1)
    half = math.sqrt(0.5)
    shape = torch.stack((a * half, s, b * half, ellipses.opacity.log()), -1)
    one = torch.ones_like(ellipses.z)[:, None]
    return torch.cat((ellipses.centre, shape, ellipses.colour, ellipses.z[:, None], one), -1)


@dataclass(frozen=True)
class _Band:
    """One band of tiles and the Gaussians it is made of."""

    lists: Band
    columns: int
    table: Tensor

    def blend(self) -> Float[Tensor, "layers h w"]:
        """Features and remaining light of all pixels of the band."""
        order = self.lists.length.argsort(descending=True, stable=True)
        lengths = self.lists.length[order].tolist()
        elements = _BATCH_ELEMENTS.get(self.table.device.type, _DEVICE_ELEMENTS)
        step = max(elements // (_CHUNK * TILE * TILE), 1)
        parts = [self._blend_tiles(order[i : i + step], lengths[i]) for i in range(0, len(order), step)]
        tiles = torch.cat(parts)[order.argsort()]
        grid = tiles.unflatten(0, (self.lists.rows, self.columns)).unflatten(-1, (TILE, TILE))
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def _blend_tiles(self, tile: Int[Tensor, " T"], longest: int) -> Float[Tensor, "T layers P"]:
        start, length, centre = self.lists.start[tile], self.lists.length[tile], self._centres(tile)
        # The sum of nothing keeps a picture of nothing in the graph.
        sums = self.table[:0].sum() + self.table.new_zeros((len(tile), _FEATURES, TILE * TILE))
        light = self.table.new_ones((len(tile), TILE * TILE))
        chunk = torch.arange(_CHUNK, device=tile.device)
        recompute = torch.is_grad_enabled() and self.table.requires_grad
        for done in range(0, longest, _CHUNK):
            unfinished = (length > done) & (light.detach().amax(-1) > MIN_TRANSMITTANCE)
            active = unfinished.nonzero()[:, 0]
            if not len(active):
                break
            place = start[active, None] + done + chunk
            present = done + chunk < length[active, None]
            members = self.lists.members[torch.where(present, place, 0)]
            arguments = (self.table, members, present, centre[active], light[active])
            more, left = checkpoint(_blend, *arguments, use_reentrant=False) if recompute else _blend(*arguments)
            sums, light = sums.index_add(0, active, more), light.index_copy(0, active, left)
        return torch.cat((sums, light[:, None]), 1)

    def _centres(self, tile: Int[Tensor, " T"]) -> Float[Tensor, "T 2"]:
        """Pixel coordinates of the middles of tiles."""
        x, y = tile % self.columns, tile // self.columns + self.lists.first
        return (torch.stack((x, y), -1).to(self.table) + 0.5) * TILE


def _blend(
    table: Float[Tensor, "g 11"],
    members: Int[Tensor, "T C"],
    present: Tensor,
    centre: Float[Tensor, "T 2"],
    light: Float[Tensor, "T P"],
) -> tuple[Float[Tensor, "T F P"], Float[Tensor, "T P"]]:
    """What a chunk of Gaussians adds to the sums of its tiles, and the light that is left behind it."""
    rows = table[members]
    opacity = torch.where(present, rows[..., 5], _NOTHING)
    alpha = torch.exp(opacity[..., None] - _half_exponent(rows, centre))
    alpha = torch.nn.functional.threshold(alpha, MIN_ALPHA, 0.0).clamp_max(MAX_ALPHA)
    behind = (1 - alpha).cumprod(1) * light[:, None]
    weight = alpha * torch.cat((light[:, None], behind[:, :-1]), 1)
    return rows[..., 6:].transpose(1, 2) @ weight, behind[:, -1]


def _half_exponent(rows: Float[Tensor, "T C 11"], centre: Float[Tensor, "T 2"]) -> Float[Tensor, "T C P"]:
    """q / 2 at every pixel: two linear forms in the pixel's place within its tile, squared."""
    (dx, dy), (a, s, b) = (centre[:, None] - rows[..., :2]).unbind(-1), rows[..., 2:5].unbind(-1)
    across = torch.stack((a, -a * s, a * (dx - s * dy)), -1)
    down = torch.stack((torch.zeros_like(b), b, b * dy), -1)
    pixels = _pixels(rows)
    across, down = across @ pixels, down @ pixels
    return across * across + down * down


def _pixels(like: Tensor) -> Float[Tensor, "3 P"]:
    """x, y and 1 of the pixel centres of a tile, from its middle."""
    line = torch.arange(TILE, device=like.device, dtype=like.dtype) + 0.5 - TILE / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x.flatten(), y.flatten(), torch.ones_like(x).flatten()))
