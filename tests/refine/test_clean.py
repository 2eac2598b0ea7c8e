"""Which pixels the cleaning keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.refine.clean import keep_pixels
from depth_anything_3.types.options import CLEAN_PRESETS, CleanOptions
from depth_anything_3.types.prediction import Prediction

NOTHING = CleanOptions(drop_sky=False, flying=0.0)


def wall(views: int = 3, **fields: object) -> Prediction:
    """Cameras side by side before a wall at depth 2; 10 pixels apart."""
    pose = np.tile(np.eye(4, dtype=np.float32)[:3], (views, 1, 1))
    pose[:, 0, 3] = -0.4 * np.arange(views)
    k = np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]], np.float32)
    values: dict[str, object] = {
        "depth": np.full((views, 30, 40), 2.0, np.float32),
        "is_metric": True,
        "extrinsics": pose,
        "intrinsics": np.tile(k, (views, 1, 1)),
    }
    return Prediction(**(values | fields))  # type: ignore[arg-type]


def test_raw_keeps_every_depth() -> None:
    depth = np.full((3, 30, 40), 2.0, np.float32)
    depth[0, 0, :4] = [0, -1, np.nan, np.inf]
    sky = np.ones(depth.shape, bool)
    keep = keep_pixels(wall(depth=depth, sky=sky), "raw")
    assert not keep[0, 0, :4].any() and keep.sum() == keep.size - 4


def test_sky_and_mask_go() -> None:
    sky, mask = np.zeros((3, 30, 40), bool), np.ones((3, 30, 40), bool)
    sky[0, :3], mask[1, :, :5] = True, False
    keep = keep_pixels(wall(sky=sky), "clean", mask=mask)
    np.testing.assert_array_equal(keep, ~sky & mask)
    assert keep_pixels(wall(sky=sky), dataclasses.replace(NOTHING), mask=mask)[0, :3].all()


def test_the_least_confident_share_goes() -> None:
    conf = np.linspace(1, 9, 3 * 30 * 40, dtype=np.float32).reshape(3, 30, 40)
    keep = keep_pixels(wall(conf=conf), dataclasses.replace(NOTHING, conf_percentile=25.0))
    assert keep.mean() == pytest.approx(0.75, abs=0.001)
    assert conf[keep].min() > conf[~keep].max()
    same = wall(conf=np.ones((3, 30, 40), np.float32))
    assert keep_pixels(same, dataclasses.replace(NOTHING, conf_percentile=25.0)).all()


def test_sky_does_not_count_in_the_percentile() -> None:
    conf = np.full((3, 30, 40), 5.0, np.float32)
    sky = np.zeros(conf.shape, bool)
    sky[:, :15], conf[:, :15], conf[:, -1] = True, 1.0, 4.0
    keep = keep_pixels(wall(conf=conf, sky=sky), CleanOptions(flying=0, conf_percentile=10.0))
    assert not keep[:, -1].any() and keep[:, 15:-1].all()


def test_what_others_contradict_goes() -> None:
    depth = np.full((3, 30, 40), 2.0, np.float32)
    depth[1, 10:20, 18:22] = 1.6
    keep = keep_pixels(wall(depth=depth), dataclasses.replace(NOTHING, consistency=0.05))
    assert not keep[1, 10:20, 18:22].any()
    assert np.count_nonzero(~keep) == 40


def test_agreeing_views_are_capped_by_those_that_can_see() -> None:
    keep = keep_pixels(wall(), dataclasses.replace(NOTHING, consistency=0.05, agreeing_views=2))
    assert keep.all()
    with pytest.warns(UserWarning, match="agreeing_views"):
        keep_pixels(wall(), dataclasses.replace(NOTHING, agreeing_views=2))


def test_one_view_or_no_camera_is_not_compared() -> None:
    assert keep_pixels(wall(1), "strict").all()
    assert keep_pixels(wall(extrinsics=None, intrinsics=None), "strict").all()


@pytest.mark.parametrize("preset", CLEAN_PRESETS)
def test_the_prediction_stays_as_it_is(preset: str) -> None:
    random = np.random.default_rng(0)
    depth = random.uniform(1, 3, (3, 30, 40)).astype(np.float32)
    prediction = wall(depth=depth.copy(), conf=random.uniform(1, 9, depth.shape).astype(np.float32))
    keep_pixels(prediction, preset)
    np.testing.assert_array_equal(prediction.depth, depth)


def test_stricter_presets_keep_less() -> None:
    random = np.random.default_rng(0)
    depth = (2 + 0.05 * random.standard_normal((3, 30, 40))).astype(np.float32)
    prediction = wall(depth=depth, conf=random.uniform(1, 9, depth.shape).astype(np.float32))
    raw, clean, strict = (keep_pixels(prediction, preset) for preset in ("raw", "clean", "strict"))
    assert raw.sum() > clean.sum() > strict.sum() > 0
    assert not (strict & ~raw).any()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"preset.*raw, clean, strict"):
        keep_pixels(wall(), "spotless")
    with pytest.raises(InputError, match="mask"):
        keep_pixels(wall(), mask=np.ones((3, 30, 41), bool))
    with pytest.raises(InputError, match="mask"):
        keep_pixels(wall(), mask=np.ones((3, 30, 40)))
