"""What is masked out is read by nothing: alignment, refinement, points, surfaces, Gaussians, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.networks import fill_weights, miniature

from depth_anything_3 import DepthAnything3, Prediction
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.refine import matchers
from depth_anything_3.refine.clean import keep_pixels
from depth_anything_3.refine.features import Features, detect_all
from depth_anything_3.refine.points import points
from depth_anything_3.refine.prediction import Pictures, refine_prediction
from depth_anything_3.refine.tsdf import mesh
from depth_anything_3.splat.clean import pixels_to_draw
from depth_anything_3.splat.options import CleanOptions as SplatCleanOptions
from depth_anything_3.stream.alignment import sample_views
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import known_depth, masked_out, usable_pixels

CUT = 40  # columns


@pytest.fixture(scope="module")
def spoilt() -> Prediction:
    """Three views of a wall; their left columns have a depth of nonsense, much confidence, and are masked out."""
    texture = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    texture = cv2.resize(texture, (480, 240), interpolation=cv2.INTER_CUBIC)
    height, width, step, focal, away = 160, 240, 30, 200.0, 4.0
    rgb = np.stack([texture[40 : 40 + height, step * i : step * i + width] for i in range(3)])
    depth = np.full(rgb.shape[:3], away, np.float32)
    depth[:, :, :CUT] = 0.01
    conf = np.ones_like(depth)
    conf[:, :, :CUT] = 50
    poses = np.tile(np.eye(3, 4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = -np.arange(3) * step * away / focal
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    size = (height, width)
    record = ResizeRecord(source_hw=size, processed_hw=size, scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0))
    plain = Prediction(
        depth=depth, is_metric=True, conf=conf, extrinsics=poses, intrinsics=np.stack([K] * 3),
        processed_images=rgb, records=(record,) * 3, names=("a", "b", "c"),
    )  # fmt: skip
    return masked_out(plain, np.broadcast_to(np.arange(width) >= CUT, depth.shape))


def test_pixels(spoilt: Prediction) -> None:
    for keep in (usable_pixels(spoilt), keep_pixels(spoilt, "raw"), pixels_to_draw(spoilt, SplatCleanOptions())):
        assert not keep[:, :, :CUT].any() and keep[:, :, CUT + 2 :].any()
    assert np.isnan(known_depth(spoilt)[:, :, :CUT]).all()
    assert sample_views(spoilt).depth[np.isfinite(sample_views(spoilt).depth)].min() > 0.1


def test_points_and_surfaces(spoilt: Prediction) -> None:
    assert points(spoilt, "clean").pixel[:, 0].min() >= CUT
    surface = mesh(spoilt, "raw")
    centres = -np.einsum("nij,ni->nj", spoilt.extrinsics[:, :, :3], spoilt.extrinsics[:, :, 3])
    assert np.linalg.norm(surface.vertices[:, None] - centres, axis=-1).min() > 0.1


def test_files(spoilt: Prediction, tmp_path: Path) -> None:
    for name in ("depth_raw", "depth_vis", "ply", "npz"):
        exporter = EXPORTERS[name]
        exporter.export(spoilt, tmp_path, exporter.options())
    with Image.open(tmp_path / "depth_raw" / "0000.png") as picture:
        values = np.asarray(picture)
    assert (values[:, :CUT] == 0).all() and (values[:, CUT:] > 100).all()
    with np.load(tmp_path / "exports" / "npz" / "results.npz") as arrays:
        assert not arrays["valid"][:, :, :CUT].any() and arrays["valid"][:, :, CUT:].all()


def test_keypoints_and_depth(spoilt: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Features] = []
    monkeypatch.setattr(matchers, "detect_all", lambda *a, **k: found.extend(detect_all(*a, **k)) or found)
    assert spoilt.processed_images is not None
    pictures = Pictures(pixels=spoilt.processed_images, records=spoilt.records)
    refined = refine_prediction(spoilt, pictures, mode="poses")
    assert len(found) == 3 and all(len(f.xy) > 50 and f.xy[:, 0].min() >= CUT for f in found)
    assert refined.valid is not None and not refined.valid[:, :, :CUT].any()
    assert np.median(refined.depth[:, :, CUT:]) == pytest.approx(4, rel=0.05), "the unit is that of what counts"


def test_from_the_argument_to_the_result(tmp_path: Path) -> None:
    model = DepthAnything3("miniature", config=miniature(), device="cpu")
    fill_weights(model)
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), np.uint8))
    mask = np.ones((60, 80), bool)
    mask[:, :40] = False
    prediction = model.inference(photos, masks=[mask, None], process_res=56, export_dir=tmp_path, export_format="npz")
    assert prediction.valid.shape == prediction.depth.shape == (2, 42, 56)
    assert not prediction.valid[0, :, :28].any() and prediction.valid[0, :, 28:].all() and prediction.valid[1].all()
    plain = model.inference(photos, process_res=56)
    assert plain.valid.all()
    np.testing.assert_array_equal(plain.depth, prediction.depth)
    clear = np.full((60, 80, 4), 255, np.uint8)
    clear[:20, :, 3] = 0
    both = model.inference([clear, photos[1]], masks=[mask, None], alpha="mask", process_res=56)
    np.testing.assert_array_equal(both.valid[0], prediction.valid[0] & (np.arange(42) >= 14)[:, None])
    saved = Prediction.load(prediction.save(tmp_path / "a.npz"))
    np.testing.assert_array_equal(saved.valid, prediction.valid)


def test_sky_is_told_apart_and_never_used(spoilt: Prediction) -> None:
    sky = np.zeros(spoilt.depth.shape, bool)
    sky[:, :30] = True
    with_sky: Any = dataclasses.replace(spoilt, sky=sky)
    assert with_sky.valid[:, :30, CUT:].all() and not usable_pixels(with_sky)[:, :30].any()
    for preset in ("clean", "strict"):
        assert not keep_pixels(with_sky, preset)[:, :30].any()
