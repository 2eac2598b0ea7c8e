"""Every command that takes pictures, on two photographs of a motorcycle and with the bundled networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.command_line import invoke

from depth_anything_3.cli import COMMANDS

FOCAL, BASELINE = 994.978, 0.193001  # pixels at 741 x 500, metres
ALONE = ("--device", "cpu", "--process-res", "112")
MODEL = ("--model-dir", "bundled", *ALONE)
METRIC = ("--model-dir", "bundled/da3metric-tiny", *ALONE)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos/``, ``clip.mp4``, ``around.png``, a COLMAP folder and a saved result."""
    data = pytest.importorskip("skimage.data")
    root = tmp_path_factory.mktemp("real")
    photos = [np.ascontiguousarray(image[..., :3]) for image in data.stereo_motorcycle()[:2]]
    (root / "photos").mkdir()
    for name, pixels in zip(("left.png", "right.png"), photos, strict=True):
        Image.fromarray(pixels).save(root / "photos" / name)
    Image.fromarray(cv2.resize(np.concatenate(photos, 1), (400, 200))).save(root / "around.png")
    writer = cv2.VideoWriter(str(root / "clip.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    for step in range(6):  # a window that slides over the left photograph
        writer.write(cv2.cvtColor(cv2.resize(photos[0][:, 20 * step :][:480, :640], (320, 240)), cv2.COLOR_RGB2BGR))
    writer.release()
    known = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 311.193, "cy": 254.877, "w": 741, "h": 500}
    frames = []
    for name, x, cx in (("left.png", 0.0, 311.193), ("right.png", BASELINE, 342.279)):
        pose = [[1, 0, 0, x], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]  # camera-to-world with OpenGL axes
        frames.append({"file_path": f"photos/{name}", "transform_matrix": pose, "cx": cx})
    (root / "transforms.json").write_text(json.dumps({**known, "frames": frames}))
    return root


def _run(*arguments: object) -> list[Path]:
    """The files that a command says it wrote, each of which is there."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    told = json.loads(result.stdout)
    files = [Path(file) for entry in told.get("results", [told]) for file in entry["files"]]
    assert files and all(file.stat().st_size for file in files)
    return files


TAKEN = {
    "auto": ("photos", "--intrinsics", "60deg", *MODEL),
    "image": ("photos/left.png", *METRIC, "--intrinsics", "60deg"),
    "images": ("photos", *MODEL, "--no-refine", "--export-format", "ply-depth_vis"),
    "video": ("clip.mp4", "--fps", "5", "--no-refine", *MODEL, "--export-format", "ply-tum"),
    "depth": ("clip.mp4", "photos", *METRIC, "--intrinsics", "60deg"),
    "panorama": ("around.png", *MODEL, "--export-format", "ply"),
    "stream": ("clip.mp4", "--window", "4", "--overlap", "2", *MODEL, "--export-format", "ply-tum"),
}
"""Command -> what it is given; ``colmap``, ``convert``, ``clean`` and ``batch`` have tests of their own below."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", TAKEN)
def test_a_command(scene: Path, tmp_path: Path, command: str) -> None:
    source, *switches = TAKEN[command]
    sources = [scene / source, *(scene / s for s in switches if s == "photos")]
    switches = [s for s in switches if s != "photos"]
    _run(command, *sources, *switches, "--export-dir", tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_from_photographs_to_colmap_and_back_and_on(scene: Path, tmp_path: Path) -> None:
    given = ("--poses", scene / "transforms.json")
    _run("auto", scene / "photos", *given, *MODEL, "--export-format", "npz-colmap", "--export-dir", tmp_path / "one")
    (tmp_path / "folder" / "sparse").mkdir(parents=True)
    shutil.copytree(scene / "photos", tmp_path / "folder" / "images")
    shutil.copytree(tmp_path / "one", tmp_path / "folder" / "sparse" / "0")
    _run("colmap", tmp_path / "folder", *MODEL, "--export-format", "npz", "--export-dir", tmp_path / "two")
    first, second = (np.load(tmp_path / name / "exports" / "npz" / "results.npz") for name in ("one", "two"))
    np.testing.assert_allclose(first["extrinsics"], second["extrinsics"], atol=1e-5)
    np.testing.assert_allclose(first["extrinsics"][1, :, 3], [-BASELINE, 0, 0], atol=1e-4)
    width = second["depth"].shape[2]
    np.testing.assert_allclose(second["intrinsics"][0, 0, 0], FOCAL * width / 741, rtol=1e-5)
    _run("convert", tmp_path / "one", "--export-format", "glb-mesh-nerfstudio", "--export-dir", tmp_path / "three")
    _run("clean", tmp_path / "one", "--export-dir", tmp_path / "four")


@pytest.mark.filterwarnings("ignore")
def test_many_scenes(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "scenes.txt").write_text(f"{scene / 'photos'}\n{scene / 'clip.mp4'}\n")
    result = invoke("batch", tmp_path / "scenes.txt", *MODEL, "--no-refine", "--export-dir", tmp_path / "out")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert {path.parent.name for path in (tmp_path / "out").glob("*/scene.glb")} == {"photos", "clip"}


def test_no_command_that_takes_pictures_is_left_out() -> None:
    pictures = {entry.name for entry in COMMANDS if entry.panel == "Pictures to files"}
    assert pictures == {*TAKEN, "colmap", "convert", "clean", "batch"}
