"""Optional dependencies: a missing one says how to install it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from depth_anything_3._optional import require
from depth_anything_3.errors import DA3Error, MissingExtraError


def test_what_is_installed_is_returned() -> None:
    assert require("json", extra="app") is json
    assert require("json.decoder", extra="app") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["no_such_module_anywhere", "no_such_module_anywhere.part", "json.no_such_part"])
def test_what_is_missing_names_itself_and_the_command(module: str) -> None:
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra="colmap")
    message = str(caught.value)
    assert message.startswith(f"{module} is needed here")
    assert message.endswith("Install it with: pip install 'depth-anything-3[colmap]'")
    assert issubclass(MissingExtraError, ImportError) and issubclass(MissingExtraError, DA3Error)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_dependency_of_the_dependency_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import its_own_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"half_installed is needed.*its_own_missing_dependency"):
        require("half_installed", extra="gs")


def test_other_failures_of_the_dependency_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_inside.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        require("broken_inside", extra="gs")


def test_every_extra_that_the_code_names_exists(repository: Path) -> None:
    project = (repository / "pyproject.toml").read_text()
    table = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE))
    assert {"app", "gs", "colmap", "dev", "all"} <= extras
    code = "\n".join(file.read_text() for file in (repository / "src").rglob("*.py"))
    named = set(re.findall(r"""require\([^)]*extra=["']([\w-]+)["']""", code))
    named |= set(re.findall(r"depth-anything-3\[([\w-]+)\]", code))
    assert named <= extras, named - extras
