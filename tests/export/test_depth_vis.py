"""Coloured depth, and the JPEG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.export import depth_vis
from depth_anything_3.export._colormap import UNKNOWN, colour_depth, spectral
from depth_anything_3.types.prediction import Prediction

NEAR, FAR = [158, 1, 66], [94, 79, 162]


def test_spectral_in_numbers() -> None:
    table = spectral()
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert table[[0, 1, 17, 64, 100, 128, 200, 255]].tolist() == [
        [158, 1, 66],
        [160, 3, 66],
        [194, 41, 74],
        [248, 142, 82],
        [253, 220, 135],
        [254, 254, 190],
        [112, 198, 164],
        [94, 79, 162],
    ]
    assert table.astype(int).sum(axis=0).tolist() == [48395, 42249, 34596]


def test_spectral_equals_matplotlib() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    published = matplotlib.colormaps["Spectral"](np.arange(256))[:, :3]
    np.testing.assert_array_equal(spectral(), (published * 255).astype(np.uint8))


def test_stretch_of_inverse_depth() -> None:
    """101 inverse depths 1.00, 1.01, ... 2.00: the 2nd and 98th percentiles are 1.02 and 1.98."""
    inverse = np.linspace(1, 2, 101)
    colours = colour_depth((1 / inverse).astype(np.float32)[None])[0]
    assert colours[:3].tolist() == [FAR] * 3
    assert colours[98:].tolist() == [NEAR] * 3
    position = 1 - (1.3 - 1.02) / (1.98 - 1.02)
    assert colours[30].tolist() == spectral()[int(position * 256)].tolist()


@pytest.mark.filterwarnings("error")
def test_unknown_depth_has_a_colour_that_no_depth_has() -> None:
    assert np.abs(spectral().astype(int) - UNKNOWN).max(-1).min() > 30
    depth = np.linspace(1, 2, 40, dtype=np.float32).reshape(4, 10)
    reference = colour_depth(depth)
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, -3.0):
        holed = np.concatenate([depth, np.full((1, 10), value, np.float32)])
        colours = colour_depth(holed)
        assert (colours[4] == (FAR if value == np.inf else UNKNOWN)).all(), value
        np.testing.assert_array_equal(colours[:4], reference)


def test_what_is_masked_out_is_grey_in_the_files_and_the_bar_says_so(tmp_path: Path) -> None:
    depth = np.tile(np.linspace(1, 4, 60, dtype=np.float32)[:, None], (2, 1, 40))
    valid = np.ones(depth.shape, bool)
    valid[1, 20:40, 10:30] = False
    pictures = np.zeros((*depth.shape, 3), np.uint8)
    prediction = Prediction(depth=depth, is_metric=True, processed_images=pictures, valid=valid)
    paths = depth_vis.export(prediction, tmp_path, depth_vis.Options(colour_bar=True))
    first, second = (np.asarray(Image.open(path)).astype(int) for path in paths)
    assert np.abs(second[25:35, 55:65] - UNKNOWN).max() < 8 and np.abs(first[25:35, 55:65] - UNKNOWN).max(-1).min() > 30
    for shown in (first, second):  # one legend for all pictures of a result
        assert np.abs(shown[-8:-4, 84:92] - UNKNOWN).max() < 8 and (shown[-12:, 100:] < 100).any()


@pytest.mark.filterwarnings("error")
def test_degenerate_depth_maps() -> None:
    assert (colour_depth(np.full((5, 5), np.nan, np.float32)) == UNKNOWN).all()
    few = np.full((5, 5), np.nan, np.float32)
    few[0] = 2
    assert (colour_depth(few)[0] == NEAR).all() and (colour_depth(few)[1:] == UNKNOWN).all()
    for constant in (1e-3, 1.0, 1e-40, 3e38):
        colours = colour_depth(np.full((5, 5), constant, np.float32))
        assert (colours == colours[0, 0]).all() and colours[0, 0].tolist() in spectral()[127:129].tolist(), constant


def test_files_hold_image_and_depth_side_by_side(tmp_path: Path, make_prediction: Any) -> None:
    smooth = np.broadcast_to(np.linspace(1, 2, 30, dtype=np.float32), (3, 20, 30))
    images = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[:, None], (3, 20, 30, 3))
    paths = depth_vis.export(make_prediction(depth=smooth, processed_images=images), tmp_path, depth_vis.Options())
    assert [path.name for path in paths] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    with Image.open(paths[0]) as file:
        assert (file.format, file.mode, file.size) == ("JPEG", "RGB", (60, 20))
        pixels = np.asarray(file).astype(int)
    assert abs(pixels[:, :28] - images[0][:, :28]).max() <= 3
    assert abs(pixels[:, 32:] - colour_depth(smooth[0])[:, 2:]).max() <= 30
    assert pixels[:, 34:38, 0].min() > 120 and pixels[:, -4:, 2].min() > 130


def test_failing_half_way_leaves_whole_files_only(
    tmp_path: Path,
    make_prediction: Any,
    monkeypatch: pytest.MonkeyPatch,
    contents: Callable[[Path], dict[str, bytes]],
) -> None:
    depth_vis.export(make_prediction(), tmp_path / "whole", depth_vis.Options())
    save = Image.Image.save
    calls = []

    def failing(self: Image.Image, path: Path, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError("no space left")
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(OSError, match="no space"):
        depth_vis.export(make_prediction(), tmp_path / "broken", depth_vis.Options())
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "broken") == {"depth_vis/0000.jpg": whole["depth_vis/0000.jpg"]}


def test_one_range_and_a_bar_for_a_clip(tmp_path: Path) -> None:
    """The same depth has the same colour in every frame, and the bar says which."""
    depth = np.stack([np.full((60, 40), 1.0), np.full((60, 40), 2.0), np.full((60, 40), 1.0)]).astype(np.float32)
    depth[:, :5], depth[0, 5:10] = 4.0, 2.0
    pictures = np.zeros((3, 60, 40, 3), np.uint8)
    prediction = Prediction(depth=depth, is_metric=True, processed_images=pictures)
    paths = depth_vis.export(prediction, tmp_path, depth_vis.Options(shared_range=True, colour_bar=True))
    shown = [np.asarray(Image.open(path)).astype(int) for path in paths]
    assert {s.shape for s in shown} == {(60, 40 + 40 + 64, 3)}
    assert np.abs(shown[0][8, 60] - shown[1][30, 60]).max() < 16, "two metres"
    assert np.abs(shown[0][30, 60] - shown[2][30, 60]).max() < 4
    bar = shown[0][:, 84]
    assert np.abs(bar[2] - NEAR).max() < 30 and np.abs(bar[-3] - FAR).max() < 30
    assert (shown[0][:, 100:] < 100).any(), "numbers"
