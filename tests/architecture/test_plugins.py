"""A package of somebody else, built and installed apart, adds a model, a format and a data set without an edit here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "da3-elsewhere"
version = "1.2.3"

[project.entry-points."depth_anything_3.model"]
da3-elsewhere = "da3_elsewhere:PRESET"

[project.entry-points."depth_anything_3.exporter"]
median_txt = "da3_elsewhere.median_txt:EXPORTER"

[project.entry-points."depth_anything_3.dataset"]
two_walls = "da3_elsewhere.two_walls:TwoWalls"
"""

PACKAGE = """
from pathlib import Path

PRESET = Path(__file__).parent / "elsewhere.yaml"
"""

EXPORTER = """
from dataclasses import dataclass

from depth_anything_3.export.base import Exporter


@dataclass(frozen=True, kw_only=True)
class Options:
    digits: int = 2


def planned_files(count, options):
    return ["median.txt"]


def export(prediction, folder, options):
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "median.txt").write_text(f"{np.median(prediction.depth):.{options.digits}f}")
    return [folder / "median.txt"]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files)
"""

DATASET = """
from depth_anything_3.datasets.procedural import ProceduralWorld


class TwoWalls(ProceduralWorld):
    name = "two_walls"
"""

USE = """
import json, sys
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from depth_anything_3 import DepthAnything3
from depth_anything_3.cli import app
from depth_anything_3.datasets.base import DATASETS


def run(*typed):
    result = CliRunner().invoke(app, list(typed), env={"COLUMNS": "200", "HF_HOME": "home"})
    assert result.exit_code == 0, result.output
    return result.stdout


assert "median_txt  digits" in run("auto", "--help") and "da3-elsewhere" in run("models")
plugins = json.loads(run("doctor", "--no-check", "--json"))["plugins"]
assert plugins == {
    "exporter": {"median_txt": "da3-elsewhere 1.2.3"},
    "dataset": {"two_walls": "da3-elsewhere 1.2.3"},
    "model": {"da3-elsewhere": "da3-elsewhere 1.2.3"},
}, plugins

model = DepthAnything3("da3-elsewhere", device="cpu")
assert model.model_name == "da3-elsewhere"
model.save_pretrained("weights")
Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save("photo.png")
switches = ("--process-res", "28", "--export-format", "median_txt-npz", "--export-kwargs", "median_txt:digits:4")
told = json.loads(run("image", "photo.png", "--model-dir", "weights", *switches, "--export-dir", "out", "--json"))
assert told["model_name"] == "da3-elsewhere", told["model_name"]
median = Path("out/median.txt").read_text()
with np.load("out/exports/npz/results.npz") as stored:
    assert median == f"{np.median(stored['depth']):.4f}", median
assert json.loads(Path("out/exports.json").read_text())["formats"]["median_txt"]["options"] == {"digits": 4}

assert "two_walls" in DATASETS.names() and len(DATASETS["two_walls"](count=1).scenes()) == 1
print("used")
"""


def test_a_package_built_elsewhere(repository: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds packages, is not installed")
    source, site, work = tmp_path / "source", tmp_path / "site", tmp_path / "work"
    package = source / "da3_elsewhere"
    package.mkdir(parents=True)
    work.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "median_txt.py").write_text(EXPORTER)
    (package / "two_walls.py").write_text(DATASET)
    tiny = (repository / "src" / "depth_anything_3" / "configs" / "da3-tiny.yaml").read_text()
    (package / "elsewhere.yaml").write_text(tiny)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    path = os.pathsep.join((str(site), *sys.path))
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=work, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "used\n"
