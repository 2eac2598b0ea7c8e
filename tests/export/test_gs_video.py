"""The film of a flight through Gaussians, read back with OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from depth_anything_3.errors import CameraFileError, CapabilityError, InputError
from depth_anything_3.export import _flight
from depth_anything_3.export.base import export_all, planned_files, resolve_options
from depth_anything_3.export.gs_video import Options
from depth_anything_3.io.cameras.cameras_json import write_cameras
from depth_anything_3.splat import trajectories
from depth_anything_3.splat.base import render
from depth_anything_3.splat.from_depth import plain_gaussians
from depth_anything_3.types.cameras import Cameras, Lens
from depth_anything_3.types.prediction import Prediction

SIZE = (40, 64)
K = np.array([[60, 0, 32], [0, 60, 20], [0, 0, 1]], np.float32)


def scene(views: int = 3, **changes: Any) -> Prediction:
    """A wall of smooth colours, seen from cameras beside each other."""
    poses = np.repeat(np.eye(3, 4, dtype=np.float32)[None], views, 0)
    poses[:, 0, 3] = -0.1 * np.arange(views)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wall = np.stack((x * 3, y * 5, 200 - x * 2), -1).clip(0, 255).astype(np.uint8)
    fields: dict[str, Any] = {
        "depth": np.full((views, *SIZE), 2.0, np.float32),
        "is_metric": False,
        "extrinsics": poses,
        "intrinsics": np.repeat(K[None], views, 0),
        "processed_images": np.repeat(wall[None], views, 0),
    }
    made = Prediction(**fields)
    return Prediction(**{**fields, "gaussians": plain_gaussians(made), **changes})


def film(prediction: Prediction, folder: Path, **options: Any) -> tuple[Path, np.ndarray, float]:
    """The file, its frames (M, H, W, 3) as RGB, and frames per second."""
    chosen = resolve_options(["gs_video"], {"gs_video": options})
    (path, _) = export_all(prediction, folder, chosen)
    assert [path.relative_to(folder).as_posix(), "exports.json"] == planned_files(len(prediction.depth), chosen)
    opened = cv2.VideoCapture(str(path))
    frames = []
    while (read := opened.read())[0]:
        frames.append(read[1][..., ::-1])
    return path, np.stack(frames), opened.get(cv2.CAP_PROP_FPS)


def test_the_given_views_come_back(tmp_path: Path) -> None:
    prediction = scene()
    path, frames, fps = film(prediction, tmp_path, trj_mode="original", vis_depth=None, fps=10)
    assert path.name == "0000_original.mp4" and frames.shape == (3, *SIZE, 3) and fps == 10
    assert prediction.processed_images is not None
    inside = (slice(None), slice(4, -4), slice(14, -14))
    error = np.abs(frames[inside].astype(float) - prediction.processed_images[0][inside[1:]])
    assert error[0].mean() < 8, "what was predicted for the first view, but for blur and compression"
    assert np.abs(frames[2].astype(float) - frames[0])[inside[1:]].mean() > 4, "the camera has moved"


def test_depth_beside_or_below_the_picture(tmp_path: Path) -> None:
    prediction = scene(depth=np.tile(np.linspace(1, 4, 64, dtype=np.float32), (3, 40, 1)))
    _, beside, _ = film(prediction, tmp_path / "a", trj_mode="original")
    _, below, _ = film(prediction, tmp_path / "b", trj_mode="original", vis_depth="vcat")
    assert beside.shape[1:3] == (40, 2 * 64 + 8) and below.shape[1:3] == (2 * 40 + 8, 64)
    assert (beside[:, :, 66:70] > 200).all(), "a white gap"


def test_the_codec_is_mpeg_4_part_2(tmp_path: Path) -> None:
    path, _, _ = film(scene(), tmp_path, trj_mode="original")
    code = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
    assert code in (b"mp4v", b"FMP4")


def test_one_view_wanders_whatever_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectories, "_WANDER_FRAMES", 10)
    path, frames, _ = film(scene(1), tmp_path, trj_mode="extend", out_image_hw=(20, 32), vis_depth=None)
    assert path.name == "0000_wander.mp4" and frames.shape == (12, 20, 32, 3)


def test_another_size_shows_the_same_without_stretching() -> None:
    lenses = _flight.flight_path(scene(), Options(trj_mode="original", out_image_hw=(100, 128))).lenses
    np.testing.assert_allclose(lenses[0], [[120, 0, 64], [0, 120, 50], [0, 0, 1]])


def test_a_path_of_ones_own(tmp_path: Path) -> None:
    """As matrices and as a file: the same film."""
    prediction = scene()
    poses = np.repeat(np.eye(4)[None], 5, 0)
    poses[:, 2, 3] = np.linspace(0, 0.5, 5)
    lens = np.array([[30.0, 0, 16], [0, 30, 10], [0, 0, 1]])
    given = {"extrinsics": poses.tolist(), "intrinsics": [lens.tolist()] * 5}
    path, frames, _ = film(prediction, tmp_path / "a", out_image_hw=(20, 32), vis_depth=None, **given)
    assert path.name == "0000_given.mp4" and frames.shape == (5, 20, 32, 3)
    cameras = Cameras(
        names=tuple("abcde"), extrinsics=poses[:, :3], intrinsics=np.repeat(lens[None] * [[2], [2], [1]], 5, 0),
        sizes=np.array([[40, 64]] * 5),
    )  # fmt: skip
    file = write_cameras(cameras, tmp_path / "cameras.json")
    path, same, _ = film(
        prediction, tmp_path / "b", out_image_hw=(20, 32), vis_depth=None, cameras=str(file), output_name="mine"
    )
    assert path.name == "mine.mp4"
    np.testing.assert_array_equal(frames, same)
    assert prediction.gaussians is not None
    drawn = render(
        prediction.gaussians, torch.tensor(poses[None, 4:, :3]).float(), torch.tensor(lens[None, None]), (20, 32)
    )
    expected = drawn.colour[0, 0].clamp(0, 1).movedim(0, -1).numpy() * 255
    assert np.abs(frames[4] - expected).mean() < 10, "blur and compression of so small a picture"


def test_depth_colours_hold_for_the_whole_film() -> None:
    """A film has one range of depth: what is as far in two frames has one colour in both."""
    prediction = scene(depth=np.tile(np.linspace(1, 4, 64, dtype=np.float32), (3, 40, 1)))
    low, high = _flight._depth_range(prediction)
    assert 1.0 <= low < 1.1 and 3.9 < high <= 4.0


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown path": ({"trj_mode": "spiral"}, InputError, r"trj_mode.*wobble_inter"),
    "too few views": ({"trj_mode": "wobble_inter"}, InputError, "trajectory.*at least 4"),
    "two paths": ({"extrinsics": [np.eye(4).tolist()], "cameras": "x"}, InputError, "there is one path"),
    "lenses alone": ({"intrinsics": [np.eye(3).tolist()]}, InputError, "without extrinsics"),
    "no poses": ({"extrinsics": [np.eye(3).tolist()]}, InputError, r"extrinsics.*shape \(1, 3, 3\)"),
    "mirrored": ({"extrinsics": [np.diag([-1.0, 1, 1, 1]).tolist()]}, InputError, "in frame 0"),
    "too few lenses": (
        {"extrinsics": [np.eye(4).tolist()] * 2, "intrinsics": [K.tolist()]}, InputError, "1 matrices for 2 poses"
    ),
    "no such file": ({"cameras": "nowhere.json"}, CameraFileError, "nowhere.json"),
    "no film": ({"fps": 0.0}, InputError, "fps"),
    "a folder": ({"output_name": "a/b"}, InputError, "output_name"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    options, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        film(scene(), tmp_path, **options)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_lenses_with_distortion_are_refused(tmp_path: Path) -> None:
    bent = Cameras(
        names=("a",), extrinsics=np.eye(3, 4)[None], intrinsics=K[None].astype(float),
        lenses=(Lens("OPENCV", (0.1, 0, 0, 0)),),
    )  # fmt: skip
    file = write_cameras(bent, tmp_path / "cameras.json")
    with pytest.raises(CameraFileError, match="distortion"):
        film(scene(), tmp_path / "out", cameras=str(file))


def test_no_gaussians_no_film(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="gs_video"):
        film(scene(gaussians=None), tmp_path)
