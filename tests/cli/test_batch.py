"""``da3 batch``: many scenes, resumed and reported."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from depth_anything_3.batch.folder import read_report, scene_names
from depth_anything_3.cli import app
from depth_anything_3.errors import InputError

OPTIONS = ["--model-dir", "bundled", "--process-res", "56", "--no-refine", "--export-format", "mini_npz", "--json"]


def call(*arguments: object) -> tuple[int, dict[str, dict[str, object]], str]:
    result = CliRunner().invoke(app, ["batch", *OPTIONS, *map(str, arguments)])
    told = json.loads(result.stdout) if result.exit_code in (0, 1) else {}
    return result.exit_code, told.get("scenes", {}), result.output


@pytest.fixture()
def scenes(tmp_path: Path) -> list[Path]:
    for i, name in enumerate(("kitchen", "hall", "broken")):
        (tmp_path / name).mkdir()
        picture = np.full((48, 64, 3), 60 * i, np.uint8)
        for view in ("a", "b"):
            cv2.imwrite(str(tmp_path / name / f"{view}.png"), picture)
    (tmp_path / "broken" / "a.png").write_bytes(b"torn")
    (tmp_path / "list.txt").write_text("# rooms\nkitchen\nbroken\n")
    return [tmp_path / "list.txt", tmp_path / "hall"]


def test_what_is_done_stays_and_what_failed_is_tried_again(scenes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told, _ = call(*scenes, "--export-dir", out)
    assert code == 1 and [entry["error"] is None for entry in told.values()] == [True, False, True]
    assert list(told) == ["kitchen", "broken", "hall"] and "a.png" in str(told["broken"]["error"])
    assert told["broken"]["attempts"] == 1, "a torn picture is torn the second time too"
    assert (out / "kitchen" / "exports.json").is_file() and not (out / "broken").exists()
    before = (out / "hall" / "exports.json").stat().st_mtime_ns
    cv2.imwrite(str(tmp_path / "broken" / "a.png"), np.zeros((48, 64, 3), np.uint8))
    code, told, _ = call(*scenes, "--export-dir", out)
    assert code == 0 and (out / "broken" / "exports.json").is_file()
    assert (out / "hall" / "exports.json").stat().st_mtime_ns == before
    assert read_report(out).keys() == told.keys() and not (out / ".unfinished").exists()


def test_other_options_do_not_mix(scenes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(scenes[1], "--export-dir", out)[0] == 0
    (out / "hall" / "notes").write_text("mine")
    code, _, text = call(scenes[1], "--export-dir", out, "--process-res", "70")
    assert code == 2 and "a result of other options" in text
    assert call(scenes[1], "--export-dir", out, "--overwrite")[0] == 0
    assert (out / "hall" / "notes").read_text() == "mine"
    (tmp_path / "x" / "hall").mkdir(parents=True)
    assert "which is of" in call(tmp_path / "x" / "hall", "--export-dir", out)[2]
    assert "a folder for all scenes" in call(scenes[1])[2]


def test_names_of_scenes(tmp_path: Path) -> None:
    for path in (tmp_path / "a" / "room", tmp_path / "b" / "Room"):
        path.mkdir(parents=True)
    (tmp_path / "film.mp4").touch()
    paths = [tmp_path / "a" / "room", tmp_path / "b" / "Room", tmp_path / "film.mp4"]
    assert scene_names(paths) == ["room", "Room-2", "film"]
    with pytest.raises(InputError, match="a path twice"):
        scene_names([paths[0], paths[0]])
