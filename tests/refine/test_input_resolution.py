"""Back on the caller's pixels: geometry is the same there, and edges are where the picture has them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres, project, unproject
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.refine.input_resolution import at_input_resolution
from depth_anything_3.types.options import PreprocessOptions
from depth_anything_3.types.prediction import Prediction

POSE = np.array([[[0.96, 0.0, 0.28, 0.3], [0.0, 1.0, 0.0, -0.2], [-0.28, 0.0, 0.96, 0.1]]])
NORMAL, OFFSET = np.array([0.2, -0.1, 1.0]), 4.0  # of a plane in the camera


def on_plane(K: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth of the plane at every pixel centre."""
    rays = np.concatenate([pixel_centres(height, width), np.ones((height, width, 1))], -1) @ np.linalg.inv(K).T
    return OFFSET / (rays @ NORMAL)


def inferred(image: np.ndarray, K: np.ndarray, method: str, depth: np.ndarray | None = None) -> Prediction:
    options = PreprocessOptions(process_res=112, process_res_method=method)  # type: ignore[arg-type]
    inputs = preprocess([image], intrinsics=K[None], options=options)
    assert inputs.intrinsics is not None
    height, width = inputs.processed_images.shape[1:3]
    z = on_plane(inputs.intrinsics[0], height, width) if depth is None else depth
    conf = 1 + np.tile(np.linspace(0, 1, width), (height, 1))
    return Prediction(
        depth=z[None], is_metric=False, extrinsics=POSE, intrinsics=inputs.intrinsics, conf=conf[None],
        processed_images=inputs.processed_images, records=inputs.records,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(97, 131), (101, 640), (360, 641), (60, 80), (900, 1600)])
@pytest.mark.parametrize("method", ["upper_bound_resize", "upper_bound_crop"])
def test_points_of_the_grid_are_where_they_were(size: tuple[int, int], method: str) -> None:
    height, width = size
    K = np.array([[0.9 * width, 0, 0.48 * width], [0, 1.1 * width, 0.53 * height], [0, 0, 1]])
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    small = inferred(image, K, method)
    large = at_input_resolution(small, [image])
    assert large.depth.shape == (1, height, width) and large.records[0].processed_hw == size
    np.testing.assert_array_equal(large.processed_images[0], image)  # type: ignore[index]
    np.testing.assert_allclose(large.intrinsics[0], K, rtol=1e-5)  # type: ignore[index]
    known = np.isfinite(large.depth[0])
    assert known.mean() > (0.99 if method.endswith("resize") else 0.6)
    # Away from the border, where maps go on as constants, the plane is exact.
    inner = np.zeros(size, bool)
    margin = max(size) // 56 + 2
    inner[margin:-margin, margin:-margin] = True
    inner &= np.roll(known, (margin, margin), (0, 1)) & np.roll(known, (-margin, -margin), (0, 1)) & known
    np.testing.assert_allclose(large.depth[0][inner], on_plane(K, *size)[inner], rtol=2e-5)
    # The small grid's points fall on the pixels of the large one that its record says.
    points = unproject(small.depth[0], small.intrinsics[0], small.extrinsics[0])  # type: ignore[index]
    xy, z = project(points, large.intrinsics[0], large.extrinsics[0])  # type: ignore[index]
    record = small.records[0]
    back = xy * record.scale_xy + record.offset_xy
    np.testing.assert_allclose(back, pixel_centres(*small.depth.shape[1:]), atol=1e-2)
    np.testing.assert_allclose(z, small.depth[0], rtol=1e-5)


def test_edges_follow_the_picture_and_have_no_depths_between() -> None:
    height, width = 203, 301
    K = np.array([[300.0, 0, 150], [0, 300, 100], [0, 0, 1]])
    y, x = np.mgrid[:height, :width]
    disk = (x - 150) ** 2 + (y - 100) ** 2 < 60**2
    image = np.where(disk[..., None], np.uint8([200, 60, 40]), np.uint8([30, 90, 160])).astype(np.uint8)
    shape = inferred(image, K, "upper_bound_resize").depth.shape[1:]
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    there = (columns / shape[1] * width - 150.5) ** 2 + (rows / shape[0] * height - 100.5) ** 2 < 60**2
    small = inferred(image, K, "upper_bound_resize", depth=np.where(there, 2.0, 5.0))
    found = at_input_resolution(small, [image]).depth[0]
    np.testing.assert_allclose(np.minimum(np.abs(found - 2), np.abs(found - 5)), 0, atol=1e-4)
    assert np.mean((found < 3) != disk) < 0.002
    nearest = small.depth[0][(y * shape[0]) // height, (x * shape[1]) // width]
    assert np.mean((found < 3) != disk) < 0.3 * np.mean((nearest < 3) != disk)


def test_what_is_not_known_stays_so() -> None:
    image = np.full((90, 120, 3), 90, np.uint8)
    K = np.array([[100.0, 0, 60], [0, 100, 45], [0, 0, 1]])
    depth = np.full(inferred(image, K, "upper_bound_resize").depth.shape[1:], 3.0)
    depth[20:50, 30:70] = np.nan
    found = at_input_resolution(inferred(image, K, "upper_bound_resize", depth=depth), [image]).depth[0]
    assert np.isnan(found[30:45, 45:65]).all() and np.isfinite(found[:15]).all()
    np.testing.assert_allclose(found[np.isfinite(found)], 3, rtol=1e-6)


@pytest.mark.parametrize("size", [(127, 333), (361, 271)])
def test_masks_come_back_in_their_place(size: tuple[int, int]) -> None:
    """Round trip of a mask of blobs: within a network pixel of its edge, neither larger nor smaller."""
    noise = np.random.default_rng(0).normal(size=size).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), max(size) / 30)
    keep = blobs > np.quantile(blobs, 0.4)
    image = np.zeros((*size, 3), np.uint8)
    inputs = preprocess([image], masks=[keep], options=PreprocessOptions(process_res=112))
    prediction = Prediction(
        depth=np.ones(inputs.masks.shape, np.float32),  # type: ignore[union-attr]
        is_metric=False, valid=inputs.masks, processed_images=inputs.processed_images, records=inputs.records,
    )  # fmt: skip
    found = at_input_resolution(prediction, [image]).valid
    assert found is not None and abs(found.mean() - keep.mean()) < 0.01
    reach = 2 * int(np.ceil(max(size) / 112)) + 1
    around = np.ones((reach, reach), np.uint8)
    edge = cv2.dilate(keep.astype(np.uint8), around) != cv2.erode(keep.astype(np.uint8), around)
    assert not ((found[0] != keep) & ~edge).any()
    assert ((found[0] & keep).sum() / (found[0] | keep).sum()) > 0.95


def test_other_pictures_are_refused() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    prediction = inferred(image, np.array([[80.0, 0, 40], [0, 80, 30], [0, 0, 1]]), "upper_bound_resize")
    with pytest.raises(InputError, match="one per view"):
        at_input_resolution(prediction, [image, image])
    with pytest.raises(InputError, match="the size that was inferred"):
        at_input_resolution(prediction, [image[:50]])
