"""Hypersim: tilted cameras, tables, tone mapping, previews."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.damage import only
from datasets.writers.hypersim import write
from depth_anything_3.datasets.hypersim import Hypersim, tone_mapped
from depth_anything_3.errors import InputError

pytest.importorskip("h5py")
SHOTS = dict(shots_of("hypersim"))
SCENE = "hypersim/ai_001_001/cam_00"


def test_scenes_with_a_tilted_image_plane_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, SHOTS, skew=3.0)
    assert Hypersim(tmp_path).scenes() == ()
    view = Hypersim(tmp_path, clean=False).load(SCENE, "0002")
    assert view.intrinsics[0, 1] == pytest.approx(3.0)


def test_what_is_not_public_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, SHOTS, hidden=("0002",))
    dataset = Hypersim(tmp_path)
    assert dataset.frames(SCENE) == ("0000", "0005")
    assert dataset.skipped()["cleaning: not public"] == 1
    assert Hypersim(tmp_path, clean=False).frames(SCENE) == tuple(SHOTS)


def test_the_table_of_cameras_is_needed(tmp_path: Path) -> None:
    write(tmp_path, SHOTS)
    (tmp_path / "metadata_camera_parameters.csv").unlink()
    with pytest.raises(InputError, match=r"root: .*metadata_camera_parameters\.csv"):
        Hypersim(tmp_path).scenes()


def test_a_preview_stands_in_for_the_radiance(tmp_path: Path) -> None:
    write(tmp_path, SHOTS)
    only(tmp_path, "frame.0002.color.hdf5").unlink()
    preview = tmp_path / "ai_001_001/images/scene_cam_00_final_preview/frame.0002.tonemap.jpg"
    preview.parent.mkdir()
    cv2.imwrite(str(preview), np.full((*SHOTS["0002"].size, 3), 90, np.uint8))
    assert np.abs(Hypersim(tmp_path).load(SCENE, "0002").image.astype(int) - 90).max() <= 1


def test_tone_mapping() -> None:
    """A tenth of the pixels is brighter than 0.8 behind the gamma, whatever the exposure; those without an object do
    not count; black stays black."""
    radiance = np.repeat(np.linspace(0, 1, 1001, dtype=np.float32)[None, :, None], 3, 2)
    everywhere = np.ones((1, 1001), np.bool_)
    image = tone_mapped(7 * radiance, everywhere)
    assert image[0, 900, 0] == round(0.8 * 255)
    np.testing.assert_array_equal(image, tone_mapped(0.01 * radiance, everywhere))
    half = everywhere.copy()
    half[:, 501:] = False
    assert tone_mapped(radiance, half)[0, 450, 0] == round(0.8 * 255)
    assert not tone_mapped(0 * radiance, everywhere).any()
