"""Masks, rigs, tiles, panoramas and clips on the command line: what is typed reaches the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from support.command_line import invoke
from support.videos import write_video

from depth_anything_3.export._camera_files import export_cameras
from depth_anything_3.types.cameras import Cameras, Lens

MODEL = ("--model-dir", "bundled", "--device", "cpu", "--process-res", "56")


def run(*arguments: object, code: int = 0) -> str:
    result = invoke(*arguments)
    assert result.exit_code == code, result.stdout + result.stderr
    return result.stdout if code == 0 else result.stderr


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (60, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "exports" / "npz" / "results.npz") as stored:
        return dict(stored)


def test_masks_and_a_rig_of_known_size(tmp_path: Path) -> None:
    for i in range(4):
        photo(tmp_path / "photos" / f"{i}.png", i)
    keep = np.zeros((60, 80), np.uint8)
    keep[:, 40:] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(keep).save(tmp_path / "masks" / "1.png")
    out = tmp_path / "out"
    common = ("auto", tmp_path / "photos", *MODEL, "--export-format", "npz", "--export-dir", out)
    run(*common, "--masks", tmp_path / "masks", "--rig", "2")
    found = arrays(out)
    assert not found["valid"][1, :, :20].any() and found["valid"][1, :, 40:].all() and found["valid"][0].all()
    turned = found["extrinsics"][1::2, :, :3] @ found["extrinsics"][::2, :, :3].swapaxes(1, 2)
    np.testing.assert_allclose(turned[0], turned[1], atol=1e-5)  # of the second camera against the first, at both times
    assert "--masks" in run(*common, "--overwrite", "--masks", tmp_path / "none", code=2)
    assert "--rig" in run(*common, "--overwrite", "--rig", tmp_path / "none.json", code=2)


def test_the_poses_of_a_rig_file_come_back(tmp_path: Path) -> None:
    for i in range(2):
        photo(tmp_path / "photos" / f"{i}.png", i)
    poses = np.tile(np.eye(3, 4), (2, 1, 1))
    poses[1, 0, 3] = -0.5
    matrix = np.array([[70.0, 0, 40], [0, 70, 30], [0, 0, 1]])
    cameras = Cameras(
        extrinsics=poses, intrinsics=np.stack([matrix] * 2), sizes=np.array([[60, 80]] * 2), names=("0.png", "1.png")
    )
    rig = export_cameras(cameras, tmp_path / "rig", ["cameras"])[0]
    run("auto", tmp_path / "photos", *MODEL, "--export-format", "npz", "--export-dir", tmp_path / "out", "--rig", rig)
    found = arrays(tmp_path / "out")["extrinsics"]
    moved = found[1, :, 3] - found[1, :, :3] @ found[0, :, :3].T @ found[0, :, 3]
    np.testing.assert_allclose(np.linalg.norm(moved), 0.5, atol=1e-4)


def test_large_photos_by_tiles_at_their_own_size(tmp_path: Path) -> None:
    source = photo(tmp_path / "large.png", size=(90, 120))
    out = tmp_path / "out"
    told = json.loads(run("depth", source, *MODEL, "--tiled", "--export-format", "npz", "--export-dir", out, "--json"))
    assert not told["failures"] and arrays(out / "large")["depth"].shape == (1, 90, 120)


def test_everything_that_tells_the_scale_tells_whose_focal_length_made_it(tmp_path: Path) -> None:
    image, exif, out = Image.new("RGB", (80, 60)), Image.Exif(), tmp_path / "out"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    image.save(tmp_path / "a.jpg", exif=exif)
    metric = ("--model-dir", "bundled/da3metric-tiny", "--device", "cpu", "--process-res", "56", "--overwrite")
    common = (tmp_path / "a.jpg", *metric, "--export-format", "npz", "--export-dir", out)
    (given := tmp_path / "k.txt").write_text("60 60 40 30\n")
    for typed, focal, words in (
        ("exif", "exif", "metric scale (focal length from the photos' EXIF tags)"),
        ("60deg", "fov", "metric scale (focal length from the field of view)"),
        (given, "given", "metric scale (focal length given)"),
    ):
        assert run("auto", *common, "--intrinsics", typed).splitlines()[0].endswith(words)
        assert json.loads((out / "exports.json").read_text())["metric_focal"] == focal
        told = run("convert", out, "--export-format", "depth_raw", "--export-dir", tmp_path / focal)
        assert told.splitlines()[0].endswith(words)
        assert json.loads((tmp_path / focal / "exports.json").read_text())["metric_focal"] == focal
        told = json.loads(run("depth", *common, "--intrinsics", typed, "--json"))["results"][0]
        assert (told["scale"], told["metric_focal"]) == ("metric", focal)
    hint = "relative scale (metres need a focal length: --intrinsics exif, 60deg or a file)"
    assert run("image", *common).splitlines()[0].endswith(hint)
    assert run("depth", *common).splitlines()[0].endswith(hint)


def test_a_video_becomes_one_steady_clip(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 20)
    out = tmp_path / "out"
    run("depth", clip, *MODEL, "--export-format", "npz", "--export-dir", out)
    found = arrays(out / "clip")
    assert len(found["depth"]) == 20 and "extrinsics" not in found
    np.testing.assert_allclose(found["timestamps"], np.arange(20) / 10, atol=1e-3)
    run("depth", clip, *MODEL, "--fps", "2", "--export-format", "npz", "--export-dir", out, "--overwrite")
    assert len(arrays(out / "clip")["depth"]) == 4


def test_the_lens_of_a_video_makes_its_metres(tmp_path: Path) -> None:
    clip, depth = write_video(tmp_path / "clip.mp4", 20), {}
    for lens in ("40deg", "60deg"):
        out = tmp_path / lens
        told = json.loads(
            run("depth", clip, "--model-dir", "bundled/da3metric-tiny", "--process-res", "56", "--intrinsics", lens,
                "--export-format", "npz", "--export-dir", out, "--json")
        )  # fmt: skip
        assert told["results"][0]["scale"] == "metric" and told["results"][0]["metric_focal"] == "fov"
        depth[lens] = arrays(out / "clip")["depth"]
    ratio = np.tan(np.radians(30)) / np.tan(np.radians(20))  # of the focal lengths, and so of the metres
    np.testing.assert_allclose(np.median(depth["40deg"] / depth["60deg"]), ratio, rtol=1e-3)


def test_panoramas_and_fisheye_pictures(tmp_path: Path) -> None:
    source, out = photo(tmp_path / "around.png", size=(60, 120)), tmp_path / "out"
    told = json.loads(run("panorama", source, *MODEL, "--export-format", "ply", "--export-dir", out, "--json"))
    assert told["size"] == [120, 60] and told["coverage"] > 0.99
    assert all(Path(file).is_file() for file in told["files"]) and len(told["files"]) == 4
    with np.load(out / "panorama.npz") as stored:
        assert stored["distance"].shape == (60, 120) and np.isfinite(stored["distance"]).mean() > 0.9
        np.testing.assert_allclose(np.linalg.norm(stored["rays"], axis=-1), 1, atol=1e-5)
    assert "INPUT" in run("panorama", photo(tmp_path / "b.png"), *MODEL, "--export-dir", tmp_path / "x", code=2)


def test_a_fisheye_picture_takes_its_lens_from_a_file(tmp_path: Path) -> None:
    source = photo(tmp_path / "eye.png", size=(64, 64))
    matrix = np.array([[[25.0, 0, 32], [0, 25, 32], [0, 0, 1]]])
    lens = Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0))
    cameras = Cameras(
        intrinsics=matrix, extrinsics=np.eye(3, 4)[None], sizes=np.array([[64, 64]]), names=("eye.png",), lenses=(lens,)
    )
    known = export_cameras(cameras, tmp_path / "cameras", ["cameras"])[0]
    told = json.loads(
        run("panorama", source, *MODEL, "--intrinsics", known, "--export-format", "ply", "--export-dir",
            tmp_path / "out", "--json")
    )  # fmt: skip
    assert told["size"] == [64, 64] and told["views"] >= 1
    message = run("panorama", source, *MODEL, "--intrinsics", "60deg", "--export-dir", tmp_path / "o", code=2)
    assert "--intrinsics" in message and "pinhole" in message


pytestmark = pytest.mark.filterwarnings("ignore")
