"""From a scene and cameras to pictures with exact truth.

Geometry is taken at the centres of the pixels. Colours are linear light, made into picture values at the end; they may
be averaged over several rays per pixel, the geometry never is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.synth.cameras import Cameras
from depth_anything_3.synth.raycast import Rays, Surface, nearest, occluded, surface_at
from depth_anything_3.synth.scenes import Lights, Scene
from depth_anything_3.synth.shapes import Vector, to_device
from depth_anything_3.synth.textures import colours_at, fbm

TILE = 8
"""Side of the square of pixels that one tile of rays covers."""

_LIFT = 1e-3  # metres by which shadow rays start above their surface
_GAMMA = 1 / 2.2


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Pictures and truth of N views, tensors on the device that rendered them.

    Attributes:
        rgb: picture values from 0 to 1 (gamma-encoded).
        depth: z-depth in metres; inf where the sky is.
        normal: unit length, camera frame (OpenCV axes), towards the camera; 0 where the sky is.
        sky: nothing was hit.
        object_id: index of the solid; then ground, then terrain; -1 for the sky.
        intrinsics: camera matrices in pixels.
        extrinsics: world-to-camera poses, metres, OpenCV axes.
    """

    rgb: Float[Tensor, "n h w 3"]
    depth: Float[Tensor, "n h w"]
    normal: Float[Tensor, "n h w 3"]
    sky: Bool[Tensor, "n h w"]
    object_id: Int[Tensor, "n h w"]
    intrinsics: Float[Tensor, "n 3 3"]
    extrinsics: Float[Tensor, "n 3 4"]


def render(
    scene: Scene,
    cameras: Cameras,
    height: int,
    width: int,
    *,
    samples: int = 1,
    shadows: bool = True,
    chunk: int = 1 << 17,
    device: torch.device | str = "cpu",
) -> Rendering:
    """Render views of a scene.

    Args:
        scene: from :func:`~depth_anything_3.synth.scenes.make_scene`.
        cameras: with intrinsics in pixels of the wanted size.
        height: rows.
        width: columns.
        samples: colour is averaged over ``samples`` x ``samples`` rays per pixel.
        shadows: cast a ray to every light from every lit point.
        chunk: rays that are handled at a time, which bounds the memory.
        device: where to compute.

    Raises:
        InputError: a size or a number of samples below 1.
    """
    for name, value in (("height", height), ("width", width), ("samples", samples), ("chunk", chunk)):
        if value < 1:
            raise InputError(name, str(value), "at least 1")
    scene = to_device(scene, device)
    k = torch.as_tensor(cameras.intrinsics, dtype=torch.float32, device=device)
    pose = torch.as_tensor(cameras.extrinsics, dtype=torch.float32, device=device)
    views = [_Film(scene, k, pose, height, width, 1, chunk, shadows).expose(colour=samples == 1)]
    if samples > 1:
        fine = k * torch.tensor([samples, samples, 1.0], device=device)[:, None]
        film = _Film(scene, fine, pose, height * samples, width * samples, samples, chunk, shadows)
        rgb = film.expose(colour=True).rgb.movedim(-1, 1)
        views[0] = replace(views[0], rgb=torch.nn.functional.avg_pool2d(rgb, samples).movedim(1, -1))
    encoded = views[0].rgb.clamp(0, 1) ** _GAMMA
    return replace(views[0], rgb=encoded, intrinsics=k)


