"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from depth_anything_3._files import atomic_path, path_inside


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_file_lies_beside_it_hidden_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "out.tar.npz") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".npz" and temporary.name.startswith(".")
        temporary.touch()


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(kind, match="stopped"), atomic_path(target) as temporary:
        temporary.write_text("ha")
        raise kind("stopped")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interruption_before_anything_was_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "out.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_writes_nothing_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old and longer")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old and longer"
    assert target.read_text() == "new"


def test_parent_folders_are_made(tmp_path: Path) -> None:
    with atomic_path(os.fspath(tmp_path / "a" / "b" / "out.txt")) as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "out.txt").read_text() == "x"


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # the one that ends last
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/../b", "/etc/passwd", "a//b", "folder/", "link", "link/file", "a\\b", "C:x", "a\0", "none"],
)
def test_a_name_from_a_stranger_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert path_inside(tmp_path, name) is None
    assert path_inside(tmp_path, "folder/file") == tmp_path.resolve() / "folder" / "file"
