"""Which results a folder holds.

A result is a folder with ``exports.json``, which every export of this package writes last, with a 3D file, with a
folder of one of the exporters, or with the ``scene.npz`` of ``da3 synth``. Results lie directly in the root, or one
level deeper, in a group, which is the published layout ``<group>/<scene>/scene.glb``. Symbolic links and hidden names
are left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_anything_3._files import path_inside
from depth_anything_3.export.base import MANIFEST

KINDS: dict[str, tuple[str, ...]] = {
    "model": (".glb", ".ply", ".splat"),
    "picture": (".jpg", ".jpeg", ".png", ".webp"),
    "video": (".mp4", ".webm"),
    "data": (
        *(".npz", ".npy", ".exr", ".pfm", ".json", ".txt", ".csv", ".bin"),
        *(".obj", ".mtl", ".rrd", ".bmp", ".md", ".spz"),
    ),
}
"""Kind of a file -> its suffixes. Files with other suffixes are neither listed nor served."""

EXPORT_FOLDERS = frozenset(
    {"depth_vis", "depth_raw", "exports", "feat_vis", "gs_ply", "gs_splat", "gs_spz", "gs_video"}
)
_THUMBNAILS = ("preview.jpg", "scene.jpg")
_PICTURE_FOLDERS = ("depth_vis", "images", "input_images")
_DEPTH = 3
_LARGEST_MANIFEST = 16 << 20
_MOST_FILES = 20_000


@dataclass(frozen=True)
class Scene:
    """One result.

    Attributes:
        id: path of its folder relative to the root, with ``/``; ``.`` for the root itself.
        title: name of the folder.
        group: name of the folder around it, "" where that is the root.
        folder: where it is.
        exports: contents of ``exports.json``; empty where there is none.
    """

    id: str
    title: str
    group: str
    folder: Path
    exports: dict[str, Any]

    def url_path(self, name: str) -> str:
        """Path of one of its files relative to the root."""
        return name if self.id == "." else f"{self.id}/{name}"


@dataclass(frozen=True)
class SceneFile:
    """One file of a result: its path relative to the folder, its kind (see :data:`KINDS`), and its size in bytes."""

    path: str
    kind: str
    size: int


def find_scenes(root: Path) -> list[Scene]:
    """All results in a folder, by group and name, as they are on disk now."""
    scenes = [_scene(root, ".", "")] if is_result(root) else []
    for child in _folders(root):
        if is_result(root / child):
            scenes.append(_scene(root, child, ""))
            continue
        scenes += [
            _scene(root, f"{child}/{name}", child) for name in _folders(root / child) if is_result(root / child / name)
        ]
    return sorted(scenes, key=lambda scene: (scene.group, scene.title))


def find_scene(root: Path, identity: str) -> Scene | None:
    """The result called ``identity``, or None; for names from strangers."""
    if identity == ".":
        return _scene(root, ".", "") if is_result(root) else None
    parts = identity.split("/")
    folder = path_inside(root, identity) if len(parts) <= 2 else None
    hidden = any(part.startswith(".") for part in parts)
    if folder is None or hidden or not folder.is_dir() or not is_result(folder):
        return None
    return _scene(root, identity, parts[0] if len(parts) == 2 else "")


def is_result(folder: Path) -> bool:
    """Whether a folder holds a result itself, see the module."""
    if folder.name in EXPORT_FOLDERS:
        return False
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name in EXPORT_FOLDERS:
                return True
        elif entry.name in (MANIFEST, "scene.npz") or kind_of(entry.name) == "model":
            return True
    return False


def kind_of(name: str) -> str | None:
    """The kind of a file by its suffix, or None for those that are not shown."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - called for every file
    return next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), None)


def list_files(scene: Scene) -> list[SceneFile]:
    """The files of a result that may be shown, sorted by path; at most 20,000."""
    found: list[SceneFile] = []
    for name, entry in _walk(scene.folder, "", _DEPTH):
        kind = kind_of(name)
        if kind is not None:
            found.append(SceneFile(name, kind, entry.stat(follow_symlinks=False).st_size))
        if len(found) >= _MOST_FILES:
            break
    return sorted(found, key=lambda file: file.path)


def thumbnail_of(scene: Scene) -> str | None:
    """The picture that stands for a result, relative to its folder: its preview, or the first of its pictures."""
    for name in _THUMBNAILS:
        if path_inside(scene.folder, name) is not None:
            return name
    for folder in _PICTURE_FOLDERS:
        names = sorted(entry.name for entry in _entries(scene.folder / folder) if kind_of(entry.name) == "picture")
        if names:
            return f"{folder}/{names[0]}"
    return None


def describe(scene: Scene) -> dict[str, Any]:
    """What is known of a result, as plain data: ``id``, ``title``, ``group``, ``changed`` (epoch seconds), and where
    ``exports.json`` says so ``model``, ``licence``, ``views``, ``width``, ``height``, ``formats``, ``scale``,
    ``unit`` and ``refined``."""
    exports = scene.exports
    model, size = _mapping(exports.get("model")), _mapping(exports.get("processed_size"))
    known = {
        "model": _model(model),
        "licence": model.get("licence"),
        "views": len(exports["inputs"]) if isinstance(exports.get("inputs"), list) else None,
        "width": size.get("width"),
        "height": size.get("height"),
        "formats": sorted(_mapping(exports.get("formats"))) or None,
        "scale": exports.get("scale"),
        "unit": exports.get("unit"),
        "refined": exports["refinement"] is not None if "refinement" in exports else None,
    }
    facts = {"id": scene.id, "title": scene.title, "group": scene.group, "changed": _changed(scene)}
    return {**facts, **{key: value for key, value in known.items() if value is not None}}


def _model(model: dict[str, Any]) -> str | None:
    """The hub id, or the name of a folder or file without the path to it."""
    source = model.get("source")
    if isinstance(source, str) and source:
        return re.split(r"[/\\]", source)[-1] if Path(source).is_absolute() else source
    name = model.get("model_name")
    return name if isinstance(name, str) else None


def _changed(scene: Scene) -> float:
    manifest = scene.folder / MANIFEST
    return (manifest if manifest.is_file() else scene.folder).stat().st_mtime


def _scene(root: Path, identity: str, group: str) -> Scene:
    folder = root if identity == "." else root.joinpath(*identity.split("/"))
    return Scene(identity, folder.resolve().name, group, folder, _exports(folder))


def _exports(folder: Path) -> dict[str, Any]:
    path = path_inside(folder, MANIFEST)
    try:
        if path is None or path.stat().st_size > _LARGEST_MANIFEST:
            return {}
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):  # half written, or of another program
        return {}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder: no links, no hidden names, no names that text cannot hold; nothing where it is missing."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _is_plain(entry.name) and not entry.is_symlink()]
    except OSError:
        return []


def _is_plain(name: str) -> bool:
    return not name.startswith(".") and "\\" not in name and ":" not in name and name.isprintable()


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir(follow_symlinks=False))


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    for entry in _entries(folder):
        if entry.is_file(follow_symlinks=False):
            yield f"{prefix}{entry.name}", entry
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth - 1)
