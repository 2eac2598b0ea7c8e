"""KITTI odometry and TUM RGB-D: folders in their layouts, scored with the oracle as the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.bench.odometry import (
    PathScore,
    odometry_table,
    read_kitti_sequence,
    read_tum_sequence,
    run_sequence,
)
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture, make_oracle_world
from depth_anything_3.types.options import StreamOptions

pytest.importorskip("scipy.sparse")

COUNT = 30
WORLD = make_oracle_world(COUNT, path="line")
MODEL = OracleModel(Oracle(world=WORLD))
OPTIONS = StreamOptions(window=12, overlap=3)


def _picture(path: Path, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame_picture(frame)).save(path)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    folder = root / "sequences" / "04"
    for frame in range(COUNT):
        _picture(folder / "image_2" / f"{frame:06d}.png", frame)
    projection = "700 0 600 42 0 700 180 0 0 0 1 0"
    (folder / "calib.txt").write_text(f"P0: 700 0 600 0 0 700 180 0 0 0 1 0\nP2: {projection}\n")
    (folder / "times.txt").write_text("\n".join(f"{0.1 * i:.6f}" for i in range(COUNT)))
    (root / "poses").mkdir()
    grey = WORLD.extrinsics - np.array([[0, 0, 0, 0.06], [0, 0, 0, 0], [0, 0, 0, 0]])
    rows = [" ".join(map(repr, invert_rigid(pose).ravel().tolist())) for pose in grey]
    (root / "poses" / "04.txt").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def tum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch import from_numpy

    from depth_anything_3.geometry.rotations import quat_xyzw_from_matrix

    root = tmp_path_factory.mktemp("tum") / "rgbd_dataset_freiburg1_rpy"
    listed, truth = ["# color images"], ["# ground truth"]
    for frame in range(COUNT):
        time = 100 + frame / 30
        _picture(root / "rgb" / f"{time:.6f}.png", frame)
        listed.append(f"{time:.6f} rgb/{time:.6f}.png")
        pose = invert_rigid(WORLD.extrinsics[frame])
        turn = quat_xyzw_from_matrix(from_numpy(pose[:, :3].copy())).tolist()
        if frame != 7:
            truth.append(" ".join(f"{x:.9f}" for x in (time + 0.004, *pose[:, 3].tolist(), *turn)))
    (root / "rgb.txt").write_text("\n".join(listed))
    (root / "groundtruth.txt").write_text("\n".join(truth))
    return root


def test_kitti(kitti: Path) -> None:
    sequence = read_kitti_sequence(kitti, "04")
    np.testing.assert_allclose(sequence.extrinsics, WORLD.extrinsics, atol=1e-9)
    assert sequence.times[3] == pytest.approx(0.3)
    score = run_sequence(MODEL, sequence, OPTIONS)
    assert score.ate < 0.02 * WORLD.path_length and score.step_deg < 1
    with pytest.raises(InputError, match="05"):
        read_kitti_sequence(kitti, "05")


def test_tum(tum: Path) -> None:
    sequence = read_tum_sequence(tum)
    assert sequence.name == "rpy" and len(sequence.files) == COUNT - 1
    np.testing.assert_allclose(sequence.extrinsics[10], WORLD.extrinsics[11], atol=1e-6)
    assert run_sequence(MODEL, sequence, OPTIONS).ate < 0.02 * WORLD.path_length
    with pytest.raises(InputError, match=r"rgb\.txt"):
        read_tum_sequence(tum.parent)


def test_the_table_has_published_rows_beside_ours() -> None:
    scores = [PathScore(name=name, ate=1.0, step=0.1, step_deg=0.1, scale=2.0) for name in ("03", "04")]
    table = odometry_table(scores, ours="ours")
    assert "| ours | 1.000 | 1.000 | 1.000 |" in table
    assert "| DA3-Streaming | 3.580 | 2.390 | 2.985 |" in table
    mixed = odometry_table([*scores, PathScore(name="own", ate=1.0, step=0, step_deg=0, scale=1)])
    assert "| DA3-Streaming | 3.580 | 2.390 |  |  |" in mixed
