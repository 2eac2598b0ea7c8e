"""The commands beside ``auto`` that run a model: what each takes, and that it does what the others do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support import camera_files as files
from support.command_line import error, invoke, report
from support.videos import number_of, write_video

from depth_anything_3.io.cameras.given import open_views
from depth_anything_3.io.colmap import read_images

MODEL = ("--model-dir", "bundled", "--device", "cpu", "--process-res", "56", "--no-refine")
ALONE = MODEL[:-1]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write_photos(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def depth_in(folder: Path) -> np.ndarray:
    with np.load(folder / "exports" / "npz" / "results.npz") as stored:
        depth: np.ndarray = stored["depth"]
    return depth


# --- photos -----------------------------------------------------------------------------------------------------------


def test_image_images_and_auto_agree(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png", "b.JPG"])
    for command, source in (("image", photos / "a.png"), ("auto", photos / "a.png"), ("images", photos)):
        report(command, source, *MODEL, "--export-format", "npz", "--export-dir", tmp_path / command)
    np.testing.assert_array_equal(depth_in(tmp_path / "image"), depth_in(tmp_path / "auto"))
    assert len(depth_in(tmp_path / "images")) == 2


def test_images_takes_the_published_extensions_unless_told(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png", "b.JPEG", "c.webp", "d.bmp"])

    def taken(*switches: str) -> list[str]:
        plan = report("images", photos, *MODEL, "--dry-run", *switches)
        return [Path(name).name for name in plan["inputs"]]

    assert taken() == ["a.png", "b.JPEG"]
    assert taken("--image-extensions", "webp,.BMP") == ["c.webp", "d.bmp"]
    assert taken("--image-extensions", "") == ["a.png", "b.JPEG", "c.webp", "d.bmp"]
    line = error("images", photos, "--image-extensions", "gif")
    assert line == "--image-extensions: got .gif; expected extensions of photos that are there (valid: .bmp, .jpeg, " \
        ".png, .webp)"  # fmt: skip


def test_a_command_names_the_one_that_was_meant(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png"])
    assert "'da3 images' takes folders" in error("image", photos)
    assert "'da3 image' takes one photo" in error("images", photos / "a.png")
    expected = (
        "expected a folder with images/ and sparse/ (the model: cameras and images, .bin or .txt, there or in sparse/0)"
    )
    (tmp_path / "e" / "images").mkdir(parents=True)
    (tmp_path / "e" / "sparse" / "0").mkdir(parents=True)
    for command, argument in (("colmap", "COLMAP_DIR"), ("auto", "INPUT")):
        line = error(command, tmp_path / "e")
        assert line.startswith(f"{argument}: got {tmp_path / 'e' / 'sparse'} (no COLMAP model in it); expected cameras")
        assert line.endswith(f"photos alone: {tmp_path / 'e' / 'images'}")
    for there, told in (
        ((), f"(without images/ and sparse/); {expected}; a model elsewhere: da3 images PHOTOS --poses MODEL"),
        (("images",), f"(without sparse/); {expected}; without cameras: da3 images {tmp_path / 'c' / 'images'}"),
        (("sparse",), f"(without images/); {expected}; photos elsewhere: da3 images PHOTOS --poses {tmp_path / 'c'}"),
    ):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        for name in there:
            (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c").mkdir(exist_ok=True)
        assert error("colmap", tmp_path / "c") == f"COLMAP_DIR: got {tmp_path / 'c'} {told}"
    assert error("colmap", tmp_path / "d") == f"COLMAP_DIR: got {tmp_path / 'd'} (no such folder); {expected}"
    assert error("video", photos).startswith(f"INPUT: got {photos}")


def test_colmap_reads_the_model_that_is_named(tmp_path: Path) -> None:
    scene, root = files.scene(), tmp_path / "colmap"
    files.write_photos(root / "images", scene)
    parameters = [70, 72, 41, 29.5]
    for name in ("0", "1"):
        model = root / "sparse" / name
        files.write_colmap(model, scene, model=("PINHOLE", 1), parameters=parameters, binary=name == "0")
        parameters = [2 * value for value in parameters]
    for command in ("colmap", "auto"):
        plan = report(command, root, *MODEL, "--dry-run", "--sparse-subdir", "1")
        assert plan["given"] == ["intrinsics", "poses"] and plan["views"] == 3
    line = error("colmap", root, "--sparse-subdir", "2")
    assert line == f"--sparse-subdir: got '2'; expected a folder in {root / 'sparse'} (valid: 0, 1)"
    report("colmap", root, *MODEL, "--export-format", "npz", "--sparse-subdir", "0", "--export-dir", tmp_path / "out")
    with np.load(tmp_path / "out" / "exports" / "npz" / "results.npz") as stored:
        views = open_views(root, model=root / "sparse" / "0")
        np.testing.assert_allclose(stored["extrinsics"], views.extrinsics, atol=1e-6)


# --- video ------------------------------------------------------------------------------------------------------------


def test_frames_of_a_video(tmp_path: Path) -> None:
    """Ten frames a second for 1.5 seconds, two taken each second: their pictures stay beside the cameras."""
    film, out = write_video(tmp_path / "film.mp4", 15), tmp_path / "out"
    switches = ("--fps", "2", *MODEL, "--export-format", "colmap-tum", "--export-dir", out)
    plan, told = report("video", film, *switches, "--dry-run"), report("video", film, *switches)
    assert plan["views"] == told["views"] == 3 and plan["files"] == told["files"]
    assert plan["processed_size"] == told["processed_size"]
    assert all(Path(name).is_file() for name in told["files"])
    frames = sorted((out / "input_images").iterdir())
    assert [number_of(np.asarray(Image.open(frame))) for frame in frames] == [0, 5, 10]
    assert [image.name for image in read_images(out).values()] == [frame.name for frame in frames]
    times = np.loadtxt(out / "tum.txt")[:, 0]
    np.testing.assert_allclose(times, [0, 0.5, 1.0], atol=1e-3)


@pytest.mark.parametrize(
    ("switches", "numbers"),
    [
        ([], [0, 10]),
        (["--stride", "6"], [0, 6, 12]),
        (["--start", "0.3", "--end", "1", "--fps", "5"], [3, 5, 7, 9]),
    ],
)
def test_which_frames_are_taken(tmp_path: Path, switches: list[str], numbers: list[int]) -> None:
    film, out = write_video(tmp_path / "film.mp4", 15), tmp_path / "out"
    for command in ("video", "auto"):
        told = report(command, film, *switches, *ALONE, "--no-refine", "--export-format", "tum", "--export-dir",
                      out / command)  # fmt: skip
        frames = sorted((out / command / "input_images").iterdir())
        assert [number_of(np.asarray(Image.open(frame))) for frame in frames] == numbers
        assert report(command, film, *switches, *ALONE, "--dry-run")["views"] == told["views"]


def test_options_of_videos_on_photos_and_the_reverse_are_told(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png"])
    assert "--fps: no effect on photos" in invoke("auto", photos, *MODEL, "--dry-run", "--fps", "2").stderr
    film = write_video(tmp_path / "film.mp4", 5)
    assert "no effect on a video" in invoke("auto", film, *MODEL, "--dry-run", "--recursive").stderr


# --- photos that have nothing to do with each other -------------------------------------------------------------------


def test_depth_of_a_photo_does_not_depend_on_its_company(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png", "b.png"])
    write_photos(tmp_path / "more", ["a.png"])
    formats = ("--export-format", "npz", "--export-dir")
    told = report("depth", photos, tmp_path / "more" / "a.png", *ALONE, *formats, tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a", "a-2", "b"]
    assert [Path(result["input"]).name for result in told["results"]] == ["a.png", "b.png", "a.png"]
    report("depth", photos / "b.png", *ALONE, *formats, tmp_path / "one")
    np.testing.assert_array_equal(depth_in(tmp_path / "all" / "b"), depth_in(tmp_path / "one" / "b"))
    np.testing.assert_array_equal(depth_in(tmp_path / "all" / "a"), depth_in(tmp_path / "all" / "a-2"))


def test_one_photo_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.png", "b.png"])
    whole = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(whole[: len(whole) // 2])
    result = invoke("depth", photos, *ALONE, "--export-dir", tmp_path / "out", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [Path(failure["input"]).name for failure in told["failures"]] == ["a.png"]
    assert [Path(done["input"]).name for done in told["results"]] == ["b.png"]
    assert (tmp_path / "out" / "b" / "depth_raw" / "0000.png").is_file()
    with_text = invoke("depth", photos, *ALONE, "--export-dir", tmp_path / "text")
    assert with_text.exit_code == 1 and "1 of 2 photo(s)" in with_text.stdout and "a.png" in with_text.stderr


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_while_files_are_written_leaves_no_half_of_one(tmp_path: Path) -> None:
    """A real interruption, as soon as the first picture of many is there; what comes after them takes its time."""
    folder = tmp_path / "photos"
    write_photos(folder, [f"{i:02d}.png" for i in range(24)])
    out = tmp_path / "out"
    code = "from depth_anything_3.cli import main; main()"
    switches = ("--export-format", "depth_vis-mesh-feat_vis", "--export-feat", "5,11", "--export-dir", str(out))
    typed = [sys.executable, "-c", code, "images", str(folder), *MODEL, *switches]

    def finished() -> list[Path]:
        return [path for path in out.glob("depth_vis/*.jpg") if ".tmp" not in path.name]

    # What is started in the background inherits that interruptions are ignored.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard) as process:
        until = time.monotonic() + 60
        while not finished() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "error: interrupted"
    written = [path for path in out.rglob("*") if path.is_file()]
    assert written and not [path for path in written if ".tmp" in path.name]
    assert not (out / "exports.json").exists(), "nothing says that the result is complete"
    assert all(cv2.imread(str(path)) is not None for path in written if path.suffix == ".jpg")
