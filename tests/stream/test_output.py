"""Files of a sequence, read back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from support.stream_runs import WORLD, open_stream

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.stream.output import write_results
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import frame_picture

COUNT = 30


@pytest.fixture(scope="module")
def stream() -> StreamingReconstructor:
    stream = open_stream(None)
    for frame in range(COUNT):
        stream.push(frame_picture(frame), timestamp=10 + 0.5 * frame, name=f"{frame:03d}.png")
    stream.finalize()
    return stream


def _vertices(path: Path) -> int:
    header = path.read_bytes().split(b"end_header")[0].decode()
    return int(next(line.split()[-1] for line in header.splitlines() if line.startswith("element vertex")))


def test_paths_and_frames(stream: StreamingReconstructor, tmp_path: Path) -> None:
    files = write_results(stream, tmp_path, ["tum", "kitti", "npz", "ply"])
    assert all(file.is_file() for file in files)
    tum, kitti = read_cameras(tmp_path / "tum.txt"), read_cameras(tmp_path / "kitti.txt")
    assert tum.times is not None and tum.extrinsics is not None and kitti.extrinsics is not None
    np.testing.assert_allclose(tum.times, 10 + 0.5 * np.arange(COUNT))
    np.testing.assert_allclose(tum.extrinsics, stream.trajectory(), atol=1e-6)
    np.testing.assert_allclose(kitti.extrinsics, stream.trajectory(), atol=1e-6)
    with np.load(tmp_path / "frames" / "000007.npz") as frame:
        np.testing.assert_array_equal(frame["depth"], stream.depth(7))
        np.testing.assert_allclose(frame["source_intrinsics"], stream.intrinsics()[7])
    assert 100 < _vertices(tmp_path / "points.ply") < COUNT * WORLD.depth[0].size


def test_the_files_of_the_published_tool(stream: StreamingReconstructor, tmp_path: Path) -> None:
    write_results(stream, tmp_path, ["published"])
    poses = np.loadtxt(tmp_path / "camera_poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses[4, :3], invert_rigid(stream.trajectory()[4]), atol=1e-6)
    assert np.loadtxt(tmp_path / "intrinsic.txt").shape == (COUNT, 4)
    with np.load(tmp_path / "results_output" / f"frame_{COUNT - 1}.npz") as frame:
        assert set(frame.files) == {"image", "depth", "conf", "intrinsics"} and np.isfinite(frame["depth"]).all()
    assert _vertices(tmp_path / "pcd" / "combined_pcd.ply") > 100


def test_formats_that_hold_all_views_get_some(stream: StreamingReconstructor, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="5 of the 30 frames"):
        write_results(stream, tmp_path, ["colmap", "nerfstudio"], most_views=5)
    assert (tmp_path / "images.bin").is_file() and (tmp_path / "nerfstudio" / "transforms.json").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_results(stream, tmp_path / "all", ["mini_npz"])
    with pytest.raises(InputError, match="formats"):
        write_results(stream, tmp_path, ["nonsense"])
