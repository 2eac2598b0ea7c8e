"""The parts that need no torch, on every other Python found here.

Each interpreter gets an environment of its own with this package and its dependencies except torch. Run with
``pytest -m network``: the dependencies come from a package registry.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from depth_anything_3.registry import MODEL_REGISTRY

pytestmark = pytest.mark.network

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
TESTERS = ("pytest", "hypothesis", "beartype", "scipy")

PROBE = """
import sys
from pathlib import Path

import depth_anything_3
from depth_anything_3.cfg import load_config
from depth_anything_3.registry import get_all_models
from depth_anything_3.zoo.cards import CARDS

assert Path(depth_anything_3.__file__).is_relative_to(sys.prefix), depth_anything_3.__file__
models = get_all_models()
assert {card.preset for card in CARDS} <= set(models), sorted(models)
for path in models.values():
    assert load_config(path), path
assert (Path(depth_anything_3.__file__).parent / "py.typed").is_file()
print(len(models), "models")
"""


def find_interpreter(version: str) -> Path:
    """A working ``pythonX.Y``: version managers put programs of that name on the PATH that only explain themselves."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder, f"python{version}")
        if not program.exists():
            continue
        ask = [program, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return program
    pytest.skip(f"no python{version} with venv on the PATH")


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed, run away from the checkout so that only installed files count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package as it would be published."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, repository, cwd=folder)
    (built,) = folder.glob("depth_anything_3-*.whl")
    return built


def dependencies_without_torch() -> list[str]:
    """Requirements of the core as the metadata states them."""
    found = [line for line in requires("depth-anything-3") or () if "extra ==" not in line]
    kept = [line for line in found if not re.match(r"torch\b", line)]
    assert len(kept) == len(found) - 1
    return kept


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != THIS])
def test_torch_free_part(version: str, wheel: Path, repository: Path, tmp_path: Path) -> None:
    run(find_interpreter(version), "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_folder = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / "python"
    run(python, "-m", "pip", "install", "-q", *dependencies_without_torch(), *TESTERS, cwd=tmp_path)
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    assert " torch " not in run(python, "-m", "pip", "list", cwd=tmp_path)

    assert run(python, "-c", PROBE, cwd=tmp_path) == f"{len(MODEL_REGISTRY)} models\n"
    assert "auto" in run(bin_folder / "da3", "--help", cwd=tmp_path)
    assert "DA3-BASE" in run(bin_folder / "da3", "models", cwd=tmp_path)

    tests = repository / "tests"
    torch_free = [tests / "io", tests / "parity" / "test_preprocess.py"]
    closing = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *torch_free, cwd=tmp_path).splitlines()[-1]
    assert re.search(r"\d\d passed", closing), closing
