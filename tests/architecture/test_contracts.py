"""The layers of the house hold, and the contract that says so catches who breaks them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the contracts of ``root`` on the package in ``root / "src"``."""
    program = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.run(program, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A copy of the package and its contracts that may be broken."""
    shutil.copytree(
        repository / "src" / "depth_anything_3",
        tmp_path / "src" / "depth_anything_3",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold(repository: Path) -> None:
    result = lint_imports(repository)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("geometry/wrong.py", "from depth_anything_3.api import DepthAnything3", "is not allowed to import"),
        ("types/wrong.py", "import depth_anything_3.geometry.pinhole", "is not allowed to import"),
        ("io/wrong.py", "import depth_anything_3.model.da3", "is not allowed to import"),
        ("errors.py", "import depth_anything_3.registry", "is not allowed to import"),
        ("model/wrong.py", "import matplotlib.pyplot", "is not allowed to import matplotlib"),
        ("infer/wrong.py", "def late():\n    import ray", "is not allowed to import ray"),
        ("newroom/__init__.py", "", "newroom"),
    ],
)
def test_a_violation_is_caught(copy: Path, path: str, line: str, complaint: str) -> None:
    file = copy / "src" / "depth_anything_3" / path
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else "from __future__ import annotations\n"
    file.write_text(f"{before}\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert complaint in result.stdout
