"""What `make demo` measures is right: the truth scores perfectly, and known errors come out as such."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def demo(repository: Path) -> ModuleType:
    """examples/demo/run.py, which is a script."""
    pytest.importorskip("skimage", reason="the photographs come with scikit-image: pip install '.[demo]'")
    spec = importlib.util.spec_from_file_location("demo_run", repository / "examples" / "demo" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def true_extrinsics(demo: ModuleType, *, turn: float = 0.0) -> np.ndarray:
    """The pair in an arbitrary world frame; the right camera is turned by ``turn`` degrees about its y axis."""
    c, s = np.cos(0.3), np.sin(0.3)
    world = np.array([[c, -s, 0, 1.0], [s, c, 0, -2.0], [0, 0, 1, 0.5]])
    right = world.copy()
    right[:, 3] += [-demo.BASELINE, 0, 0]
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    right = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ right
    return np.stack([world, right])


def test_the_truth_is_the_published_one(demo: ModuleType, tmp_path: Path, shared: Path) -> None:
    from PIL import Image

    truth = demo.write_photographs(tmp_path)
    folder = shared / "data" / "middlebury_motorcycle"
    stored = np.asarray(Image.open(folder / "depth" / "left.png")) / 1000.0
    both = np.isfinite(truth) & (stored > 0)
    assert both.mean() > 0.9
    assert np.abs(truth[both] - stored[both]).max() < 0.001
    scene = np.load(folder / "scene.npz")
    assert scene["K"][0, 0, 0] == demo.FOCAL
    assert scene["K"][1, 0, 2] - scene["K"][0, 0, 2] == pytest.approx(demo.DISPARITY_OFFSET)
    assert scene["c2w"][1, 0, 3] == demo.BASELINE
    for side in ("left", "right"):
        ours, theirs = (np.asarray(Image.open(root / f"{side}.png")) for root in (tmp_path, folder / "images"))
        assert np.array_equal(ours, theirs)


def test_truth_scores_perfectly(demo: ModuleType, tmp_path: Path) -> None:
    extrinsics = true_extrinsics(demo)
    assert demo.rotation_error(extrinsics) == pytest.approx(0, abs=1e-6)
    assert demo.baseline_error(extrinsics) == pytest.approx(0, abs=1e-6)
    truth = demo.write_photographs(tmp_path)
    assert demo.share_of_good_depth(np.nan_to_num(truth, nan=1.0) * 7, truth) == 1.0


def test_known_errors_are_measured(demo: ModuleType, tmp_path: Path) -> None:
    assert demo.rotation_error(true_extrinsics(demo, turn=10)) == pytest.approx(10)
    assert demo.baseline_error(true_extrinsics(demo)[::-1]) == pytest.approx(180)
    truth = demo.write_photographs(tmp_path)
    wrong = np.nan_to_num(truth, nan=1.0)
    wrong[truth > np.nanquantile(truth, 0.75)] *= 2  # beyond the median, so that the scale stays 1
    assert demo.share_of_good_depth(wrong, truth) == pytest.approx(0.75, abs=0.001)
