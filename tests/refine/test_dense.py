"""Dense refinement on pictures with exact depth."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from support.layers import Layers, layers
from support.poses import rotation

from depth_anything_3.errors import InputError
from depth_anything_3.refine.dense import DenseDepth, DenseOptions, refine_depth


@cache
def scene() -> Layers:
    return layers()


def disturbed_depth(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """As a network would see it: off by a smooth 15 %, with noise of 3 %, blurred."""
    rng = np.random.default_rng(seed)
    out = []
    for z in truth:
        field = cv2.resize(rng.uniform(-1, 1, (3, 4)), z.shape[::-1], interpolation=cv2.INTER_LINEAR)
        out.append(cv2.blur(z * np.exp(0.15 * field + 0.03 * rng.standard_normal(z.shape)), (9, 9)))
    return np.stack(out)


def refined(made: Layers, depth: np.ndarray, **keywords: object) -> DenseDepth:
    return refine_depth(made.images, made.intrinsics, made.extrinsics, depth, **keywords)  # type: ignore[arg-type]


@cache
def usual() -> tuple[np.ndarray, DenseDepth]:
    depth = disturbed_depth(scene().depth)
    return depth, refined(scene(), depth)


def off(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(np.log(depth / truth))


def test_textured_surfaces_are_measured() -> None:
    given, found = usual()
    truth, textured = scene().depth, ~scene().plain
    before, after = off(given, truth)[textured], off(found.depth, truth)[textured]
    assert np.median(after) < 0.008 < 0.05 < np.median(before)
    assert (before < 0.02).mean() < 0.25
    assert (after < 0.02).mean() > 0.78
    # The edges of the board, to the width of a window, are what is left.
    assert (after < 0.25).mean() >= (before < 0.25).mean() - 0.005
    assert (found.share > 0.7).all()


def inner(areas: np.ndarray, pixels: int = 13) -> np.ndarray:
    """Without their borders."""
    return np.stack([cv2.erode(area.astype(np.uint8), np.ones((pixels, pixels))) > 0 for area in areas])


def test_confidence_says_what_is_right() -> None:
    _, found = usual()
    sure = found.confidence > 0.5
    error = off(found.depth, scene().depth)
    assert found.confidence.min() >= 0
    assert found.confidence.max() <= 1
    assert (error[sure] < 0.02).mean() > 0.82
    wall = inner((scene().depth > 3.2) & ~scene().plain)
    assert (error[sure & wall] < 0.02).mean() > 0.94
    assert sure[wall].mean() > 0.8
    assert sure[inner(scene().plain)].mean() < 0.01


def test_plain_surfaces_keep_their_shape() -> None:
    before, after = [], []
    for seed in range(3):
        made = layers(seed=seed)
        given = disturbed_depth(made.depth, seed)
        found = refined(made, given)
        before.append(off(given, made.depth)[made.plain].mean())
        after.append(off(found.depth, made.depth)[made.plain].mean())
        slope = np.diff(np.log(found.depth / given), axis=2)[inner(made.plain)[:, :, 1:]]
        assert np.abs(slope).max() < 0.03
    assert np.mean(after) < 1.08 * np.mean(before)


def test_noise_of_single_pixels_goes_where_depth_is_measured_and_stays_elsewhere() -> None:
    given, _ = usual()
    rough = np.exp(0.03 * np.random.default_rng(5).standard_normal(given.shape))
    found = refined(scene(), given * rough)
    sure = found.confidence > 0.9
    assert np.median(off(found.depth, scene().depth)[sure]) < 0.01
    change = np.log(found.depth / (given * rough))
    assert np.abs(np.diff(change, axis=2))[inner(scene().plain)[:, :, 1:]].mean() < 0.003


def test_brightness_of_a_view_does_not_matter() -> None:
    given, found = usual()
    images = scene().images.copy()
    images[1] = 40 + images[1] // 2
    other = refine_depth(images, scene().intrinsics, scene().extrinsics, given)
    assert np.median(off(other.depth, found.depth)) < 0.003


def test_the_same_every_time_and_nothing_edited() -> None:
    given, found = usual()
    before = given.copy()
    again = refined(scene(), given)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(found.depth, again.depth)
    np.testing.assert_array_equal(found.confidence, again.confidence)


def test_cameras_that_are_slightly_wrong() -> None:
    given, _ = usual()
    poses = scene().extrinsics.copy()
    for i, sign in enumerate((1, -1, 1, -1)):
        poses[i] = rotation([sign, 0.5, 0.2], 0.2) @ poses[i]
    found = refine_depth(scene().images, scene().intrinsics * [[1.01], [1.01], [1]], poses, given)
    textured = ~scene().plain
    assert np.median(off(found.depth, scene().depth)[textured]) < 0.6 * np.median(off(given, scene().depth)[textured])


def test_a_pair_and_another_size_of_depth() -> None:
    pair = layers(2)
    given = disturbed_depth(pair.depth)[:, ::2, ::2].astype(np.float32)
    found = refined(pair, given)
    assert found.depth.shape == found.confidence.shape == given.shape
    assert found.depth.dtype == np.float32
    assert found.sources == ((1,), (0,))
    textured = ~pair.plain[:, ::2, ::2]
    after = off(found.depth, pair.depth[:, ::2, ::2])[textured]
    assert np.median(after) < 0.015
    assert (after < 0.2).mean() > 0.9


def test_a_band_that_holds_the_truth_is_found() -> None:
    far_off = np.full_like(scene().depth, 3.2)  # a flat board between the two: 22 % and 28 % off
    narrow, wide = (refined(scene(), far_off, band=band) for band in (0.05, 0.4))
    textured = ~scene().plain
    good = [(off(found.depth, scene().depth)[textured] < 0.03).mean() for found in (narrow, wide)]
    assert good[1] > 0.75
    assert good[1] > good[0] + 0.2


def test_masked_and_unknown_pixels_stay() -> None:
    given = disturbed_depth(scene().depth)
    given[:, :10] = np.nan
    given[:, 10:20] = 0
    mask = np.ones(given.shape, bool)
    mask[:, 20:40] = False
    found = refined(scene(), given, masks=mask)
    np.testing.assert_array_equal(found.depth[:, :40], given[:, :40].astype(np.float32))
    assert (found.confidence[:, :40] == 0).all()
    assert np.isfinite(found.depth[:, 40:]).all()
    textured = ~scene().plain[:, 40:]
    assert np.median(off(found.depth[:, 40:], scene().depth[:, 40:])[textured]) < 0.01


def test_without_another_place_depth_stays() -> None:
    given = disturbed_depth(scene().depth)
    turning = scene().extrinsics.copy()
    turning[:, :, 3] = 0
    found = refine_depth(scene().images, scene().intrinsics, turning, given)
    np.testing.assert_array_equal(found.depth, given.astype(np.float32))
    assert (found.share == 0).all()
    assert found.sources == ((), (), (), ())
    alone = refine_depth(scene().images[:1], scene().intrinsics[:1], turning[:1], given[:1])
    np.testing.assert_array_equal(alone.depth, given[:1].astype(np.float32))


def test_pictures_without_any_texture() -> None:
    given, _ = usual()
    for grey in (0, 77, 255):
        found = refine_depth(
            np.full_like(scene().images, grey),
            scene().intrinsics,
            scene().extrinsics,
            given,
            options=DenseOptions(sources=1),
        )
        np.testing.assert_allclose(found.depth, given, rtol=1e-4)
        assert (found.confidence == 0).all()


def test_options_count() -> None:
    given, _ = usual()
    few = refined(scene(), given, options=DenseOptions(sources=1, working_size=80))
    assert [len(chosen) for chosen in few.sources] == [1, 1, 1, 1]
    assert np.median(off(few.depth, scene().depth)[~scene().plain]) < 0.03
    for wrong in ({"working_size": 10}, {"sources": 0}, {"planes": 1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            DenseOptions(**wrong)


def test_errors() -> None:
    made, given = scene(), scene().depth
    with pytest.raises(InputError, match="images"):
        refine_depth(made.images[:2], made.intrinsics, made.extrinsics, given)
    with pytest.raises(InputError, match="images"):
        refine_depth(made.images / 255, made.intrinsics, made.extrinsics, given)
    with pytest.raises(InputError, match="depth"):
        refined(made, given[0])
    with pytest.raises(InputError, match="masks"):
        refined(made, given, masks=np.ones((4, 2, 2), bool))
    with pytest.raises(InputError, match="band"):
        refined(made, given, band=0.0)
    with pytest.raises(InputError, match="extrinsics"):
        refine_depth(made.images, made.intrinsics, made.extrinsics[:, :, :3], given)
