"""The picture of the whole result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.export import preview
from depth_anything_3.export._preview import draw_preview
from depth_anything_3.types.prediction import Prediction


def test_views_depth_and_scene(room: Prediction, tmp_path: Path) -> None:
    (path,) = preview.export(room, tmp_path, preview.Options(height=200))
    # Three views of 24 x 32, 8 pixels apart: 61 x 82 each, twice, and a square beside them.
    assert Image.open(path).size == (2 * 82 + 8 + 8 + 200, 200)
    scene = draw_preview(room, preview.Options(height=200))[:, -200:]
    drawn = (scene != 24).any(-1)
    assert 0.02 < drawn.mean() < 0.9
    assert not drawn[:3].any(), "the scene is in the middle"


def test_green_floor_is_below(make_prediction: Any) -> None:
    """A camera looks at a grey wall and a green floor: seen from behind and above, the green is below."""
    depth = np.full((1, 40, 40), 4.0, np.float32)
    y = np.arange(40) + 0.5 - 20
    depth[0, 30:] = (4 * 10 / y[30:])[:, None]
    images = np.full((1, 40, 40, 3), 128, np.uint8)
    images[0, 30:] = 0, 255, 0
    matrix = np.array([[[40, 0, 20], [0, 40, 20], [0, 0, 1]]], np.float32)
    pose = np.eye(3, 4, dtype=np.float32)[None]
    prediction = Prediction(depth=depth, is_metric=False, intrinsics=matrix, extrinsics=pose, processed_images=images)
    scene = draw_preview(prediction, preview.Options(height=200))[:, -200:].astype(int)
    green = np.argwhere((scene == [0, 255, 0]).all(-1))
    grey = np.argwhere((scene == 128).all(-1))
    assert len(green) > 20 and len(grey) > 20
    assert green[:, 0].mean() > grey[:, 0].mean() + 10


def test_without_cameras_or_points_there_are_only_pictures(make_prediction: Any) -> None:
    plain = draw_preview(make_prediction(extrinsics=None), preview.Options(views=2, height=100))
    assert plain.shape == (100, 2 * 69 + 8, 3)
    nothing = make_prediction(depth=np.zeros((3, 20, 30), np.float32))
    assert draw_preview(nothing, preview.Options(views=2, height=100)).shape == plain.shape
    for wrong in ({"views": 0}, {"height": 10}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            preview.Options(**wrong)
