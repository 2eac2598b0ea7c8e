"""The held-out set is frozen, hard, and too hard for trivial answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.synth import difficulty
from depth_anything_3.synth.held_out import (
    HELD_OUT_SEEDS,
    SLICES,
    VIEWS,
    HeldOutScene,
    digest,
    held_out,
    measure,
    pack_cameras,
    render_held_out,
    set_difficulty,
    thumbnails,
    unpack_cameras,
    verify,
)
from depth_anything_3.synth.sample import Sample, build

# Every kind of scene, every style and every slice; rendering all takes minutes.
FEW = (2, 7, 11, 14, 15, 21, 22, 24, 25, 199)

AT_LEAST = {"rotation_deg": 20.0, "baseline": 0.15, "overlap": 0.25, "depth_spread": 4.0, "focal_spread": 3.0,
            "off_centre": 0.2, "mean_focal_error": 0.2}  # fmt: skip
AT_MOST = {"overlap": 0.6, "constant_map_delta": 0.45, "identity_auc30": 0.15}


def test_the_set_is_hard() -> None:
    found = asdict(set_difficulty(held_out()))
    print("\n" + "\n".join(f"{name:20} {value:.3f}" for name, value in found.items()))  # noqa: T201
    for name, floor in AT_LEAST.items():
        assert found[name] >= floor, f"{name} is {found[name]:.3f}, the floor is {floor}"
    for name, ceiling in AT_MOST.items():
        assert found[name] <= ceiling, f"{name} is {found[name]:.3f}, the ceiling is {ceiling}"


def test_two_hundred_scenes_with_every_label() -> None:
    scenes = held_out()
    assert len(scenes) == 200
    assert [scene.name for scene in scenes] == [f"held_out_{i:03d}" for i in range(200)]
    assert len({scene.seed for scene in scenes}) == 200
    assert len({scene.sha256 for scene in scenes}) == 200
    labels = Counter(label for scene in scenes for label in scene.slices)
    print("\n", dict(labels))  # noqa: T201
    assert set(labels) == set(SLICES)
    assert min(labels.values()) >= 20
    assert min(Counter(scene.kind for scene in scenes).values()) >= 20
    assert len({(scene.height, scene.width) for scene in scenes}) >= 5
    for scene in scenes:
        assert scene.seed in HELD_OUT_SEEDS
        assert max(scene.height, scene.width) == 224
        assert scene.height % 14 == scene.width % 14 == 0
        assert ("textured" in scene.slices) != ("textureless" in scene.slices)
        assert ("moving" in scene.slices) == (scene.moving > 0) == (scene.stats.moving > 0.01)
        assert ("thin" in scene.slices) == (scene.stats.thin >= 0.05)
        assert scene.stats.sky < 0.6
        assert scene.stats.overlap.shape == (VIEWS * (VIEWS - 1) // 2,)


def test_seeds_of_the_set_are_reserved() -> None:
    assert HELD_OUT_SEEDS.start == 1_000_000_000


def test_the_data_file_is_small() -> None:
    content = resources.files("depth_anything_3.synth").joinpath("held_out.json").read_bytes()
    assert len(content) < 300_000


@pytest.fixture(scope="module")
def some() -> Iterator[list[tuple[HeldOutScene, Sample]]]:
    scenes = held_out()
    yield [(scenes[i], render_held_out(scenes[i])) for i in FEW]


def test_a_few_are_as_they_were_frozen(some: list[tuple[HeldOutScene, Sample]]) -> None:
    for spec, sample in some:
        check(spec, sample)


@pytest.mark.slow
def test_all_are_as_they_were_frozen() -> None:
    maps = []
    for spec in held_out():
        sample = render_held_out(spec)
        check(spec, sample)
        maps.append(difficulty.normalised_log_depth(sample.depth))
    mean = np.nanmean(np.concatenate(maps), 0)
    for spec, log_depth in zip(held_out(), maps, strict=True):
        found = difficulty.constant_map_delta(log_depth, mean)
        assert found == pytest.approx(spec.stats.constant_map_delta, abs=2e-3)


def check(spec: HeldOutScene, sample: Sample) -> None:
    result = verify(spec, sample)
    assert result.same, f"{spec.name} is no longer what it was: {result}"
    found = measure(sample)
    np.testing.assert_allclose(found.overlap, spec.stats.overlap, atol=0.021)
    for name in ("median_depth", "depth_spread", "sky", "thin", "moving"):
        assert getattr(found, name) == pytest.approx(getattr(spec.stats, name), rel=2e-3, abs=1e-3), name


def test_samples_are_consistent(some: list[tuple[HeldOutScene, Sample]]) -> None:
    for spec, sample in some:
        shape = (VIEWS, spec.height, spec.width)
        assert sample.rgb.shape == (*shape, 3)
        assert sample.depth.dtype == np.float32
        assert np.array_equal(sample.sky, sample.depth == 0)
        assert np.isfinite(sample.depth).all()
        assert np.array_equal(sample.sky, sample.object_id < 0)
        np.testing.assert_allclose(np.linalg.norm(sample.normal, axis=-1)[~sample.sky], 1, atol=1e-4)
        assert sample.moving.any() == bool(spec.moving)
        # No view is black, white, or of one colour.
        assert (sample.rgb.std((1, 2)).max(-1) > 3).all()
        assert ((sample.rgb.mean((1, 2, 3)) > 20) & (sample.rgb.mean((1, 2, 3)) < 240)).all()


def test_labels_mean_what_they_say(some: list[tuple[HeldOutScene, Sample]]) -> None:
    for spec in held_out():
        if "rig" in spec.slices:
            centres = camera_centres(spec.cameras.extrinsics)
            turns = difficulty.rotations_deg(spec.cameras.extrinsics[:6])
            assert np.allclose(np.round(turns / 60) * 60, turns, atol=12)
            assert np.linalg.norm(centres[:6] - centres[:6].mean(0), axis=1).max() < 0.6
        if "low_overlap" in spec.slices:
            assert spec.stats.overlap.mean() < 0.4
    low = np.median(np.concatenate([s.stats.overlap for s in held_out() if "low_overlap" in s.slices]))
    rest = np.median(np.concatenate([s.stats.overlap for s in held_out() if "low_overlap" not in s.slices]))
    print(f"\nmedian overlap {low:.2f} in low_overlap, {rest:.2f} in the rest")  # noqa: T201
    assert low < 0.6 * rest


def test_verification_notices(some: list[tuple[HeldOutScene, Sample]]) -> None:
    spec, sample = some[0]
    rgb = sample.rgb.copy()
    rgb[0, 0, 0, 0] ^= 1
    nearly = verify(spec, replace(sample, rgb=rgb))
    assert not nearly.exact
    assert nearly.same
    rgb[3, :60, :60] = 255 - rgb[3, :60, :60]
    assert not verify(spec, replace(sample, rgb=rgb)).same
    turned = next(s for s in held_out() if (s.height, s.width) != (spec.height, spec.width))
    with pytest.raises(InputError, match="sample"):
        verify(turned, sample)


def test_thumbnails_and_digest() -> None:
    rgb = np.zeros((1, 6, 9, 3), np.uint8)
    rgb[0, :2, :3] = 200
    found = thumbnails(rgb)
    assert found.shape == (1, 4, 4, 3)
    assert found[0, 0, 0].tolist() == [200] * 3
    assert found[0, 3, 3].tolist() == [0] * 3
    assert digest(rgb) == hashlib.sha256(rgb.tobytes()).hexdigest()


def test_cameras_survive_packing() -> None:
    for spec in held_out()[:5]:
        again = unpack_cameras(pack_cameras(spec.cameras))
        assert np.array_equal(again.extrinsics, spec.cameras.extrinsics)
        assert np.array_equal(again.intrinsics, spec.cameras.intrinsics)


def test_unknown_style() -> None:
    with pytest.raises(InputError, match="specular"):
        build(3, "room", style="shiny", thin=0, moving=0)
