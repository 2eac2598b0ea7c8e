"""OmniObject3D: levels of folders, background and limits, opaque pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import shots_of
from datasets.check import check
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.omniobject3d import OmniObject3D

pytest.importorskip("OpenEXR")

from datasets.writers.exr import write_exr
from datasets.writers.omniobject3d import write

SHOTS = list(shots_of("omniobject3d").values())
SCENE = "omniobject3d/anise_001"


@pytest.mark.parametrize("place", ["blender_renders/anise/anise_001", "blender_renders/anise_001", "anise_001"])
def test_levels_of_folders(place: str, tmp_path: Path) -> None:
    write(tmp_path / place, SHOTS[:1])
    assert OmniObject3D(tmp_path).scenes() == (SCENE,)


def test_order_of_frames(tmp_path: Path) -> None:
    write(tmp_path / "anise_001", [SHOTS[0]] * 11)
    assert OmniObject3D(tmp_path).frames(SCENE) == tuple(f"r_{i}" for i in range(11))


@pytest.mark.parametrize("background", [65504.0, 1e10, np.inf])
def test_opaque_pictures_get_their_mask_from_depth(background: float, tmp_path: Path) -> None:
    write(tmp_path / "anise_001", SHOTS, opaque=True, background=background)
    dataset = OmniObject3D(tmp_path)
    views = {frame: dataset.load(SCENE, frame) for frame in dataset.frames(SCENE)}
    check(views, shots_of("omniobject3d"))
    for view, shot in zip(views.values(), SHOTS, strict=True):
        np.testing.assert_array_equal(view.mask, shot.hit)


@pytest.mark.parametrize(("clean", "kept"), [(True, 0), (False, 11)])
def test_limits(clean: bool, kept: float, tmp_path: Path) -> None:
    z = SHOTS[0].z.copy()
    row, column = np.argwhere(SHOTS[0].hit)[0]
    z[row, column] = 11
    write(tmp_path / "anise_001", [replace(SHOTS[0], z=z)])
    view = OmniObject3D(tmp_path, clean=clean).load(SCENE, "r_0")
    assert view.depth[row, column] == kept
    assert view.mask[row, column]


def test_depth_of_a_single_channel_and_half_precision(tmp_path: Path) -> None:
    write(tmp_path / "anise_001", SHOTS[:1])
    depth = np.where(SHOTS[0].hit, SHOTS[0].z, 65504).astype(np.float16)
    write_exr(tmp_path / "anise_001" / "render" / "depths" / "r_0_depth.exr", {"V": depth})
    view = OmniObject3D(tmp_path).load(SCENE, "r_0")
    np.testing.assert_array_equal(view.depth[view.mask], depth[SHOTS[0].hit])


def test_frames_that_lack_something(tmp_path: Path) -> None:
    write(tmp_path / "anise_001", SHOTS)
    render = tmp_path / "anise_001" / "render"
    (render / "images" / "r_0.png").unlink()
    content = json.loads((render / "transforms.json").read_text())
    del content["frames"][1]
    (render / "transforms.json").write_text(json.dumps(content))
    dataset = OmniObject3D(tmp_path)
    assert dataset.frames(SCENE) == ("r_2",)
    assert dataset.skipped() == {"image, depth or pose missing": 2}
    np.testing.assert_allclose(dataset.load(SCENE, "r_2").extrinsics, SHOTS[2].w2c[:3], atol=1e-6)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"camera_angle_x": 1, "frames": [{}]}', '{"camera_angle_x": 1, "frames": []}']
)
def test_descriptions_that_do_not_fit(content: str, tmp_path: Path) -> None:
    write(tmp_path / "anise_001", SHOTS)
    (tmp_path / "anise_001" / "render" / "transforms.json").write_text(content)
    with pytest.raises(CorruptSample):
        OmniObject3D(tmp_path).frames(SCENE)
