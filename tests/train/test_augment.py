"""Augmented pictures still tell the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.train.augment import (
    NO_AUGMENTATION,
    AugmentOptions,
    Pictures,
    camera_effects,
    crop_and_resize,
    mirror,
    turn,
)


def skewed(pictures: Pictures) -> Pictures:
    """The same pictures, as if taken by another camera: one with skew and two focal lengths."""
    k = pictures.intrinsics.copy()
    k[:, 0, 1] = 9
    k[:, 1, 1] *= 1.2
    return replace(pictures, intrinsics=k)


def ramps(pictures: Pictures) -> Pictures:
    """Pictures whose red and green say which column and row a pixel is in."""
    images = np.zeros_like(pictures.images)
    images[..., 0] = np.arange(images.shape[2])
    images[..., 1] = np.arange(images.shape[1])[:, None]
    return replace(pictures, images=images)


@pytest.mark.parametrize("size", [(84, 112), (112, 84), (70, 126), (126, 168), (168, 126)])
@pytest.mark.parametrize("seed", range(3))
def test_a_crop_keeps_pixels_depth_and_cameras_together(pictures: Pictures, size: tuple[int, int], seed: int) -> None:
    """Every new pixel, thrown into the world with its depth and back into the old picture, meets that very depth."""
    before = ramps(skewed(pictures))
    options = AugmentOptions(off_centre=0.5, smallest_crop=0.6)
    after = crop_and_resize(before, size, np.random.default_rng(seed), options)
    assert after.images.shape == (8, *size, 3)
    assert after.depth.shape == after.sky.shape == (8, *size)
    points = unproject(after.depth, after.intrinsics, after.extrinsics)
    xy, z = project(points, before.intrinsics, before.extrinsics)
    np.testing.assert_allclose(z, after.depth, rtol=1e-4)
    view = np.arange(8)[:, None, None]
    hit = np.zeros(after.depth.shape, dtype=bool)
    for shift in (-2e-3, 2e-3):  # a point may lie between two pixels
        column, row = (xy[..., axis] + shift for axis in (0, 1))
        column, row = column.clip(0, 167).astype(int), row.clip(0, 125).astype(int)
        hit |= before.depth[view, row, column] == after.depth
    assert hit.all()
    # The picture moved with it: colours say where they come from.
    assert np.abs(after.images[..., 0] - (xy[..., 0] - 0.5)).max() < 0.8
    assert np.abs(after.images[..., 1] - (xy[..., 1] - 0.5)).max() < 0.8


def test_a_crop_invents_no_depth_and_edits_nothing(pictures: Pictures) -> None:
    before = [v.copy() for v in (pictures.images, pictures.depth, pictures.intrinsics, pictures.extrinsics)]
    after = crop_and_resize(pictures, (70, 84), np.random.default_rng(0), AugmentOptions())
    assert np.isin(after.depth, pictures.depth).all()
    assert after.depth.dtype == after.intrinsics.dtype == after.extrinsics.dtype == np.float32
    assert after.images.dtype == np.uint8
    now = (pictures.images, pictures.depth, pictures.intrinsics, pictures.extrinsics)
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))


def test_crops_are_as_small_and_as_far_off_as_the_options_say(pictures: Pictures) -> None:
    size, rng = (63, 84), np.random.default_rng(0)
    centred = replace(pictures, intrinsics=np.repeat(np.float32([[[90, 0, 84], [0, 90, 63], [0, 0, 1]]]), 8, 0))

    def many(options: AugmentOptions) -> tuple[np.ndarray, np.ndarray]:
        made = [crop_and_resize(centred, size, rng, options).intrinsics[0] for _ in range(60)]
        return np.array([k[0, 0] for k in made]), np.array([k[:2, 2] for k in made]) - [42, 31.5]

    focal, offset = many(replace(NO_AUGMENTATION, smallest_crop=0.5))
    assert 44.9 < focal.min() < 50
    assert 80 < focal.max() < 91.5
    assert np.abs(offset).max() < 1.1  # whole pixels only
    _, offset = many(replace(NO_AUGMENTATION, smallest_crop=0.5, off_centre=1.0))
    assert np.abs(offset).max() > 10


def test_sky_moves_with_the_picture(pictures: Pictures) -> None:
    sky = np.zeros(pictures.sky.shape, dtype=bool)
    sky[:, :50, :60] = True
    images = np.repeat(sky[..., None], 3, -1).astype(np.uint8) * 255
    options = AugmentOptions(off_centre=1.0)
    after = mirror(
        crop_and_resize(replace(pictures, sky=sky, images=images), (63, 84), np.random.default_rng(1), options)
    )
    assert 0.05 < after.sky.mean() < 0.5
    assert ((after.images[..., 0] > 127) == after.sky).mean() > 0.97


def test_mirroring_keeps_views_consistent(pictures: Pictures) -> None:
    """Where one view sees a point of another before, it sees its mirror image after."""
    before, after = skewed(pictures), mirror(skewed(pictures))
    np.testing.assert_array_equal(after.images, before.images[:, :, ::-1])
    np.testing.assert_array_equal(after.depth, before.depth[:, :, ::-1])
    pairs = []
    for p in (before, after):
        points = unproject(p.depth, p.intrinsics, p.extrinsics)
        pairs.append([project(points[i], p.intrinsics[j], p.extrinsics[j]) for i, j in ((0, 1), (1, 0), (2, 5))])
    for (xy, z), (mirrored, z_mirrored) in zip(*pairs, strict=True):
        mirrored, z_mirrored = mirrored[:, ::-1], z_mirrored[:, ::-1]
        near = z > 0.3
        np.testing.assert_allclose(z_mirrored[near], z[near], rtol=1e-4)
        np.testing.assert_allclose(168 - mirrored[near][:, 0], xy[near][:, 0], rtol=1e-3, atol=0.02)
        np.testing.assert_allclose(mirrored[near][:, 1], xy[near][:, 1], rtol=1e-3, atol=0.02)
    np.testing.assert_allclose(np.linalg.det(after.extrinsics[:, :, :3]), 1, atol=1e-5)


def test_a_turn_leaves_the_world_where_it_was(pictures: Pictures) -> None:
    k = pictures.intrinsics.copy()
    k[:, 1, 1] *= 1.2
    before = replace(pictures, intrinsics=k)
    after = turn(before)
    assert after.images.shape == (8, 168, 126, 3)
    for name in ("images", "depth", "sky"):
        np.testing.assert_array_equal(getattr(after, name)[:, 3, 125 - 20], getattr(before, name)[:, 20, 3])
    points = unproject(before.depth, before.intrinsics, before.extrinsics)
    turned = unproject(after.depth, after.intrinsics, after.extrinsics)
    np.testing.assert_allclose(turned, np.rot90(points, -1, (1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(after.extrinsics[:, :, :3]), 1, atol=1e-5)
    whole = turn(turn(turn(after)))
    np.testing.assert_array_equal(whole.images, before.images)
    np.testing.assert_allclose(whole.intrinsics, before.intrinsics, rtol=1e-6)
    np.testing.assert_allclose(whole.extrinsics, before.extrinsics, atol=1e-6)


def test_a_mirror_of_a_mirror_is_the_picture(pictures: Pictures) -> None:
    twice = mirror(mirror(skewed(pictures)))
    np.testing.assert_array_equal(twice.images, pictures.images)
    np.testing.assert_allclose(twice.intrinsics, skewed(pictures).intrinsics, rtol=1e-6)
    np.testing.assert_allclose(twice.extrinsics, pictures.extrinsics, rtol=1e-6)


# Camera effects --------------------------------------------------------------------------------------------


def test_camera_effects_are_a_function_of_their_generator(pictures: Pictures) -> None:
    images, kept = pictures.images[:2, ::2, ::2], pictures.images[:2, ::2, ::2].copy()
    every = AugmentOptions(per_view_colour=1, jpeg=1, blur=1, noise=1)
    first, again, other = (camera_effects(images, np.random.default_rng(s), every) for s in (4, 4, 5))
    assert first.dtype == np.uint8
    assert first.shape == images.shape
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    np.testing.assert_array_equal(images, kept)
    assert np.corrcoef(first.ravel(), images.ravel())[0, 1] > 0.5  # still the same picture


def test_without_any_effect_nothing_changes(pictures: Pictures) -> None:
    np.testing.assert_array_equal(
        camera_effects(pictures.images, np.random.default_rng(0), NO_AUGMENTATION), pictures.images
    )


@pytest.mark.parametrize("effect", ["per_view_colour", "jpeg", "blur", "noise", "colour"])
def test_each_effect_does_what_its_name_says(pictures: Pictures, effect: str) -> None:
    grey = np.full((3, 40, 40, 3), 120, dtype=np.uint8)
    grey[:, 10:30, 10:30] = 160
    options = replace(NO_AUGMENTATION, **{effect: 1.0})
    made = camera_effects(grey, np.random.default_rng(3), options).astype(float)
    flat = made[:, 14:26, 14:26]
    assert np.abs(made - grey).max() >= 1
    means = made.mean((1, 2, 3))
    assert (np.ptp(means) > 5) == (effect == "per_view_colour")
    if effect != "jpeg":
        assert (flat[0].std(axis=(0, 1)).max() > 0.5) == (effect == "noise")
    if effect == "blur":
        assert 120 < made[0, 10, 20, 0] < 160
        assert flat.max() == flat.min() == 160
    if effect == "colour":
        np.testing.assert_array_equal(made[0], made[1])
        assert len(np.unique(made[0], axis=0).reshape(-1, 3)) > 1


def test_effects_come_as_often_as_the_options_say() -> None:
    grey = np.full((1, 8, 8, 3), 120, dtype=np.uint8)
    rng = np.random.default_rng(0)
    changed = [(camera_effects(grey, rng, replace(NO_AUGMENTATION, noise=0.25)) != grey).any() for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.25, abs=0.06)
