"""From images to network inputs: sizes, records, mixed shapes, order, progress, refusals."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depth_anything_3.errors import ImageError, InputError
from depth_anything_3.infer import preprocess as module
from depth_anything_3.infer.preprocess import plan_resize, preprocess, resize_pictures
from depth_anything_3.io.images import decode_image
from depth_anything_3.types.inputs import ModelInputs, ResizeRecord
from depth_anything_3.types.options import PROCESS_METHODS, PreprocessOptions

Size = tuple[int, int]


def options(resolution: int = 504, method: str = "upper_bound_resize", **rest: Any) -> PreprocessOptions:
    return PreprocessOptions(process_res=resolution, process_res_method=method, **rest)  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: npt.NDArray[np.uint8], **save: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **save)
    return buffer.getvalue()


# --- sizes -------------------------------------------------------------------------------------------------------

# (W, H) in; (W, H) out of the four methods at 504. None: refused by us, broken as published.
PUBLISHED_SIZES: list[tuple[Size, list[Size]]] = [
    ((1600, 1200), [(504, 378), (504, 378), (672, 504), (672, 504)]),
    ((1200, 1600), [(378, 504), (378, 504), (504, 672), (504, 672)]),
    ((1920, 1080), [(504, 280), (504, 280), (896, 504), (896, 504)]),
    ((1280, 720), [(504, 280), (504, 280), (896, 504), (896, 504)]),
    ((504, 376), [(504, 378), (504, 364), (672, 504), (672, 504)]),
    ((1242, 375), [(504, 154), (504, 140), (1666, 504), (1666, 504)]),
    ((375, 1242), [(154, 504), (140, 504), (504, 1666), (504, 1666)]),
    ((300, 200), [(504, 336), (504, 336), (756, 504), (756, 504)]),
    ((224, 224), [(504, 504), (504, 504), (504, 504), (504, 504)]),
    ((1008, 511), [(504, 252), (504, 252), (994, 504), (994, 504)]),
    ((721, 500), [(504, 350), (504, 350), (728, 504), (714, 504)]),
    ((2000, 100), [(504, 28), (504, 14), (10080, 504), (10080, 504)]),
]


@pytest.mark.parametrize(("source", "expected"), PUBLISHED_SIZES, ids=lambda value: str(value)[:12])
def test_published_sizes(source: Size, expected: list[Size]) -> None:
    for method, size in zip(
        ["upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop"], expected, strict=True
    ):
        planned = plan_resize((source[1], source[0]), options(504, method)).processed_hw
        assert (planned[1], planned[0]) == size, method


def test_arrays_have_the_planned_size() -> None:
    for method in PROCESS_METHODS:
        inputs = preprocess([noise(100, 145, 3)], options=options(98, method))
        height, width = plan_resize((100, 145), options(98, method)).processed_hw
        assert inputs.images.shape == (1, 3, height, width) and inputs.images.dtype == np.float32
        assert inputs.processed_images.shape == (1, height, width, 3) and inputs.processed_images.dtype == np.uint8
        assert inputs.records[0].processed_hw == (height, width)


@pytest.mark.parametrize(("side", "multiple"), [(5, 14), (6, 14), (7, 14), (20, 14), (21, 28), (34, 28), (35, 42)])
def test_nearest_multiple_takes_ties_up_and_never_vanishes(side: int, multiple: int) -> None:
    assert plan_resize((side, 98), options(98)).processed_hw == (multiple, 98)


def test_first_resize_rounds_ties_to_even() -> None:
    # 15 * 0.5 = 7.5 becomes 8 and 17 * 0.5 = 8.5 becomes 8 too
    assert plan_resize((15, 196), options(98)).bounded_hw == (8, 98)
    assert plan_resize((17, 196), options(98)).bounded_hw == (8, 98)


def test_side_at_the_bound_is_not_resized_first() -> None:
    pixels = noise(84, 112, 3)
    inputs = preprocess([pixels], options=options(112))
    assert inputs.records[0].scale_xy == (1.0, 1.0)
    np.testing.assert_array_equal(np.abs(inputs.processed_images[0].astype(int) - pixels) <= 1, True)


@pytest.mark.parametrize("method", PROCESS_METHODS)
def test_one_pixel(method: str) -> None:
    inputs = preprocess([np.full((1, 1, 3), [10, 100, 200], np.uint8)], options=options(504, method))
    assert inputs.images.shape == (1, 3, 504, 504)
    assert np.ptp(inputs.images, axis=(2, 3)).max() == 0
    assert np.abs(inputs.processed_images[0, 0, 0].astype(int) - [10, 100, 200]).max() <= 1
    assert inputs.records[0].scale_xy == (504.0, 504.0)


@pytest.mark.parametrize("hw", [(1, 20), (20, 1), (100, 2000)])
def test_aspect_ratio_of_exactly_20_is_fine(hw: Size) -> None:
    for method in PROCESS_METHODS:
        inputs = preprocess([noise(*hw, 3)], options=options(280, method))
        assert min(inputs.images.shape[2:]) >= 14


@pytest.mark.parametrize("hw", [(1, 21), (21, 1), (20, 3000), (100, 2001)])
@pytest.mark.parametrize("method", PROCESS_METHODS)
def test_longer_images_are_refused_by_name(
    hw: Size, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "panorama.png"
    path.write_bytes(png(noise(*hw, 3)))
    monkeypatch.setattr(module, "_resize", lambda *_: pytest.fail("resized before the check"))
    with pytest.raises(ImageError, match="20:1") as caught:
        preprocess([path], options=options(504, method))
    assert caught.value.argument == "image[0]"
    assert f"panorama.png of {hw[1]}x{hw[0]} pixels" in str(caught.value)


def test_crop_to_nothing_is_refused_before_anything_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_resize", lambda *_: pytest.fail("resized before the check"))
    with pytest.raises(ImageError, match="image_0000 of 200x20 pixels, scaled to 100x10") as caught:
        preprocess([noise(20, 200, 3)], options=options(100, "upper_bound_crop"))
    assert caught.value.argument == "image[0]"
    assert caught.value.alternatives == ("upper_bound_resize",)
    assert plan_resize((28, 200), options(100, "upper_bound_crop")).processed_hw == (14, 98)


# --- the record --------------------------------------------------------------------------------------------------


def to_processed(record: ResizeRecord, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return xy * record.scale_xy + record.offset_xy


sizes = st.tuples(st.integers(20, 150), st.integers(20, 150))
methods = st.sampled_from(PROCESS_METHODS)


@settings(max_examples=60, deadline=None)
@given(
    hws=st.lists(sizes, min_size=1, max_size=3),
    resolution=st.integers(112, 150),
    method=methods,
    focal=st.tuples(st.floats(10, 500), st.floats(10, 500)),
    centre=st.tuples(st.floats(-50, 200), st.floats(-50, 200)),
    skew=st.floats(-5, 5),
    point=st.tuples(st.floats(0, 150), st.floats(0, 150)),
)
def test_record_and_intrinsics_map_points_alike(
    hws: list[Size], resolution: int, method: str, focal: Any, centre: Any, skew: float, point: Any
) -> None:
    K = np.array([[focal[0], skew, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = preprocess(
            [np.zeros((*hw, 3), np.uint8) for hw in hws],
            intrinsics=np.stack([K] * len(hws)),
            options=options(resolution, method),
            max_workers=1,
        )
    assert inputs.intrinsics is not None
    for hw, record, mapped_K in zip(hws, inputs.records, inputs.intrinsics, strict=True):
        assert record.source_hw == hw and record.processed_hw == inputs.images.shape[2:]
        through_K = mapped_K @ np.linalg.inv(K) @ [*point, 1.0]
        np.testing.assert_allclose(through_K, [*to_processed(record, np.array(point)), 1.0], rtol=1e-9, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(hw=sizes, resolution=st.integers(112, 300), method=methods)
def test_record_covers_the_source_evenly(hw: Size, resolution: int, method: str) -> None:
    """What is cropped differs by at most one pixel between the two ends; without a crop nothing is lost."""
    (record,) = preprocess([np.zeros((*hw, 3), np.uint8)], options=options(resolution, method), max_workers=1).records
    start = to_processed(record, np.zeros(2))
    end = to_processed(record, np.array([hw[1], hw[0]], float)) - record.processed_hw[::-1]
    assert (start <= 0).all() and (start == np.round(start)).all()
    np.testing.assert_array_less(np.abs(start + end), 1 + 1e-6)
    if method.endswith("resize"):
        np.testing.assert_allclose([start, end], 0, atol=1e-9)
    else:
        assert (end < 14).all()


@pytest.mark.parametrize("method", PROCESS_METHODS)
@pytest.mark.parametrize("hw", [(100, 145), (145, 100), (300, 251)])
def test_record_agrees_with_where_the_pixels_went(hw: Size, method: str) -> None:
    """A ramp stays a ramp under linear maps: the shown value tells which source pixel it came from."""
    slope = np.array([250 / hw[1], 250 / hw[0]])
    x, y = np.arange(hw[1]) + 0.5, np.arange(hw[0]) + 0.5
    ramps = np.stack([*np.meshgrid(x * slope[0], y * slope[1]), np.zeros(hw)], axis=2)
    other = np.zeros((120, 120, 3), np.uint8)  # makes the common size smaller on one axis
    with pytest.warns(UserWarning, match="cropped"):
        inputs = preprocess([np.rint(ramps).astype(np.uint8), other], options=options(112, method))
    shown, record = inputs.processed_images[0].astype(float), inputs.records[0]
    for axis in (0, 1):
        centres = np.arange(record.processed_hw[1 - axis]) + 0.5
        source = (centres - record.offset_xy[axis]) / record.scale_xy[axis]
        profile = shown[:, :, axis].mean(axis=axis)
        inner = slice(6, -6)  # the kernel of the resize bends the ramp at the border
        # rounding and truncation cost up to a level or so; half a network pixel is worth about 0.5 * slope / scale
        error = (profile - source * slope[axis])[inner] + 0.3
        assert np.abs(error.mean()) < 0.45, error.mean()
        assert np.abs(error).max() < 2.5


def test_orientation_is_part_of_the_record() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(60, 90, 3)
    K = np.array([[[80.0, 0, 30], [0, 80, 45], [0, 0, 1]]])  # of the upright image
    inputs = preprocess([png(pixels, exif=exif)], intrinsics=K, options=options(140, "upper_bound_crop"))
    upright = preprocess([np.rot90(pixels, -1)], intrinsics=K, options=options(140, "upper_bound_crop"))
    np.testing.assert_array_equal(inputs.images, upright.images)
    np.testing.assert_array_equal(inputs.intrinsics, upright.intrinsics)
    record = inputs.records[0]
    assert (record.source_hw, record.processed_hw, record.exif_orientation) == ((90, 60), (140, 84), 6)
    assert upright.records[0].exif_orientation == 1
    assert record.scale_xy == (93 / 60, 140 / 90) and record.offset_xy == (-4.0, 0.0)


# --- mixed shapes ------------------------------------------------------------------------------------------------


def test_mixed_shapes_are_cropped_to_the_common_minimum_with_a_warning() -> None:
    images = [noise(60, 120, 3), noise(120, 60, 3, seed=1), noise(60, 60, 3, seed=2)]
    with pytest.warns(UserWarning) as caught:
        inputs = preprocess(images, options=options(56))
    assert [record.processed_hw for record in inputs.records] == [(28, 28)] * 3
    assert [record.offset_xy for record in inputs.records] == [(-14.0, 0.0), (0.0, -14.0), (-14.0, -14.0)]
    message = str(caught[0].message)
    assert "28x28" in message
    assert "3920 of 6272 pixels" in message and "62%" in message, message  # 2 * 1568 + 3136, minus 3 * 784
    assert "image_0002 (75%)" in message


def test_mixed_crop_takes_the_middle_of_the_image_alone() -> None:
    wide, tall = noise(60, 120, 3), noise(120, 60, 3, seed=1)
    with pytest.warns(UserWarning, match="cropped"):
        both = preprocess([wide, tall], options=options(56))
    alone = preprocess([wide], options=options(56))
    np.testing.assert_array_equal(both.images[0], alone.images[0, :, :, 14:42])
    np.testing.assert_array_equal(both.processed_images[0], alone.processed_images[0, :, 14:42])


def test_equal_shapes_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocess([noise(60, 120, 3), noise(120, 240, 3)], options=options(56))


# --- many images -------------------------------------------------------------------------------------------------


def test_thousand_images_in_order() -> None:
    files = [png(np.full((20, 30, 3), [i % 250, i // 250, 7], np.uint8)) for i in range(1000)]
    calls: list[tuple[int, int]] = []
    inputs = preprocess(files, options=options(28), on_image=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 1000) for i in range(1000)]
    assert inputs.images.shape == (1000, 3, 14, 28)
    assert inputs.names[::333] == ("image_0000", "image_0333", "image_0666", "image_0999")
    expected = [preprocess([file], options=options(28), max_workers=1).images[0, :, 0, 0] for file in files[::37]]
    np.testing.assert_array_equal(inputs.images[::37, :, 0, 0], expected)


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    images = [png(noise(90, 130, 3, seed=i)) for i in range(12)]
    one, many = (preprocess(images, options=options(98), max_workers=workers) for workers in (1, 8))
    np.testing.assert_array_equal(one.images, many.images)
    np.testing.assert_array_equal(one.processed_images, many.processed_images)
    assert one.records == many.records and one.names == many.names


def test_progress_comes_from_the_calling_thread() -> None:
    threads = []
    preprocess([noise(4, 4, 3)] * 5, options=options(28), on_image=lambda *_: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()] * 5


def test_exception_in_progress_stops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(source: Any, **rest: Any) -> Any:
        decoded.append(rest["index"])
        return decode_image(source, **rest)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "decode_image", counted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        preprocess([png(noise(400, 400, 3))] * 300, options=options(28), on_image=stop, max_workers=2)
    assert len(decoded) < 200
    assert threading.active_count() == before


def test_no_more_images_at_full_size_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding waits for a worker: at most ``max_workers`` sources are between decoding and their small result."""
    lock, alive, peak = threading.Lock(), 0, 0
    resize_one = module._resize_one

    def watched(*arguments: Any) -> Any:
        nonlocal alive, peak
        with lock:
            alive += 1
            peak = max(peak, alive)
        result = resize_one(*arguments)
        with lock:
            alive -= 1
        assert result.pixels.nbytes < 28 * 28 * 3 + 1
        return result

    monkeypatch.setattr(module, "_resize_one", watched)
    preprocess([png(noise(200, 200, 3))] * 30, options=options(28), max_workers=3)
    assert 1 <= peak <= 3


