"""Samples and batches: the same for the same numbers, whatever happened before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_anything_3.datasets.procedural import FRAMES, RenderedScene
from depth_anything_3.errors import InputError
from depth_anything_3.train import data
from depth_anything_3.train.augment import NO_AUGMENTATION, AugmentOptions, Pictures
from depth_anything_3.train.batch import Batch
from depth_anything_3.train.data import ProceduralSource, ViewOptions, choose_views, make_batch

OPTIONS = ViewOptions(sizes=((28, 42), (42, 28), (28, 28)), views=(1, 3), tokens=6 * 8)
TENSORS = ("images", "depth", "sky", "sky_known", "objects", "intrinsics", "extrinsics", "metric")


@dataclass(frozen=True)
class Noise:
    """A source of random pictures that writes down what it was asked for."""

    name: str = "noise"
    metric: bool = False
    sky_known: bool = True
    asked: list[tuple[int, tuple[float, float], int]] = field(default_factory=list)

    def check(self) -> None:
        """Always fine."""

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """Pictures of 50 x 60 pixels."""
        self.asked.append((views, overlap, step))
        shape = (views, 50, 60)
        k = np.array([[50, 0, 30], [0, 50, 25], [0, 0, 1]], dtype=np.float32)
        poses = np.concatenate([np.repeat(np.eye(3)[None], views, 0), rng.normal(size=(views, 3, 1))], -1)
        made = Pictures(
            images=rng.integers(0, 255, (*shape, 3), dtype=np.uint8),
            depth=rng.uniform(1, 2, shape).astype(np.float32),
            sky=rng.random(shape) < 0.1,
            intrinsics=np.repeat(k[None], views, 0),
            extrinsics=poses.astype(np.float32),
            sky_known=self.sky_known,
        )
        return f"{self.name}/{rng.integers(1000)}", made


def batch(step: int = 0, part: int = 0, *, seed: int = 0, options: ViewOptions = OPTIONS) -> Batch:
    return make_batch([(Noise(), 1.0)], options, AugmentOptions(), seed=seed, step=step, part=part)


def same(a: Batch, b: Batch) -> bool:
    return a.scenes == b.scenes and all(torch.equal(getattr(a, n), getattr(b, n)) for n in TENSORS)


# Views -----------------------------------------------------------------------------------------------------


def chain(count: int, near: float = 0.6, far: float = 0.05) -> np.ndarray:
    """Every view shares something with the one before and the one after."""
    i = np.arange(count)
    distance = np.abs(i[:, None] - i)
    return np.where(distance == 0, 1.0, np.where(distance == 1, near, far))


@pytest.mark.parametrize("seed", range(10))
def test_views_share_the_wanted_part_with_an_earlier_one(seed: int) -> None:
    shared = chain(12)
    chosen = choose_views(shared, 5, np.random.default_rng(seed), (0.5, 0.7))
    assert len(set(chosen)) == 5
    for n in range(1, 5):
        assert max(shared[chosen[n], c] for c in chosen[:n]) == 0.6


def test_views_that_share_too_much_are_left_for_others() -> None:
    shared = chain(12, near=0.95, far=0.4)
    for seed in range(10):
        chosen = choose_views(shared, 4, np.random.default_rng(seed), (0.3, 0.5))
        assert all(abs(a - b) > 1 for i, a in enumerate(chosen) for b in chosen[:i])


def test_the_smaller_of_the_two_shares_counts() -> None:
    """A view from afar shows all of a close-up; the close-up shows little of it."""
    shared = np.eye(3)
    shared[0, 1], shared[1, 0] = 0.9, 0.05
    shared[0, 2] = shared[2, 0] = shared[1, 2] = shared[2, 1] = 0.4
    for seed in range(40):
        chosen = choose_views(shared, 2, np.random.default_rng(seed), (0.3, 0.95))
        assert 2 in chosen


def test_where_nothing_fits_the_nearest_is_taken() -> None:
    shared = np.eye(4)
    shared[0, 1:] = shared[1:, 0] = [0.1, 0.22, 0.15]
    chosen = choose_views(shared, 2, np.random.default_rng(0), (0.5, 0.7), first=0)
    assert chosen == [0, 2]


def test_the_first_view_is_any_of_them() -> None:
    rng = np.random.default_rng(0)
    assert {choose_views(chain(4), 1, rng, (0.2, 0.9))[0] for _ in range(60)} == {0, 1, 2, 3}


# Batches ---------------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_step_and_part() -> None:
    first = batch(5, 1)
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    batch(6, 0)
    torch.rand(3)
    assert same(first, batch(5, 1))
    for other in (batch(5, 0), batch(5, 2), batch(6, 1), batch(5, 1, seed=1)):
        assert not same(first, other)
        assert set(first.scenes) != set(other.scenes)
    torch.set_rng_state(state)
    batch(5, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()


def test_parts_of_a_step_have_one_size_and_number_of_views_and_nothing_else_in_common() -> None:
    shapes = set()
    for step in range(20):
        parts = [batch(step, part) for part in range(3)]
        assert len({p.images.shape for p in parts}) == 1
        names = [name for p in parts for name in p.scenes]
        assert len(set(names)) > 0.8 * len(names)
        assert not torch.equal(parts[0].images, parts[1].images)
        shapes.add((parts[0].views, parts[0].image_hw))
    assert {views for views, _ in shapes} == {1, 2, 3}
    assert {size for _, size in shapes} == set(OPTIONS.sizes)


@pytest.mark.parametrize("tokens", [6 * 8, 100, 6 * 3])
def test_the_budget_of_tokens_is_used_and_kept(tokens: int) -> None:
    options = replace(OPTIONS, tokens=tokens)
    for step in range(12):
        made = batch(step, options=options)
        b, n, _, h, w = made.images.shape
        patches = h * w // 196
        assert b * n * patches <= tokens
        assert (b + 1) * n * patches > tokens


def test_a_batch_has_one_sample_even_where_the_budget_is_too_small() -> None:
    assert batch(options=replace(OPTIONS, views=(3, 3), tokens=1)).images.shape[:2] == (1, 3)


def test_sources_are_drawn_by_their_weights() -> None:
    sources = [Noise("a"), Noise("b"), Noise("never")]
    weighted = list(zip(sources, (3.0, 1.0, 0.0), strict=True))
    names: list[str] = []
    for step in range(60):
        names += make_batch(weighted, OPTIONS, AugmentOptions(), seed=0, step=step).scenes
    share = np.mean([name.startswith("a/") for name in names])
    assert share == pytest.approx(0.75, abs=0.08)
    assert not sources[2].asked
    assert {step for _, _, step in sources[0].asked} <= set(range(60))
    assert {overlap for _, overlap, _ in sources[0].asked} == {OPTIONS.overlap}


def test_a_batch_says_what_its_sources_say() -> None:
    sources = [(Noise("metres", metric=True), 1.0), (Noise("unknown", sky_known=False), 1.0)]
    made = make_batch(sources, replace(OPTIONS, tokens=6 * 40), AugmentOptions(), seed=0, step=0)
    metres = [name.startswith("metres") for name in made.scenes]
    assert 0 < sum(metres) < len(metres)
    assert made.metric.tolist() == metres
    assert made.sky_known.tolist() == metres


def test_images_are_the_pictures_normalised(pictures: Pictures) -> None:
    class Fixed(Noise):
        def sample(self, rng, views, overlap, step):  # type: ignore[no-untyped-def]
            return "fixed", pictures

    options = ViewOptions(sizes=((126, 168),), views=(8, 8), tokens=0)
    made = make_batch([(Fixed(), 1.0)], options, NO_AUGMENTATION, seed=0, step=0)
    assert made.images.dtype == torch.float32
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    back = (made.images[0].permute(0, 2, 3, 1) * std + mean) * 255
    torch.testing.assert_close(back, torch.from_numpy(pictures.images).float(), rtol=0, atol=1e-3)
    for name in ("depth", "intrinsics", "extrinsics", "sky"):
        np.testing.assert_array_equal(getattr(made, name)[0].numpy(), getattr(pictures, name))


def test_a_batch_moves_as_a_whole() -> None:
    made = batch().to("meta")
    assert all(getattr(made, name).device.type == "meta" for name in TENSORS)
    assert made.scenes == batch().scenes


# The procedural source -------------------------------------------------------------------------------------


def test_procedural_samples_come_from_the_cache_and_leave_it_alone(cache: Path, rendered: RenderedScene) -> None:
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    source = ProceduralSource(count=2, most=2, cache=cache)
    name, pictures = source.sample(np.random.default_rng(0), 3, (0.3, 0.9), 0)
    assert name in ("procedural/0", "procedural/1")
    found = [int(np.flatnonzero((rendered.images == image).all((1, 2, 3)))[0]) for image in pictures.images]
    assert len(set(found)) == 3
    np.testing.assert_array_equal(pictures.extrinsics, rendered.extrinsics[found])
    np.testing.assert_array_equal(pictures.intrinsics, rendered.intrinsics[found])
    np.testing.assert_allclose(pictures.depth, rendered.depth[found], rtol=2e-4)
    mutual = np.minimum(rendered.overlap, rendered.overlap.T)
    assert mutual[found[0], found[1]] >= 0.3
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="views"):
        source.sample(np.random.default_rng(0), FRAMES + 1, (0.3, 0.9), 0)


def test_seeds_grow_with_the_steps_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, rendered: RenderedScene) -> None:
    asked: list[int] = []

    def scene(seed: int, cache: Path | None) -> RenderedScene:
        asked.append(seed)
        return rendered

    monkeypatch.setattr(data, "cached_scene", scene)
    source = ProceduralSource(first=100, count=4, growth=0.5, most=30)
    rng = np.random.default_rng(0)
    for step, most in ((0, 4), (20, 14), (10_000, 30)):
        asked.clear()
        for _ in range(200):
            source.sample(rng, 1, (0.2, 0.9), step)
        assert set(asked) == set(range(100, 100 + most))
