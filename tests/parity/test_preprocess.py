"""Preprocessing gives the published pixels, floats and intrinsics."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import PROCESS_METHODS, PreprocessOptions

# One 37x61 image with its twelve results (at 112 and 140 every fifth row and column) and one grey image with the
# pixels shown for it, as the published implementation computes them. Kept here so that a plain clone tests parity.
REFERENCE = Path(__file__).parent / "reference" / "preprocess.npz"
SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN = SHARED / "golden"

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

# The numbers come from OpenCV 5 on x86-64. OpenCV 4 rounds a few values in a hundred thousand to the other neighbour.
EXACT = int(cv2.__version__.split(".")[0]) >= 5 and platform.machine() in {"x86_64", "AMD64"}

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")

Arrays = dict[str, npt.NDArray[Any]]


def load(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def options(resolution: int, method: str = "upper_bound_resize", **rest: Any) -> PreprocessOptions:
    return PreprocessOptions(process_res=resolution, process_res_method=method, **rest)  # type: ignore[arg-type]


def assert_same(actual: npt.NDArray[Any], golden: npt.NDArray[Any], what: str = "") -> None:
    """Equal, value by value; with another OpenCV, all but one in a thousand, and those by a level or two."""
    assert actual.shape == golden.shape and actual.dtype == golden.dtype, what
    if EXACT:
        np.testing.assert_array_equal(actual, golden, err_msg=what)
    difference = np.abs(actual.astype(np.float64) - golden)
    assert difference.max() <= 2 and np.mean(difference > 0) < 1e-3, what


def network_pixels(inputs: ModelInputs) -> npt.NDArray[np.uint8]:
    """The (N, H, W, 3) 8-bit pixels that were normalised, and a check that they were normalised as published."""
    images = inputs.images.transpose(0, 2, 3, 1)
    pixels = np.rint((images.astype(np.float64) * STD + MEAN) * 255).astype(np.uint8)
    np.testing.assert_array_equal(images, (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD)
    return pixels


# --- numbers carried by the project ------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [98, 112, 140])
@pytest.mark.parametrize("method", PROCESS_METHODS)
def test_small_reference(method: str, resolution: int) -> None:
    reference, key = load(REFERENCE), f"{method}_{resolution}"
    inputs = preprocess([reference["image"]], intrinsics=reference["K"][None], options=options(resolution, method))
    pixels = network_pixels(inputs)[0]
    assert pixels.shape == tuple(reference[f"shape_{key}"])
    assert_same(pixels if resolution == 98 else pixels[::5, ::5], reference[f"u8_{key}"])
    assert inputs.intrinsics is not None
    np.testing.assert_allclose(inputs.intrinsics[0], reference[f"K_{key}"], rtol=1e-5, atol=1e-4)


def test_small_reference_of_shrunk_grey_and_shown_pixels() -> None:
    reference = load(REFERENCE)
    inputs = preprocess([reference["grey"]], options=options(84))
    assert_same(inputs.processed_images[0], reference["grey_shown_84"])


# --- the full set beside the repository --------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("size", ["37x61", "84x112", "119x119", "120x200", "140x140"])
def test_golden_sizes_pixels_and_intrinsics(size: str) -> None:
    golden = load(GOLDEN / f"proc__{size}.npz")
    keys = [name.removeprefix("out_u8_") for name in golden if name.startswith("out_u8_")]
    assert len(keys) == 12
    for key in keys:
        method, _, resolution = key.rpartition("_")
        inputs = preprocess(
            [golden["in_image"]], intrinsics=golden["in_K"][None], options=options(int(resolution), method)
        )
        assert_same(network_pixels(inputs)[0], golden[f"out_u8_{key}"], key)
        assert inputs.intrinsics is not None
        np.testing.assert_allclose(inputs.intrinsics[0], golden[f"out_K_{key}"], rtol=1e-5, atol=1e-4, err_msg=key)


@needs_golden
def test_golden_normalised_tensor() -> None:
    golden = load(GOLDEN / "proc__120x200.npz")
    inputs = preprocess([golden["in_image"]], options=options(112))
    assert inputs.images.dtype == np.float32
    assert_same(inputs.images, golden["out_float_upper_bound_resize_112"])


@needs_golden
def test_golden_mixed_sizes() -> None:
    golden = load(GOLDEN / "proc__mixed_upper_bound_resize.npz")
    images = [golden[f"in_im{i}"] for i in range(3)]
    resolution = 112  # 120x200 becomes 70x112; the square is cropped most
    with pytest.warns(UserWarning, match="70x70"):
        inputs = preprocess(
            images, extrinsics=golden["out_ext"], intrinsics=golden["in_K"], options=options(resolution)
        )
    assert_same(inputs.images, golden["out_tensor"])
    assert inputs.extrinsics is not None and inputs.intrinsics is not None
    np.testing.assert_array_equal(inputs.extrinsics, golden["out_ext"])
    np.testing.assert_allclose(inputs.intrinsics, golden["out_K"], rtol=1e-5, atol=1e-4)


API_CASES = [
    ("err_gray", 84, "upper_bound_resize"),
    ("err_gs_small", 84, "upper_bound_resize"),
    ("err_rgba", 84, "upper_bound_resize"),
    ("small_3v_ixt_only", 84, "upper_bound_resize"),
    ("small_3v_lower_bound_resize", 84, "lower_bound_resize"),
    ("small_3v_upper_bound_crop", 84, "upper_bound_crop"),
    ("small_5v_pose_align", 112, "upper_bound_resize"),
    ("small_5v_pose_noalign", 112, "upper_bound_resize"),
    ("small_5v_res112", 112, "upper_bound_resize"),
    ("smallmetric_2v", 112, "upper_bound_resize"),
    ("smallmetric_raypose", 84, "upper_bound_resize"),
    ("strategy_ignored_2v", 84, "upper_bound_resize"),
    ("tuple_ext_list", 84, "upper_bound_resize"),
]


@needs_golden
@pytest.mark.parametrize(("case", "resolution", "method"), API_CASES)
def test_golden_shown_pixels(case: str, resolution: int, method: str) -> None:
    golden = load(GOLDEN / f"api__{case}.npz")
    inputs = preprocess(list(golden["in_images"]), options=options(resolution, method, alpha="drop"))
    assert_same(inputs.processed_images, golden["out_processed_images"])


@needs_golden
def test_golden_shown_pixels_and_intrinsics_of_mixed_sizes() -> None:
    golden = load(GOLDEN / "api__small_3v_mixed_sizes.npz")
    images = [golden[f"in_image{i}"] for i in range(3)]
    with pytest.warns(UserWarning, match="cropped"):
        inputs = preprocess(images, intrinsics=golden["in_intrinsics"], options=options(112))
    assert_same(inputs.processed_images, golden["out_processed_images"])
    assert inputs.intrinsics is not None
    np.testing.assert_allclose(inputs.intrinsics, golden["out_intrinsics"], rtol=1e-5, atol=1e-4)


@needs_golden
def test_golden_shown_pixels_of_files() -> None:
    golden = load(GOLDEN / "api__small_2v_soh140.npz")
    files = [SHARED / "data" / "soh" / name for name in ("000.png", "010.png")]
    inputs = preprocess(files, options=options(140))
    assert inputs.names == ("000.png", "010.png")
    assert_same(inputs.processed_images, golden["out_processed_images"])


@needs_golden
@pytest.mark.parametrize("case", ["small_5v_pose_align", "small_3v_lower_bound_resize", "small_3v_upper_bound_crop"])
def test_golden_intrinsics_of_the_api(case: str) -> None:
    golden = load(GOLDEN / f"api__{case}.npz")
    _, resolution, method = next(entry for entry in API_CASES if entry[0] == case)
    inputs = preprocess(
        list(golden["in_images"]),
        extrinsics=golden["in_extrinsics"],
        intrinsics=golden["in_intrinsics"],
        options=options(resolution, method),
    )
    assert inputs.intrinsics is not None and inputs.extrinsics is not None
    np.testing.assert_allclose(inputs.intrinsics, golden["out_intrinsics"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(inputs.extrinsics, golden["in_extrinsics"])
