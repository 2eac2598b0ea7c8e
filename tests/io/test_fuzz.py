"""Damaged files give our errors. ``tools/fuzz_inputs.py`` does the same, thousands of times, under a watchdog."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzz import Finding, attempt, targets
from typer.testing import CliRunner

from depth_anything_3.cli import app
from depth_anything_3.io import video
from depth_anything_3.io.cameras import damage

SEED, MUTANTS = 7, 300


def findings(folder: Path, count: int) -> tuple[list[Finding], int]:
    """What went wrong, and how many mutants were refused."""
    all_targets = targets(folder)
    results = [attempt(all_targets[number % len(all_targets)], number, SEED) for number in range(count)]
    return [found for found, _ in results if found is not None], sum(refused for _, refused in results)


def test_valid_files_are_read(tmp_path: Path) -> None:
    for target in targets(tmp_path):
        target.read()


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_our_errors(tmp_path: Path) -> None:
    found, refused = findings(tmp_path, MUTANTS)
    assert not found, found
    assert MUTANTS / 3 < refused < MUTANTS, "mutants are neither all broken nor all whole"


def test_planted_bugs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "_DAMAGE", (OSError,))
    monkeypatch.setattr(video, "_warn_of_end", lambda *_: [][0])  # where a file is cut off
    found, _ = findings(tmp_path, MUTANTS)
    kinds = {finding.target for finding in found}
    assert kinds & {"a.mp4", "b.mov", "c.avi", "d.mkv", "e.webm"} and kinds & {"cameras.json", "transforms.json"}


@pytest.mark.parametrize("switch", ["INPUT", "--poses"])
def test_the_command_says_it_in_a_line_and_writes_nothing(switch: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="pictures are decoded when the model is there")
    kinds = {target.name: target.file for target in targets(tmp_path / "in")}
    photos = tmp_path / "in" / "photos"
    file = kinds["cameras.json"] if switch == "--poses" else photos / "img2.png"
    file.write_bytes(file.read_bytes()[:200])
    arguments = ["auto", str(photos), "--poses", str(kinds["cameras.json"]), "--export-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--model-dir", "bundled", "--process-res", "56", "--device", "cpu"])
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("error: --poses: " if switch == "--poses" else "error: image[1]: ")
    assert not (tmp_path / "out").exists()
