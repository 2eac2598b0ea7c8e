"""Large pictures by tiles: an oracle with a unit of its own for every tile."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.infer.tiles import infer_tiles
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.sample import Sample, film
from depth_anything_3.synth.scenes import make_scene
from depth_anything_3.types.prediction import Prediction

HEIGHT, WIDTH, SIDE = 180, 260, 56  # of the picture, and of what the oracle looks at


@functools.cache
def room() -> Sample:
    scene = make_scene(8, "room")
    return film(scene, (), make_cameras(scene, 1, HEIGHT, WIDTH, seed=1, kind="random", fov_deg=80.0), HEIGHT, WIDTH)


def oracle(image: np.ndarray, intrinsics: np.ndarray | None) -> Prediction:
    """The truth of the part that the matrix says, made small; each part in another unit, and tilted a little."""
    assert intrinsics is not None
    sample = room()
    left, top = (round(float(sample.intrinsics[0, i, 2] - intrinsics[i, 2])) for i in range(2))
    height, width = image.shape[:2]
    rng = np.random.default_rng(left + 1000 * top)
    tilt = np.exp(0.1 * rng.normal() * np.linspace(-1, 1, width))
    true = sample.depth[0, top : top + height, left : left + width].astype(np.float64) * 2 ** rng.normal() * tilt
    scale = SIDE / max(height, width)
    small = cv2.resize(true, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_NEAREST)
    return Prediction(depth=small[None].astype(np.float32), is_metric=False)


def error(depth: np.ndarray) -> np.ndarray:
    true = room().depth[0]
    log = np.log(depth[true > 0] / true[true > 0])
    return np.abs(log - np.median(log))


def test_tiles_have_one_scale_and_more_detail() -> None:
    sample = room()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    found = infer_tiles(oracle, image, tile=80, intrinsics=sample.intrinsics[0])
    assert found.depth.shape == (1, HEIGHT, WIDTH) and found.records[0].source_hw == (HEIGHT, WIDTH)
    np.testing.assert_allclose(found.intrinsics, sample.intrinsics)
    whole = cv2.resize(oracle(image, sample.intrinsics[0]).depth[0], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    tiles = error(found.depth[0])
    assert np.median(tiles) < 0.05 and (tiles < np.log(1.25)).mean() > 0.95
    assert np.mean(tiles > 0.1) < np.mean(error(whole) > 0.1), "nearer to the truth than the whole picture enlarged"


def test_with_a_network() -> None:
    model = DepthAnything3.from_pretrained("bundled/da3metric-tiny", device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (70, 100, 3), np.uint8)
    found = model.tiled(image, intrinsics=[[80, 0, 50], [0, 80, 35], [0, 0, 1]], process_res=56)
    assert found.depth.shape == (1, 70, 100) and found.is_metric and np.isfinite(found.depth).all()
    whole = model.inference([image], intrinsics=[[[80, 0, 50], [0, 80, 35], [0, 0, 1]]], process_res=56)
    assert np.median(found.depth) == pytest.approx(np.median(whole.depth), rel=0.1), "metres of the whole picture"
    with pytest.raises(InputError, match="overlap"):
        model.tiled(image, overlap=0.7)
