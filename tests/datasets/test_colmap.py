"""Scenes with a reconstruction of COLMAP: lenses, copies of another size, several reconstructions, defects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import SIZE, shots_of
from datasets.check import check
from datasets.writers.sfm import write_megadepth, write_tanks
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.megadepth import MegaDepth
from depth_anything_3.datasets.tanks_and_temples import TanksAndTemples
from depth_anything_3.errors import InputError
from depth_anything_3.train.sources import refuse_benchmark_scenes

SHOTS = list(shots_of("tanks_and_temples").values())
SCENE = "tanks_and_temples/Barn"


def test_text_is_read_too(tmp_path: Path) -> None:
    write_tanks(tmp_path / "Barn", SHOTS, binary=False)
    dataset = TanksAndTemples(tmp_path, clean=False)
    check({f: dataset.load(SCENE, f) for f in dataset.frames(SCENE)}, shots_of("tanks_and_temples"), sparse=True)


def test_smaller_copies_have_smaller_cameras(tmp_path: Path) -> None:
    write_tanks(tmp_path / "Barn", SHOTS)
    before = TanksAndTemples(tmp_path).load(SCENE, "000001").intrinsics
    for file in (tmp_path / "Barn/images").iterdir():
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (SIZE[1] // 2, SIZE[0] // 2)))
    dataset = TanksAndTemples(tmp_path, clean=False)
    view = dataset.load(SCENE, "000001")
    np.testing.assert_allclose(view.intrinsics[:2], before[:2] / 2, rtol=1e-5)
    assert view.depth is not None and view.depth.shape == (SIZE[0] // 2, SIZE[1] // 2) and (view.depth > 0).any()


def test_distortion_is_undone(tmp_path: Path) -> None:
    lens = (-0.12, 0.03, 0.0, 0.0)
    write_megadepth(tmp_path / "0007", SHOTS, lens=lens)
    dataset = MegaDepth(tmp_path, clean=False)
    view = dataset.load("megadepth/0007/0", "000001")
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    k = view.intrinsics
    bent = cv2.projectPoints(
        np.stack(((x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones_like(x)), -1).reshape(-1, 3).astype(float),
        np.zeros(3), np.zeros(3), SHOTS[0].k, np.array(lens),
    )[0].reshape(*SIZE, 2) - 0.5  # fmt: skip
    expected = cv2.remap(SHOTS[0].image, bent.astype(np.float32), None, cv2.INTER_LINEAR)
    inside = (slice(6, -6), slice(6, -6))
    assert np.abs(view.image[inside].astype(float) - expected[inside]).mean() < 2


def test_every_reconstruction_is_a_scene(tmp_path: Path) -> None:
    write_megadepth(tmp_path / "5001", SHOTS)
    (tmp_path / "5001/sparse/manhattan/0").rename(tmp_path / "5001/sparse/manhattan/3")
    write_megadepth(tmp_path / "x", SHOTS)
    (tmp_path / "x/sparse/manhattan/0").rename(tmp_path / "5001/sparse/manhattan/0")
    assert MegaDepth(tmp_path).scenes() == ("megadepth/5001/0", "megadepth/5001/3")


def test_defects(tmp_path: Path) -> None:
    write_tanks(tmp_path / "Barn", SHOTS)
    images = tmp_path / "Barn/images"
    (images / "000003.png").unlink()
    cv2.imwrite(str(images / "000002.png"), np.zeros((50, 50, 3), np.uint8))
    dataset = TanksAndTemples(tmp_path)
    assert dataset.frames(SCENE) == ("000001", "000002") and dataset.skipped() == {"no image": 1}
    with pytest.raises(CorruptSample, match="50x50 pixels, its camera 64x48"):
        dataset.load(SCENE, "000002")
    for file in images.iterdir():
        file.unlink()
    with pytest.raises(CorruptSample, match="none of the pictures"):
        TanksAndTemples(tmp_path).frames(SCENE)


def test_scenes_of_the_benchmark_are_not_trained_on() -> None:
    for scene in ("tanks_and_temples/Truck", "megadepth/5000/0", "megadepth/5018/1"):
        with pytest.raises(InputError, match=scene):
            refuse_benchmark_scenes((scene,))
    refuse_benchmark_scenes(("megadepth/5019/0", "megadepth/0015/0"))
