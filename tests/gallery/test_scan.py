"""Which results a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from depth_anything_3.gallery.scan import describe, find_scene, find_scenes, list_files, thumbnail_of


def test_results_of_one_level_and_of_two_are_found(root: Path) -> None:
    assert [scene.id for scene in find_scenes(root)] == ["bench", "group/one", "group/two"]
    assert [scene.id for scene in find_scenes(root / "group" / "one")] == ["."]


def test_what_the_manifest_says_is_known(root: Path) -> None:
    scene = find_scene(root, "bench")
    assert scene is not None
    facts = describe(scene)
    assert facts["model"] == "depth-anything/DA3-BASE"
    assert (facts["views"], facts["width"], facts["unit"], facts["formats"]) == (2, 42, "metre", ["glb", "mini_npz"])
    names = [file.path for file in list_files(scene)]
    assert names == sorted(
        [
            "depth_vis/0000.jpg",
            "depth_vis/0001.jpg",
            "exports.json",
            "exports/mini_npz/results.npz",
            "scene.glb",
            "scene.jpg",
        ]
    )
    assert thumbnail_of(scene) == "scene.jpg"


@pytest.mark.parametrize(
    "files",
    [
        ["scene.glb", "scene.jpg"],
        ["gs_ply/0000.ply"],
        ["scene.npz", "images/000000.png"],
        ["depth_vis/0000.jpg"],
        ["a.splat"],
    ],
)
def test_results_without_a_manifest_are_found(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        path = tmp_path / "root" / "scene" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "root" / "notes").mkdir()
    assert [scene.id for scene in find_scenes(tmp_path / "root")] == ["scene"]


@pytest.mark.parametrize("text", ["", "[1]", '{"model": 3, "inputs": 7, "formats": []}', "[" * 100_000, "\xff"])
def test_a_manifest_of_nonsense_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "exports.json").write_text(text, encoding="latin1")
    (scene,) = find_scenes(tmp_path)
    assert set(describe(scene)) == {"id", "title", "group", "changed"}


def test_links_hidden_names_and_names_that_are_no_text_are_left_out(root: Path, tmp_path: Path) -> None:
    inside = tmp_path / "gallery"
    inside.mkdir()
    (inside / "link").symlink_to(root / "bench")
    (inside / ".hidden").mkdir()
    (inside / ".hidden" / "scene.glb").touch()
    try:
        unreadable = Path(os.fsdecode(os.fsencode(inside) + b"/\xff"))
        unreadable.mkdir()
        (unreadable / "scene.glb").touch()
    except OSError:  # a file system that allows only text
        pass
    assert find_scenes(inside) == []
    for identity in ("link", ".hidden", "..", "../gallery", "/", "", "a/b/c", "\0"):
        assert find_scene(inside, identity) is None
