"""Every block of the README runs.

``python`` blocks run one after the other in one namespace, ``bash`` blocks line by line; both in a folder where
`photos` holds two small pictures, and with a seeded checkpoint of the smallest preset in the place of the hub id.
``console`` blocks are for a bare machine or start servers; CI runs those of `make` in a fresh environment, and here
targets and options are looked up. The curl line is run by the tests of the server.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.cli import COMMANDS
from depth_anything_3.cli._lazy import load

HUB_ID = "depth-anything/DA3-BASE"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks(repository: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block, in order."""
    found = [(match[1], match[2]) for match in BLOCK.finditer((repository / "README.md").read_text())]
    assert {language for language, _ in found} == {"console", "bash", "python", "text"}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with `photos`, and the checkpoint that stands in for the published one."""
    import torch

    from depth_anything_3 import DepthAnything3
    from depth_anything_3.zoo.seeded import seeded_state_dict

    root = tmp_path_factory.mktemp("readme")
    (root / "photos").mkdir()
    y, x = np.mgrid[:480, :640]
    for i in range(2):
        pixels = np.stack(((x + 16 * i) % 256, y % 256, (x + y) % 256), axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{i}.png")
    model = DepthAnything3("da3-small", device="cpu")
    weights = seeded_state_dict({name: tuple(t.shape) for name, t in model.model.state_dict().items()})
    model.model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    model.save_pretrained(root / "checkpoint")
    return root


def test_python_blocks(blocks: list[tuple[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    code = "\n".join(text for language, text in blocks if language == "python")
    assert code.count(HUB_ID) == 1
    exec(compile(code.replace(HUB_ID, "checkpoint"), "README.md", "exec"), {})
    assert (folder / "scene.npz").is_file()


def test_bash_blocks(blocks: list[tuple[str, str]], folder: Path) -> None:
    commands = [line for language, text in blocks if language == "bash" for line in text.splitlines() if line]
    assert any(HUB_ID in command for command in commands)
    for command in commands:
        program, *arguments = shlex.split(command.replace(HUB_ID, "checkpoint"), comments=True)
        assert program == "da3", f"only the command of this package is run here: {command}"
        typed = [sys.executable, "-c", "from depth_anything_3.cli import main; main()", *arguments]
        result = subprocess.run(typed, cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    for name in ("scene.glb", "depth_vis/0001.jpg", "exports/npz/results.npz"):
        assert (folder / "result" / name).is_file(), f"the README says that there is {name}"


def test_console_blocks_name_real_targets(blocks: list[tuple[str, str]], repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    for language, text in blocks:
        for command in text.splitlines() if language == "console" else ():
            prompt, program, *arguments = command.split()
            assert prompt == "$" and program in ("make", "pip", "da3", "curl"), command
            if program == "da3":
                (found,) = (entry for entry in COMMANDS if entry.name == arguments[0])
                offered = {name for parameter in load(found).params for name in parameter.opts}
                assert offered.issuperset(word for word in arguments if word.startswith("--")), command
            if program == "make":
                assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
        *(f"docs/{name}.md" for name in ("architecture", "cli", "inputs", "migration")),
    ],
)
def test_links_and_named_files_exist(repository: Path, document: str) -> None:
    path = repository / document
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()]
        assert anchor in headings, anchor
    for name in re.findall(r"`((?:tests|tools|examples|docs|\.ci)/[\w./]+)`", text):
        assert (repository / name).exists(), name


def test_every_room_is_described_and_no_other(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text()
    described = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
    package = repository / "src" / "depth_anything_3"
    rooms = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert described == rooms


def test_every_extra_is_described(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    project = (repository / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra in re.findall(r"^(\w+) = ", section, re.MULTILINE):
        assert f"`{extra}`" in readme, extra
