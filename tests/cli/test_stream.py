"""``da3 stream``: a sequence in, files out; called again, it goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from depth_anything_3.cli import COMMANDS, app
from depth_anything_3.cli._lazy import load
from depth_anything_3.types.options import StreamOptions

pytest.importorskip("scipy.sparse")

# Cameras come at their own pace; files never need to be left out.
ONLY_IN_PYTHON = {"when_full"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    wide = np.random.default_rng(0).integers(0, 256, (15, 40, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    for i in range(9):
        Image.fromarray(wide[:, 8 * i : 8 * i + 80]).save(folder / f"{i}.png")
    return folder


def _stream(source: Path, out: Path, *more: str) -> Result:
    small = ["--model-dir", "bundled", "--process-res", "56", "--window", "5", "--overlap", "2", "--device", "cpu"]
    return CliRunner().invoke(app, ["stream", str(source), "--export-dir", str(out), *small, *more])


def test_a_folder_and_once_more(photos: Path, tmp_path: Path) -> None:
    first = _stream(photos, tmp_path / "out", "--export-format", "tum-ply-published", "--json")
    assert first.exit_code == 0, first.output
    facts = json.loads(first.stdout)
    assert facts["frames"] == 9 and facts["resumed_at"] == 0
    assert all(Path(file).is_file() for file in facts["files"])
    poses = (tmp_path / "out" / "tum.txt").read_text()
    again = _stream(photos, tmp_path / "out", "--export-format", "tum", "--json")
    assert json.loads(again.stdout)["resumed_at"] == 9
    assert (tmp_path / "out" / "tum.txt").read_text() == poses
    other = shutil.copytree(photos, tmp_path / "other")
    for source, more, told in (
        (other, (), f'source "{photos}", not "{other}"'),
        (photos, ("--stride", "2"), "stride 1, not 2"),
        (photos, ("--intrinsics", "60deg"), 'intrinsics null, not "60deg"'),
    ):
        refused = _stream(source, tmp_path / "out", *more)
        assert refused.exit_code == 2
        state = tmp_path / "out" / "state"
        assert refused.stderr.startswith(f"error: --export-dir: got {state}, which was made with {told}")
        assert refused.stderr.rstrip().endswith("or --overwrite, to begin anew")


def test_overwrite_begins_anew_and_replaces_only_what_is_ours(photos: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", ("--limit", "3", "--export-format", "tum", "--json")
    first = json.loads(_stream(photos, out, *few).stdout)
    assert [Path(file).name for file in first["files"]] == ["tum.txt", "exports.json"]
    told = json.loads((out / "exports.json").read_text())
    assert told["formats"] == {"tum": {"files": ["tum.txt"], "frames": 3}} and told["scale"] == "relative"
    assert [entry["name"] for entry in told["inputs"]] == ["0.png", "1.png", "2.png"]
    (out / "state" / "notes.txt").write_text("mine")
    refused = _stream(photos, out, *few, "--stride", "2", "--overwrite", "--model-dir", "bundled/da3metric-tiny")
    assert refused.exit_code == 2 and "cameras" in refused.output
    assert json.loads(_stream(photos, out, *few).stdout)["resumed_at"] == 3, "what cannot be done discards nothing"
    again = json.loads(_stream(photos, out, *few, "--stride", "2", "--overwrite").stdout)
    assert again["resumed_at"] == 0 and again["frames"] == 3
    assert (out / "state" / "notes.txt").read_text() == "mine"
    shutil.rmtree(out / "state")
    (out / "kitti.txt").write_text("mine")
    foreign = _stream(photos, out, "--export-format", "tum-kitti", "--overwrite")
    assert foreign.exit_code == 2 and "kitti.txt is not known to be ours" in foreign.stderr


def test_photos_in_no_order(photos: Path, tmp_path: Path) -> None:
    result = _stream(photos, tmp_path / "out", "--unordered", "--export-format", "kitti")
    assert result.exit_code == 0, result.output
    assert "9 frames" in result.stdout
    assert len((tmp_path / "out" / "kitti.txt").read_text().splitlines()) == 9


def test_what_is_known_of_the_photos_reaches_the_files(photos: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.arange(60)[:, None].repeat(80, 1) >= 30).save(masks / "3.png")
    lines = "".join(f"{100 + 0.5 * i} {i} 0 0 0 0 0 1\n" for i in range(9))
    (tmp_path / "path.txt").write_text(lines)
    known = ["--poses", str(tmp_path / "path.txt"), "--intrinsics", "60deg", "--masks", str(masks)]
    result = _stream(photos, tmp_path / "out", *known, "--export-format", "tum-npz", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["windows_conditioned"] == 0 and not facts["conditioning_given_up"], "all poses were given"
    poses = np.loadtxt(tmp_path / "out" / "tum.txt")
    np.testing.assert_allclose(poses[:, 0], 100 + 0.5 * np.arange(9))
    np.testing.assert_allclose(poses[:, 1], np.arange(9), atol=0.2)
    frames = [np.load(file) for file in sorted(file for file in facts["files"] if file.endswith(".npz"))]
    depth = frames[3]["depth"]
    assert np.isnan(depth[: len(depth) // 2 - 1]).all() and np.isfinite(depth[len(depth) // 2 + 1 :]).any()
    width = 80
    np.testing.assert_allclose(frames[0]["intrinsics"][0, 0] * width / depth.shape[1], 40 / np.tan(np.pi / 6), rtol=0.4)


def test_metres_and_whose_focal_length_made_them(photos: Path, tmp_path: Path) -> None:
    metric = ("--model-dir", "bundled/da3nested-tiny", "--limit", "4", "--export-format", "mini_npz")
    result = _stream(photos, tmp_path / "out", *metric, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["scale"], facts["metric_focal"]) == ("metric", "predicted")
    for _ in range(2):  # the second time, nothing is inferred
        told = _stream(photos, tmp_path / "fov", *metric, "--intrinsics", "60deg").stdout
        assert "metric scale (focal length from the field of view)" in told
        assert json.loads((tmp_path / "fov" / "exports.json").read_text())["metric_focal"] == "fov"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--export-format", "nonsense"], "--export-format"),
        (["--overlap", "4"], "overlap"),
        (["--fps", "2"], "no video"),
        (["--alpha", "mask"], "alpha"),
        (["--masks", "nowhere"], "masks"),
        (["--memory", "0.1"], "--memory"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    photos: Path, tmp_path: Path, more: list[str], complaint: str
) -> None:
    result = _stream(photos, tmp_path / "out", *more)
    assert result.exit_code == 2 and complaint in result.stderr
    assert not (tmp_path / "out" / "tum.txt").exists()


def test_a_folder_with_other_files_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = _stream(photos, tmp_path)
    assert result.exit_code == 2 and "holds files" in result.stderr


def test_every_option_has_its_flag_and_its_default() -> None:
    command = load(next(entry for entry in COMMANDS if entry.name == "stream"))
    flags = {parameter.name: parameter.default for parameter in command.params}
    for field in dataclasses.fields(StreamOptions):
        if field.name not in ONLY_IN_PYTHON:
            assert flags[field.name] == field.default
