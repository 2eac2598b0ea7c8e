"""Rays meet shapes where geometry says they do, and culling changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.synth.draft import Draft, Look, Part, turn_x, turn_z
from depth_anything_3.synth.raycast import Rays, _tiles, cast, occluded
from depth_anything_3.synth.scenes import KINDS, make_scene
from depth_anything_3.synth.shapes import SHAPES, Terrain, World

LOOK = Look("plain", (0.5, 0.5, 0.5))


def world_of(*parts: tuple[Part, Part | None], ground: float | None = None) -> World:
    draft = Draft(np.random.default_rng(0))
    for part, cut in parts:
        draft.add(part, LOOK, cut)
    return draft.world(ground, None)


def part(shape: str, centre: tuple[float, ...], half: tuple[float, ...], rotation: np.ndarray | None = None) -> Part:
    return Part(shape, np.array(centre), np.array(half), np.eye(3) if rotation is None else rotation)


def random_rays(count: int, seed: int, spread: float = 6.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * spread
    return origins, torch.randn(count, 3, generator=generator) - origins * 0.3


def one(world: World, origin: tuple[float, ...], direction: tuple[float, ...]) -> tuple[float, list[float], int]:
    hits = cast(world, torch.tensor([origin]).float(), torch.tensor([direction]).float())
    return float(hits.depth[0]), hits.normal[0].tolist(), int(hits.object_id[0])


def test_box_from_the_front() -> None:
    depth, normal, owner = one(world_of((part("box", (10, 0, 0), (1, 2, 3)), None)), (0, 0.5, 1), (1, 0, 0))
    assert depth == pytest.approx(9, rel=1e-6)
    assert normal == pytest.approx([-1, 0, 0], abs=1e-6)
    assert owner == 0


def test_the_parameter_counts_in_the_direction() -> None:
    world = world_of((part("box", (10, 0, 0), (1, 2, 3)), None))
    assert one(world, (0, 0, 0), (0.5, 0, 0))[0] == pytest.approx(18, rel=1e-6)


def test_plane() -> None:
    world = world_of(ground=-2.0)
    origins, directions = random_rays(500, 1)
    hits = cast(world, origins, directions)
    expected = (-2 - origins[:, 2].double()) / directions[:, 2].double()
    met = (expected > 1e-4) & (directions[:, 2] < 0)
    assert met.sum() > 100
    assert torch.equal(torch.isfinite(hits.depth), met)
    torch.testing.assert_close(hits.depth[met].double(), expected[met], rtol=1e-5, atol=0)
    assert (hits.normal[met] == torch.tensor([0.0, 0.0, 1.0])).all()
    assert (hits.normal[~met] == 0).all()
    assert (hits.object_id[~met] == -1).all()


def test_sphere_near_and_far() -> None:
    world = world_of((part("sphere", (1, 2, 3), (2, 2, 2)), None))
    for distance in (3.0, 30.0, 200.0):
        away = torch.nn.functional.normalize(random_rays(400, 2)[0], dim=1)
        origins = torch.tensor([1.0, 2.0, 3.0]) + away * distance
        aim = torch.tensor([1.0, 2.0, 3.0]) + 1.2 * torch.nn.functional.normalize(random_rays(400, 3)[0], dim=1)
        hits = cast(world, origins, aim - origins)
        o, d = origins.double() - torch.tensor([1.0, 2.0, 3.0]).double(), (aim - origins).double()
        a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 4
        expected = (-b - (b * b - a * c).sqrt()) / a
        torch.testing.assert_close(hits.depth.double(), expected, rtol=1e-5, atol=0)
        normal = (o + expected[:, None] * d) / 2
        torch.testing.assert_close(hits.normal.double(), normal, rtol=0, atol=2e-3 if distance > 100 else 2e-4)


def test_turned_box_against_planes_in_double_precision() -> None:
    rotation, half = turn_z(0.7) @ turn_x(0.4), np.array([1.0, 0.5, 2.0])
    world = world_of((part("box", (0.3, -0.2, 0.1), (1.0, 0.5, 2.0), rotation), None))
    origins, directions = random_rays(2000, 4)
    hits = cast(world, origins, directions)
    o = (origins.double().numpy() - [0.3, -0.2, 0.1]) @ rotation
    d = directions.double().numpy() @ rotation
    first, second = (-half - o) / d, (half - o) / d
    enter, leave = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
    sure, met = np.abs(enter - leave) > 1e-4, (enter < leave) & (enter > 1e-4)
    assert (met & sure).sum() > 150
    assert (np.isfinite(hits.depth.numpy()) == met)[sure].all()
    np.testing.assert_allclose(hits.depth.numpy()[met & sure], enter[met & sure], rtol=1e-5)


def test_cylinder_side_and_end() -> None:
    world = world_of((part("cylinder", (0, 0, 0), (2, 2, 1)), None))
    depth, normal, _ = one(world, (5, 1, 0.5), (-1, 0, 0))
    assert depth == pytest.approx(5 - math.sqrt(3), rel=1e-6)
    assert normal == pytest.approx([math.sqrt(3) / 2, 0.5, 0], abs=1e-5)
    depth, normal, _ = one(world, (0.5, 0.5, 4), (0, 0, -1))
    assert depth == pytest.approx(3, rel=1e-6)
    assert normal == pytest.approx([0, 0, 1], abs=1e-6)
    assert one(world, (5, 2.1, 0.5), (-1, 0, 0))[0] == math.inf


def test_wedge_ramp() -> None:
    world = world_of((part("wedge", (0, 0, 0), (2, 1, 1)), None))
    depth, normal, _ = one(world, (1.0, 0, 5), (0, 0, -1))
    assert depth == pytest.approx(5.5, rel=1e-6)
    assert normal == pytest.approx([1 / math.sqrt(5), 0, 2 / math.sqrt(5)], abs=1e-6)
    assert one(world, (5, 0, 0.5), (-1, 0, 0))[0] == pytest.approx(6, rel=1e-6)
    assert one(world, (-5, 0, 0.5), (1, 0, 0))[0] == pytest.approx(3, rel=1e-6)


def test_cut() -> None:
    hole = part("box", (0, 0, 0), (3, 0.5, 0.5))
    world = world_of((part("box", (0, 0, 0), (1, 2, 2)), hole))
    assert one(world, (-5, 0, 0), (1, 0, 0))[0] == math.inf
    assert one(world, (-5, 1, 0), (1, 0, 0))[0] == pytest.approx(4, rel=1e-6)
    depth, normal, _ = one(world, (-3, 0, 0), (3, 0.6, 0))  # meets the side of the hole
    assert depth == pytest.approx(0.5 / 0.6, rel=1e-5)
    assert normal == pytest.approx([0, -1, 0], abs=1e-6)


def test_cup_shows_its_inside() -> None:
    cut = part("cylinder", (0, 0, 0.4), (0.8, 0.8, 1))
    world = world_of((part("cylinder", (0, 0, 0), (1, 1, 1)), cut))
    depth, normal, _ = one(world, (0.1, 0.1, 5), (0, 0, -1))
    assert depth == pytest.approx(5.6, rel=1e-6)
    assert normal == pytest.approx([0, 0, 1], abs=1e-6)
    depth, normal, _ = one(world, (0, 0, 0.5), (1, 0, 0))
    assert depth == pytest.approx(0.8, rel=1e-6)
    assert normal == pytest.approx([-1, 0, 0], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_culling_changes_nothing(kind: str) -> None:
    scene = make_scene(3, kind)
    generator = torch.Generator().manual_seed(5)
    middle = (scene.stage.low + scene.stage.high) / 2
    for narrow in (0.05, 3.0):  # neighbours that look the same way, and rays that go anywhere
        origins = middle + torch.randn(1, 3, generator=generator) * 0.2 + torch.zeros(1024, 3)
        aim = torch.randn(16, 1, 3, generator=generator) + narrow * torch.randn(16, 64, 3, generator=generator)
        quick, slow = (cast(scene.world, origins, aim.view(-1, 3), cull=cull) for cull in (True, False))
        assert torch.isfinite(slow.depth).float().mean() > 0.3
        for name in ("depth", "object_id", "normal", "coordinates"):
            assert torch.equal(getattr(quick, name), getattr(slow, name)), name


@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_culling_changes_no_shadow(limit: float) -> None:
    scene = make_scene(4, "tabletop")
    hits_from, towards = random_rays(64 * 40, 6, spread=0.7)
    rays = Rays(origin=_tiles(hits_from + torch.tensor([0.0, 0.0, 1.0])), direction=_tiles(towards))
    quick, slow = (occluded(scene.world, rays, limit, cull=cull) for cull in (True, False))
    assert 0.05 < slow.float().mean() < 0.999
    assert torch.equal(quick, slow)
    first = cast(scene.world, hits_from + torch.tensor([0.0, 0.0, 1.0]), towards)
    solid = (first.object_id >= 0) & (first.object_id != scene.world.ground_id)
    assert torch.equal(slow.flatten(), solid & (first.depth < limit))


def test_chunks_change_nothing() -> None:
    scene = make_scene(0, "room")
    origins, directions = random_rays(1000, 8, spread=0.3)
    origins = origins + torch.tensor([0.0, 0.0, 1.5])
    whole, parts = (cast(scene.world, origins, directions, chunk=chunk) for chunk in (1 << 17, 128))
    assert torch.equal(whole.depth, parts.depth)
    assert whole.depth.shape == (1000,)


def test_no_rays_and_no_world() -> None:
    empty = world_of()
    assert cast(empty, torch.zeros(0, 3), torch.zeros(0, 3)).depth.shape == (0,)
    assert one(empty, (0, 0, 0), (1, 0, 0)) == (math.inf, [0, 0, 0], -1)


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_rays() -> None:
    with pytest.raises(InputError, match="directions"):
        cast(world_of(), torch.zeros(4, 3), torch.zeros(5, 3))
    with pytest.raises(InputError, match="not finite"):
        cast(world_of(), torch.full((4, 3), torch.nan), torch.zeros(4, 3))


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="half_size"):
        world_of((part("box", (0, 0, 0), (1, 0, 1)), None))
    with pytest.raises(InputError, match="heights"):
        Terrain(heights=torch.zeros(1, 5), corner=torch.zeros(2), cell=1.0)
    assert SHAPES == ("box", "sphere", "cylinder", "wedge")


def crowd() -> World:
    """60 solids of all shapes in a small space."""
    draft = Draft(np.random.default_rng(9))
    for index in range(60):
        rotation = turn_z(draft.uniform(0, 6)) @ turn_x(draft.uniform(0, 6))
        half = tuple(draft.rng.uniform(0.1, 0.8, 3)) if index % 4 != 1 else (draft.uniform(0.1, 0.8),) * 3
        draft.add(part(SHAPES[index % 4], tuple(draft.rng.uniform(-4, 4, 3)), half, rotation), LOOK)
    return draft.world(None, None)


def needles(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles whose rays are all the same: their bounds have no slack."""
    origins, directions = random_rays(count, 10)
    return origins.repeat_interleave(64, 0), directions.repeat_interleave(64, 0)


def test_culling_has_no_slack_to_hide_in() -> None:
    world, (origins, directions) = crowd(), needles(2000)
    quick, slow = (cast(world, origins, directions, cull=cull) for cull in (True, False))
    assert torch.isfinite(slow.depth).float().mean() > 0.2
    assert torch.equal(quick.depth, slow.depth)
    assert torch.equal(quick.object_id, slow.object_id)


def test_culling_at_the_end_of_a_shadow_ray() -> None:
    world, (origins, directions) = crowd(), needles(2000)
    met = cast(world, origins, directions, cull=False).depth
    scale = torch.where(torch.isfinite(met), met * 1.001, 1.0)[:, None]
    rays = Rays(origin=_tiles(origins), direction=_tiles(directions * scale))
    dark = occluded(world, rays, 1.0)
    assert torch.equal(dark.flatten() & torch.isfinite(met), torch.isfinite(met))
    assert torch.equal(dark, occluded(world, rays, 1.0, cull=False))
    just_before = Rays(origin=rays.origin, direction=_tiles(directions * scale / 1.002))
    assert not occluded(world, just_before, 1.0).flatten()[torch.isfinite(met)].any()