@dataclass(frozen=True)
class _Film:
    """One pass over all pixels of all views, tile by tile."""

    scene: Scene
    intrinsics: Tensor
    extrinsics: Tensor
    height: int
    width: int
    finer: int
    chunk: int
    shadows: bool

    def expose(self, *, colour: bool) -> Rendering:
        """Render everything; without colour ``rgb`` is 0 and no light is computed."""
        rows, columns = -(-self.height // TILE), -(-self.width // TILE)
        views = self.extrinsics.shape[0]
        total = views * rows * columns
        size = max(self.chunk // TILE**2, 1)
        parts = [
            self._tiles(torch.arange(i, min(i + size, total)), rows, columns, colour) for i in range(0, total, size)
        ]
        planes = [torch.cat(p) for p in zip(*parts, strict=True)]
        images = [self._assemble(p, views, rows, columns) for p in planes]
        depth, owner = images[0], images[1].int()
        return Rendering(
            rgb=torch.stack(images[5:8], -1),
            depth=depth,
            normal=torch.stack(images[2:5], -1),
            sky=owner < 0,
            object_id=owner,
            intrinsics=self.intrinsics,
            extrinsics=self.extrinsics,
        )

    def _assemble(self, plane: Tensor, views: int, rows: int, columns: int) -> Tensor:
        grid = plane.reshape(views, rows, columns, TILE, TILE).transpose(2, 3)
        return grid.reshape(views, rows * TILE, columns * TILE)[:, : self.height, : self.width].contiguous()

    def _tiles(self, tile: Tensor, rows: int, columns: int, colour: bool) -> list[Tensor]:
        rays, rotation = self._rays(tile.to(self.extrinsics.device), rows, columns)
        world = self.scene.world
        depth, owner = nearest(world, rays)
        surface = surface_at(world, rays, depth, owner)
        length = (rays.direction[0] ** 2 + rays.direction[1] ** 2 + rays.direction[2] ** 2).sqrt()
        if colour:
            rgb = self._colours(rays, length, depth, owner, surface)
        else:
            rgb = tuple(torch.zeros_like(depth) for _ in range(3))  # type: ignore[assignment]
        n = surface.normal
        camera = [n[0] * r[:, 0, None] + n[1] * r[:, 1, None] + n[2] * r[:, 2, None] for r in rotation.unbind(1)]
        return [depth, owner, *camera, *rgb]

    def _rays(self, tile: Tensor, rows: int, columns: int) -> tuple[Rays, Tensor]:
        view = tile // (rows * columns)
        lane = torch.arange(TILE**2, device=tile.device)
        # Beyond the edge of the image the last pixel is repeated, which keeps the bounds of the tile small.
        x = (tile % columns * TILE)[:, None] + lane % TILE
        y = (tile // columns % rows * TILE)[:, None] + lane // TILE
        x, y = x.clamp_max(self.width - 1) + 0.5, y.clamp_max(self.height - 1) + 0.5
        k, pose = self.intrinsics[view][..., None], self.extrinsics[view]
        b = (y - k[:, 1, 2]) / k[:, 1, 1]
        a = (x - k[:, 0, 2] - k[:, 0, 1] * b) / k[:, 0, 0]
        r = pose[:, :, :3]
        direction = [a * r[:, 0, i, None] + b * r[:, 1, i, None] + r[:, 2, i, None] for i in range(3)]
        centre = -(r.transpose(1, 2) @ pose[:, :, 3:])
        origin = (centre[:, 0], centre[:, 1], centre[:, 2])
        return Rays(origin=origin, direction=(direction[0], direction[1], direction[2])), r

    def _colours(self, rays: Rays, length: Tensor, depth: Tensor, owner: Tensor, surface: Surface) -> Vector:
        hit = owner >= 0
        unit: Vector = tuple(d / length for d in rays.direction)  # type: ignore[assignment]
        facing = _dot(unit, surface.normal).abs().clamp_min(0.05)
        pixel = 1 / self.intrinsics[:, 0, 0].mean()
        footprint = torch.where(hit, depth, 0.0) * pixel / facing.sqrt()
        owner_or_any = owner.clamp_min(0).flatten()
        coordinates = (surface.coordinates[0].flatten(), surface.coordinates[1].flatten())
        base = colours_at(self.scene.materials, owner_or_any, coordinates, footprint.flatten(), self.scene.album)
        albedo: Vector = tuple(c.view_as(depth) for c in base)  # type: ignore[assignment]
        lit = self._light(unit, hit, owner_or_any, albedo, surface)
        sky = sky_colour(self.scene.lights, unit)
        haze = 1 - torch.exp(-torch.where(hit, depth * length, 0.0) * self.scene.lights.haze)
        red, green, blue = (torch.where(hit, torch.lerp(c, s, haze), s) for c, s in zip(lit, sky, strict=True))
        return red, green, blue

    def _light(self, unit: Vector, hit: Tensor, owner: Tensor, albedo: Vector, surface: Surface) -> Vector:
        lights, materials = self.scene.lights, self.scene.materials
        table = torch.stack([materials.gloss, materials.sharpness, materials.glow])
        gloss, sharpness, glow = (v.view_as(hit) for v in table.index_select(1, owner).unbind(0))
        up = 0.5 + 0.5 * surface.normal[2]
        ambient = [torch.lerp(b, a, up) for a, b in zip(lights.ambient_above, lights.ambient_below, strict=True)]
        total = [c * (a + glow) for c, a in zip(albedo, ambient, strict=True)]
        start: Vector = tuple(
            torch.addcmul(p, n, n.new_tensor(_LIFT)) for p, n in zip(surface.point, surface.normal, strict=True)
        )  # type: ignore[assignment]
        for index in range(lights.position.shape[0]):
            towards, strength, limit = _towards(lights, index, start)
            cosine = _dot(towards, surface.normal).clamp_min(0)
            distance = _dot(towards, towards).sqrt()
            cosine = torch.where(hit, cosine / distance, 0.0)
            if self.shadows:
                shadow = Rays(origin=start, direction=towards, wanted=cosine > 0)
                cosine = torch.where(occluded(self.scene.world, shadow, limit), 0.0, cosine)
            middle = [t / distance - u for t, u in zip(towards, unit, strict=True)]
            halfway = _dot((middle[0], middle[1], middle[2]), surface.normal) / _norm(middle).clamp_min(1e-6)
            shine = torch.where(cosine > 0, gloss * halfway.clamp(1e-6, 1) ** sharpness, 0.0)
            for c in range(3):
                light = strength * lights.colour[index, c]
                total[c] = torch.addcmul(total[c], light, albedo[c] * cosine + shine)
        return total[0], total[1], total[2]


def _dot(a: Vector, b: Vector) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def _norm(v: list[Tensor]) -> Tensor:
    return (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()


def _towards(lights: Lights, index: int, point: Vector) -> tuple[Vector, Tensor, float]:
    """Direction from points to a light, how much of it arrives there, and the ray parameter of the light."""
    if bool(lights.far[index]):
        sun = lights.position[index]
        one = torch.ones_like(point[0][:, :1])
        return (one * sun[0], one * sun[1], one * sun[2]), one, math.inf
    x, y, z = (lights.position[index, i] - point[i] for i in range(3))
    return (x, y, z), 1 / (0.3 + x * x + y * y + z * z), 1.0


def sky_colour(lights: Lights, unit: Vector) -> Vector:
    """Linear RGB of the sky in unit directions: horizon to zenith, clouds, and the sun with its glow."""
    height = unit[2].clamp_min(0).sqrt()
    red, green, blue = (torch.lerp(a, b, height) for a, b in zip(lights.horizon, lights.zenith, strict=True))
    red, green, blue = _clouds(lights, unit, (red, green, blue))
    for index in range(lights.position.shape[0]):
        if bool(lights.far[index]):
            s = lights.position[index]
            near = (unit[0] * s[0] + unit[1] * s[1] + unit[2] * s[2]).clamp_min(0)
            halo = near**64 * 0.25 + (near > 0.9995).to(near.dtype) * 4
            red, green, blue = (
                torch.addcmul(c, halo, lights.colour[index, i]) for i, c in enumerate((red, green, blue))
            )
    return red, green, blue


def _clouds(lights: Lights, unit: Vector, colour: Vector) -> Vector:
    height = unit[2].clamp_min(0.02)
    density = fbm(unit[0] / height * 0.9 + lights.clouds[1], unit[1] / height * 0.9 + lights.clouds[2], 3)
    cover = ((density - 1 + lights.clouds[0]) * 4).clamp(0, 1) * ((unit[2] - 0.03) * 6).clamp(0, 1)
    red, green, blue = (torch.lerp(c, torch.full_like(c, 0.85), cover * 0.8) for c in colour)
    return red, green, blue


def to_bytes(rgb: Float[Tensor, "*batch h w 3"]) -> UInt8[Tensor, "*batch h w 3"]:
    """Picture values from 0 to 1 as uint8."""
    return (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