def test_names_of_files_and_others(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(noise(8, 8, 3)))
    inputs = preprocess([noise(8, 8, 3), path, str(path), path.read_bytes()], options=options(28))
    assert inputs.names == ("image_0000", "x.png", "x.png", "image_0003")


def test_arguments_are_not_changed_and_results_are_not_shared() -> None:
    image, K, pose = noise(28, 28, 3), np.diag([20.0, 20, 1])[None], np.eye(4)[None]
    copies = image.copy(), K.copy(), pose.copy()
    inputs = preprocess([image], intrinsics=K, extrinsics=pose, options=options(28))
    inputs.intrinsics[:], inputs.extrinsics[:], inputs.processed_images[:] = 7, 7, 7  # type: ignore[index]
    for value, copy in zip((image, K, pose), copies, strict=True):
        np.testing.assert_array_equal(value, copy)


# --- refusals ----------------------------------------------------------------------------------------------------


def refused(images: Any, **rest: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        preprocess(images, options=options(28), **rest)
    return caught.value


def test_no_images() -> None:
    assert refused([]).argument == "image"


def test_damaged_image_is_named_by_its_index_and_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff nothing")
    error = refused([noise(4, 4, 3), noise(4, 4, 3), path])
    assert isinstance(error, ImageError) and error.argument == "image[2]" and str(path) in str(error)


def test_all_damaged_images_are_named_with_their_reasons_and_of_many_the_first_ten(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    whole = png(noise(40, 40, 3))
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    told: list[int] = []
    error = refused(
        [tmp_path / "empty.jpg", noise(4, 4, 3), tmp_path / "cut.png", noise(4, 100, 3)],
        on_image=lambda done, _: told.append(done),
    )
    assert isinstance(error, ImageError) and error.got.startswith("3 of 4 that cannot be used (image[0]: ")
    for part in (
        f"{tmp_path / 'empty.jpg'} (empty",
        f"image[2]: {tmp_path / 'cut.png'}",
        "image[3]: image_0003 of 100x4",
    ):
        assert part in str(error)
    assert "20:1" in error.expected and told == [1]
    many = refused([b"x", noise(4, 4, 3)] * 12)
    assert "image[18]" in many.got and "image[20]" not in many.got and many.got.endswith("; and 2 more)")


def test_arguments_are_checked_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "decode_image", lambda *_, **__: pytest.fail("decoded before the check"))
    assert refused([noise(4, 4, 3)], max_workers=0).argument == "max_workers"
    assert refused([noise(4, 4, 3)], intrinsics=np.zeros((2, 3, 3))).argument == "intrinsics"


def test_transparency_follows_the_option() -> None:
    clear = np.zeros((14, 14, 4), np.uint8)
    white: ModelInputs = preprocess([clear], options=options(14))
    black = preprocess([clear], options=options(14, alpha="drop"))
    assert white.processed_images.min() >= 254 and black.processed_images.max() == 0


def test_torch_is_not_needed() -> None:
    code = "import sys, depth_anything_3.infer.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_masks_go_through_the_same_resize_and_crop() -> None:
    """A view with transparency in its left third, another size, and one without."""
    rgba = np.full((90, 120, 4), 255, np.uint8)
    rgba[:, :40, 3] = 0
    opaque = np.full((90, 70, 3), 255, np.uint8)
    with pytest.warns(UserWarning, match="cropped"):
        inputs = preprocess([rgba, opaque], options=PreprocessOptions(process_res=84, alpha="mask"))
    assert inputs.masks is not None and inputs.masks.shape == inputs.processed_images.shape[:3]
    record = inputs.records[0]
    edge = 40 * record.scale_xy[0] + record.offset_xy[0]
    columns = inputs.masks[0].all(axis=0)
    assert np.abs(np.argmax(columns) - edge) <= 1 and not inputs.masks[0][:, : int(edge) - 1].any()
    assert columns[int(edge) + 1 :].all() and inputs.masks[1].all()
    assert preprocess([rgba], options=PreprocessOptions(process_res=84)).masks is None


def test_mixed_shapes_are_padded_on_request() -> None:
    rng = np.random.default_rng(0)
    wide, high = (rng.integers(0, 256, shape, np.uint8) for shape in ((60, 112, 3), (112, 84, 3)))
    K = np.tile(np.array([[80.0, 0, 50], [0, 80, 40], [0, 0, 1]]), (2, 1, 1))
    padding = PreprocessOptions(process_res=112, mixed_sizes="pad")
    inputs = preprocess([wide, high], intrinsics=K, options=padding)
    assert inputs.processed_images.shape == (2, 112, 112, 3) and inputs.masks is not None
    for i, image in enumerate((wide, high)):
        alone = preprocess([image], intrinsics=K[i : i + 1], options=padding)
        (h, w), before, after = alone.records[0].processed_hw, alone.records[0], inputs.records[i]
        top, left = (112 - h) // 2, (112 - w) // 2
        inside = np.s_[top : top + h, left : left + w]
        np.testing.assert_array_equal(inputs.processed_images[i][inside], alone.processed_images[0])
        assert inputs.masks[i].sum() == h * w and inputs.masks[i][inside].all()
        assert np.abs(inputs.images[i][:, ~inputs.masks[i]]).max() < 0.02, "padding is the mean colour"
        assert after.scale_xy == before.scale_xy and after.processed_hw == (112, 112)
        assert after.offset_xy == (before.offset_xy[0] + left, before.offset_xy[1] + top)
        assert inputs.intrinsics is not None and alone.intrinsics is not None
        np.testing.assert_allclose(inputs.intrinsics[i, :2, 2], alone.intrinsics[0, :2, 2] + (left, top))
    pictures, records = resize_pictures([wide, high], most=56, options=padding)
    assert pictures.shape == (2, 56, 56, 3) and records[0].offset_xy[1] > 0
