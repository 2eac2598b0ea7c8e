"""``depth``: independent images. ``inference``: the views of one scene; nested lists are several scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.networks import fill_weights, miniature, small_metric
from support.videos import write_video

from depth_anything_3 import DepthAnything3, Prediction, VideoOptions
from depth_anything_3.errors import InputError


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    loaded = DepthAnything3("miniature", config=miniature(), device="cpu")
    fill_weights(loaded)
    return loaded


def photos(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def assert_same(a: Prediction, b: Prediction) -> None:
    assert a.names == b.names and a.records == b.records
    for name in ("depth", "conf", "extrinsics", "intrinsics"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_depth_does_not_depend_on_the_batch() -> None:
    """Neither on its size nor on what else is in it, on the network that comes with the package."""
    real = DepthAnything3.from_pretrained("bundled")
    images = photos((60, 84), (84, 60), (60, 84), (84, 84), (60, 84))
    alone = [real.depth([image], process_res=84)[0] for image in images]
    assert [prediction.depth.shape for prediction in alone[:2]] == [(1, 56, 84), (1, 84, 56)]
    for batch_size in (1, 2, 3, 8):
        together = real.depth(images, process_res=84, batch_size=batch_size)
        assert [p.names for p in together] == [(f"image_{i:04d}",) for i in range(5)]
        for i, (prediction, expected) in enumerate(zip(together, alone, strict=True)):
            assert_same(prediction, Prediction(**{**vars(expected), "names": (f"image_{i:04d}",)}))
    scene = real.inference([images[0]], process_res=84)
    np.testing.assert_allclose(scene.depth, alone[0].depth, rtol=1e-6)
    assert not np.allclose(real.inference([images[0], images[2]], process_res=84).depth[0], scene.depth[0], rtol=1e-3)


def test_maps_for_the_pixels_of_the_input(model: DepthAnything3, tmp_path: Path) -> None:
    """Of each picture by itself whatever their sizes; of a scene where they agree, also in its files."""
    images = photos((61, 83), (90, 60))
    for image, found in zip(images, model.depth(images, process_res=56, output_size="input"), strict=True):
        assert found.depth.shape == (1, *image.shape[:2]) and found.records[0].processed_hw == image.shape[:2]
        np.testing.assert_array_equal(found.processed_images, image[None])  # type: ignore[arg-type]
    K = np.array([[70.0, 0, 41], [0, 72, 30], [0, 0, 1]])
    same = photos((61, 83), (61, 83))
    options = {"intrinsics": [K, K], "process_res": 56, "output_size": "input"}
    scene = model.inference(same, export_dir=tmp_path, **options)
    np.testing.assert_allclose(scene.intrinsics, [K, K], rtol=1e-6)  # type: ignore[arg-type]
    with np.load(tmp_path / "exports/mini_npz/results.npz") as file:
        assert file["depth"].shape == (2, 61, 83)
    with pytest.raises(InputError, match="output_size"), pytest.warns(UserWarning, match="different shapes"):
        model.inference(images, process_res=56, output_size="input")


def test_depth_takes_what_an_image_comes_with(tmp_path: Path) -> None:
    metric = DepthAnything3("da3metric-tiny", config=small_metric(), device="cpu")
    fill_weights(metric)
    images = photos((60, 84), (60, 84))
    K = np.array([[[60.0, 0, 42], [0, 60, 30], [0, 0, 1]], [[120.0, 0, 42], [0, 120, 30], [0, 0, 1]]])
    keep = np.ones((60, 84), bool)
    keep[:, :42] = False
    plain = metric.depth(images, process_res=84)
    given = metric.depth(images, process_res=84, intrinsics=K, masks=[None, keep])
    assert [p.is_metric for p in given] == [True, True] and not plain[0].is_metric
    for i, focal in enumerate((60 * (1 + 56 / 60) / 2, 120 * (1 + 56 / 60) / 2)):
        np.testing.assert_allclose(given[i].depth, plain[i].depth * focal / 300, rtol=1e-5)
    assert given[0].valid.all() and not given[1].valid[0, :, :42].any()
    clip = write_video(tmp_path / "clip.mp4", 6)
    frames = metric.depth(clip, process_res=56, video=VideoOptions(stride=3))
    assert [p.timestamps for p in frames] == [(0.0,), (pytest.approx(0.3),)]


def test_nested_lists_are_several_scenes(model: DepthAnything3, tmp_path: Path) -> None:
    a, b, c = photos((60, 84), (60, 84), (84, 60))
    both = model.inference([[a, b], (c,)], process_res=56, export_dir=tmp_path, export_format="npz")
    assert isinstance(both, tuple)
    for found, views in zip(both, ([a, b], [c]), strict=True):
        assert_same(found, model.inference(views, process_res=56))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene_0000", "scene_0001"]
    K = np.array([[60.0, 0, 42], [0, 60, 30], [0, 0, 1]])
    some = model.inference([[a, b], [c]], None, [np.stack([K, K]), None], process_res=56, masks=None)
    assert some[0].intrinsics[0, 0, 0] == 40 and some[1].intrinsics[0, 0, 0] != 40


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda m, a: m.inference([[a], [a]], None, [None], process_res=56), "intrinsics"),
        (lambda m, a: m.inference([[a], [[a]]], process_res=56), "image[0]"),
        (lambda m, a: m.inference([[a], []], process_res=56), "image"),
        (lambda m, a: m.inference([[a], a], process_res=56), "image[0]"),
        (lambda m, a: m.depth([[a], [a]], process_res=56), "image[0]"),
        (lambda m, a: m.depth([a], batch_size=0), "batch_size"),
        (lambda m, a: m.depth([a, "missing.png"], process_res=56), "image[1]"),
    ],
)
def test_refusals(model: DepthAnything3, call: Any, argument: str) -> None:
    with pytest.raises(InputError) as caught:
        call(model, photos((60, 84))[0])
    assert caught.value.argument == argument
