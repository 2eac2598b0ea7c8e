"""From data sets to batches. The batch of a step is a function of the seed, the step and the rank, and of nothing else:
training resumes at any step without the state of a loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from depth_anything_3.datasets.procedural import FRAMES, cached_scene
from depth_anything_3.errors import InputError
from depth_anything_3.infer.preprocess import IMAGE_MEAN, IMAGE_STD
from depth_anything_3.synth.held_out import HELD_OUT_SEEDS
from depth_anything_3.train.augment import AugmentOptions, Pictures, camera_effects, crop_and_resize, mirror, turn
from depth_anything_3.train.batch import Batch
from depth_anything_3.types.options import PATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """Which views, and at which sizes.

    Attributes:
        sizes: rows and columns of the network's images, one drawn per step.
        views: fewest and most views of a sample; the number is drawn per step.
        tokens: patches of all views of all samples of a step on one device, at most; decides the number of samples.
        overlap: wanted share of a view that some earlier view of the sample shows too.
    """

    sizes: tuple[tuple[int, int], ...]
    views: tuple[int, int]
    tokens: int
    overlap: tuple[float, float] = (0.25, 0.9)


@runtime_checkable
class Source(Protocol):
    """Where samples come from."""

    def check(self) -> None:
        """Raise unless there is something to train on, and nothing that results are reported on."""
        ...

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """Id of a scene, and some of its views."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProceduralSource:
    """Scenes of the procedural world.

    Attributes:
        first: lowest seed.
        count: of seeds that the first step draws from.
        growth: seeds by which that number grows with every step, so that training may begin while scenes are rendered.
        most: of seeds, whatever the step.
        cache: folder that keeps what was rendered.
    """

    first: int = 0
    count: int = 2_000
    growth: float = 0.0
    most: int = 1_000_000
    cache: Path | None = None
    metric: bool = field(default=True, init=False)

    def check(self) -> None:
        """Raise if one of the seeds belongs to the held-out set.

        Raises:
            InputError: it does.
        """
        last = self.first + max(self.most, self.count)
        if self.first < HELD_OUT_SEEDS.stop and last > HELD_OUT_SEEDS.start:
            raise InputError("sources", f"seeds {self.first} to {last - 1}", f"seeds below {HELD_OUT_SEEDS.start}")

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """Views of a random scene, the first chosen by chance, the others by what they share with these."""
        if views > FRAMES:
            raise InputError("views", str(views), f"at most {FRAMES}, what a procedural scene has")
        count = min(self.most, self.count + int(self.growth * step))
        seed = self.first + int(rng.integers(count))
        scene = cached_scene(seed, self.cache)
        chosen = choose_views(scene.overlap, views, rng, overlap)
        pictures = Pictures(
            images=scene.images[chosen],
            depth=scene.depth[chosen],
            sky=scene.sky[chosen],
            intrinsics=scene.intrinsics[chosen],
            extrinsics=scene.extrinsics[chosen],
        )
        return f"procedural/{seed}", pictures


def choose_views(
    shared: np.ndarray,
    count: int,
    rng: np.random.Generator,
    overlap: tuple[float, float],
    *,
    first: int | None = None,
) -> list[int]:
    """Indices of views that form a connected sample: a random walk over the graph of overlaps.

    Args:
        shared: share of one view (row) seen in another (column): (F, F).
        count: of views.
        rng: source of randomness.
        overlap: range in which the mutual share with some earlier view should lie; where no view is in it, the
            nearest is taken.
        first: the view to begin with; None draws one.
    """
    mutual = np.minimum(shared, shared.T)
    chosen = [int(rng.integers(len(mutual))) if first is None else first]
    while len(chosen) < count:
        rest = [i for i in range(len(mutual)) if i not in chosen]
        best = mutual[np.ix_(rest, chosen)].max(1)
        distance = np.maximum(overlap[0] - best, best - overlap[1]).clip(0)
        allowed = [i for i, d in zip(rest, distance, strict=True) if d <= distance.min() + 1e-6]
        chosen.append(allowed[int(rng.integers(len(allowed)))])
    return chosen


def make_batch(
    sources: Sequence[tuple[Source, float]],
    options: ViewOptions,
    augment: AugmentOptions,
    *,
    seed: int,
    step: int,
    part: int = 0,
) -> Batch:
    """One part of the batch of a step; there are as many as processes times accumulation.

    All parts have the same size and number of views, so that no process waits for another.
    """
    shared_rng = np.random.default_rng([seed, step, 0])
    size = options.sizes[int(shared_rng.integers(len(options.sizes)))]
    views = int(shared_rng.integers(options.views[0], options.views[1] + 1))
    patches = size[0] * size[1] // PATCH_SIZE**2
    count = max(1, options.tokens // (patches * views))
    weights = np.array([w for _, w in sources])
    samples, names, metric = [], [], []
    for index in range(count):
        rng = np.random.default_rng([seed, step, 1 + part, index])
        source = sources[int(rng.choice(len(sources), p=weights / weights.sum()))][0]
        name, pictures = source.sample(rng, views, options.overlap, step)
        samples.append(_augmented(pictures, size, rng, augment))
        names.append(name)
        metric.append(bool(getattr(source, "metric", False)))
    return _collated(samples, names, metric)


def _augmented(
    pictures: Pictures, size: tuple[int, int], rng: np.random.Generator, augment: AugmentOptions
) -> Pictures:
    if augment.quarter_turn and rng.random() < augment.quarter_turn:
        for _ in range(1 if rng.random() < 0.5 else 3):
            pictures = turn(pictures)
    pictures = crop_and_resize(pictures, size, rng, augment)
    if rng.random() < augment.flip:
        pictures = mirror(pictures)
    return replace(pictures, images=camera_effects(pictures.images, rng, augment))


def _collated(samples: list[Pictures], names: list[str], metric: list[bool]) -> Batch:
    images = np.stack([s.images for s in samples]).astype(np.float32) / 255
    images = np.moveaxis((images - IMAGE_MEAN.astype(np.float32)) / IMAGE_STD.astype(np.float32), -1, 2)

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(s, name) for s in samples]))

    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        depth=stacked("depth"),
        sky=stacked("sky"),
        sky_known=torch.tensor([s.sky_known for s in samples]),
        objects=torch.tensor([s.objects for s in samples]),
        intrinsics=stacked("intrinsics"),
        extrinsics=stacked("extrinsics"),
        metric=torch.tensor(metric),
        scenes=tuple(names),
    )
