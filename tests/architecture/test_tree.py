"""Rules about the files themselves: no trace of one machine, true metadata, short functions, no junk drawer."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import depth_anything_3

# Letters in brackets, so that this file does not break its own rule.
PATHS_OF_ONE_MACHINE = re.compile("/[r]oot/|/[h]ome/[a-z]|/[U]sers/[a-z]|/[o]pt/|/[w]ork/")
PACKAGE_INDEX = re.compile("--(extra-)?index[-]url|--find[-]links|https?://[^ ]*/[s]imple\\b")
BINARY = {".npz", ".npy", ".png", ".jpg", ".glb", ".safetensors", ".mp4", ".bin", ".ply"}


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[str, str]:
    """Name -> content of the text files under version control."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    result = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    files = [Path(name) for name in result.stdout.split("\0") if name]
    kept = [file for file in files if file.suffix not in BINARY and (repository / file).is_file()]
    return {str(file): (repository / file).read_text(errors="ignore") for file in kept}


def test_no_file_names_a_path_of_one_machine(texts: dict[str, str], repository: Path) -> None:
    wanted = [PATHS_OF_ONE_MACHINE]
    if len(repository.parts) > 2:
        wanted.append(re.compile(re.escape(str(repository)) + r"\b"))
    found = [
        f"{name}: {match[0]}" for name, text in texts.items() for pattern in wanted for match in pattern.finditer(text)
    ]
    assert not found, found


def test_no_file_names_a_package_index(texts: dict[str, str]) -> None:
    found = [name for name, text in texts.items() if PACKAGE_INDEX.search(text)]
    assert not found, found


def test_there_is_no_junk_drawer(repository: Path) -> None:
    ours = [path for path in (repository / "src").rglob("*") if "vendor" not in path.parts]
    names = {path.stem for path in ours if path.suffix in ("", ".py")}
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}


def test_nine_in_ten_functions_are_short(repository: Path) -> None:
    lengths = {}
    for file in (repository / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lengths[f"{file.name}:{node.name}"] = _length(node)
    long = sorted(name for name, length in lengths.items() if length > 35)
    assert len(long) <= len(lengths) / 10, long


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body; a docstring and a long list of parameters explain, they do not complicate."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def test_the_version_is_the_same_everywhere(repository: Path) -> None:
    citation = (repository / "CITATION.cff").read_text()
    assert f"\nversion: {depth_anything_3.__version__}\n" in citation
    assert depth_anything_3.__version__ in (repository / "CHANGELOG.md").read_text()


def test_torch_is_pinned_alike_where_it_is_installed(repository: Path) -> None:
    makefile = re.search(r"^TORCH := (torch==\S+)$", (repository / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert makefile[1] in (repository / "constraints.txt").read_text().splitlines()
