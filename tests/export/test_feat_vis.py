"""Features as colours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.export import feat_vis
from depth_anything_3.export._feature_pictures import feature_colours


@pytest.fixture
def features() -> np.ndarray:
    """Two views of 4 x 6 patches whose left and right halves differ along one direction of 16 channels."""
    rng = np.random.default_rng(0)
    values = 0.01 * rng.normal(size=(2, 4, 6, 16))
    values[:, :, 3:] += np.linspace(1, 2, 16)
    values[:, :2] += 0.3 * np.cos(np.arange(16))
    return values.astype(np.float32)


def test_halves_that_differ_have_other_colours(features: np.ndarray) -> None:
    colours = feature_colours(features)
    assert colours.shape == (2, 4, 6, 3)
    assert (colours[:, :, :3, 0] < 60).all() and (colours[:, :, 3:, 0] > 195).all()
    broken = features.copy()
    broken[0, 0, 0] = np.nan
    assert feature_colours(broken).shape == colours.shape
    assert feature_colours(features[..., :2])[..., 2].max() == 0


def test_pictures_and_film(make_prediction: Any, features: np.ndarray, tmp_path: Path) -> None:
    prediction = make_prediction(2, aux={"feat_layer_11": features, "feat_layer_2": features})
    options = feat_vis.Options(layers=(2, 11), fps=5)
    paths = feat_vis.export(prediction, tmp_path, options)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == feat_vis.planned_files(2, options)
    picture = np.asarray(Image.open(paths[0])).astype(int)
    assert picture.shape == (20, 60, 3)
    film = cv2.VideoCapture(str(paths[2]))
    assert film.get(cv2.CAP_PROP_FPS) == 5 and film.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    read, frame = film.read()
    assert read and frame.shape == (20, 60, 3)
    assert np.abs(frame[:, :, ::-1].astype(int)[:, 32:58] - picture[:, 32:58]).mean() < 40
    time.sleep(1.1)  # a clock in the file would show
    again = feat_vis.export(prediction, tmp_path / "again", feat_vis.Options(fps=5))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert (
        feat_vis.export(prediction, tmp_path / "still", feat_vis.Options(layers=(2,), video=False))[-1].suffix == ".jpg"
    )


def test_layers_that_are_not_there(make_prediction: Any, features: np.ndarray, tmp_path: Path) -> None:
    prediction = make_prediction(2, aux={"feat_layer_2": features})
    with pytest.raises(InputError, match=r"^layers: got \[5\].*\(valid: 2\)"):
        feat_vis.export(prediction, tmp_path, feat_vis.Options(layers=(5,)))
    with pytest.raises(InputError, match="fps"):
        feat_vis.Options(fps=0)
