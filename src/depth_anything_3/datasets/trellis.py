"""TRELLIS-500K: renders of single objects, made with the published scripts.

Xiang et al., "Structured 3D Latents for Scalable and Versatile 3D Generation", 2024. Layout, for each subset of the
assets: ``{subset}/renders/{sha256}/`` with ``transforms.json``, ``000.png`` and, where the script was asked for depth,
``000_depth.png``; ``{subset}/metadata.csv`` tells where the assets come from.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Bool, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    check_size,
    folders,
)
from depth_anything_3.datasets._reading import (
    damage_in,
    read_grey_16,
    read_image_size,
    read_json,
    read_rgba,
    valid_depth,
)
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.stored_poses import central_intrinsics, extrinsics_from_opengl, focal_length

DROPPED_SUFFIXES = frozenset({".stl", ".abc", ".ply"})
"""File types of assets left out: they have no materials."""

_OPAQUE = 128  # alpha from which a pixel belongs to the object
_FULL = 65535
_COLUMNS = ("file_identifier", "local_path")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asset(SceneFiles):
    entries: tuple[dict[str, Any], ...]
    size: tuple[int, int]


class Trellis(FolderDataset[_Asset]):
    """Renders of TRELLIS-500K; scenes are ``trellis/{subset}/{sha256}``, frames ``000``, ``001``, ...

    The object fills a cube of side 1. Pictures are laid over white; ``mask`` is the object. Without depth in the
    renders ``depth`` is None.

    Args:
        root: the folder that holds the subsets, or one of them.
        clean: leave out assets of :data:`DROPPED_SUFFIXES`.
        renders: ``"renders"``, or ``"renders_cond"`` for the pictures from random cameras.

    Warns:
        UserWarning: a subset has no ``metadata.csv``, so that ``clean`` has no effect there.
    """

    name = "trellis"
    metric = False
    real = False
    layout = "folders SUBSET/renders/SHA256 that hold transforms.json"

    def __init__(self, root: str | os.PathLike[str], *, clean: bool = True, renders: str = "renders") -> None:
        self.renders = renders
        super().__init__(root, clean=clean)

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=3):
            if folder.name != self.renders:
                continue
            for name in inner:
                if (folder / name / "transforms.json").is_file():
                    yield f"{folder.parent.name}/{name}", folder / name
            inner.clear()

    @cached_property
    def _suffixes(self) -> dict[str, str]:
        """File type of the asset, by scene id."""
        suffixes: dict[str, str] = {}
        for subset in {place.parent.parent for _, place in self._find()}:
            table = subset / "metadata.csv"
            if table.is_file():
                suffixes |= {f"{subset.name}/{sha}": suffix for sha, suffix in _read_suffixes(table)}
            else:
                warnings.warn(f"clean=True has no effect in {subset}: there is no metadata.csv", stacklevel=5)
        return suffixes

    def _unwanted(self, scene: str) -> str | None:
        suffix = self._suffixes.get(scene)
        return f"cleaning: asset from a file {suffix}" if suffix in DROPPED_SUFFIXES else None

    def _open(self, scene: str, place: Path) -> _Asset:
        file = place / "transforms.json"
        with damage_in(file):
            entries = {PurePosixPath(entry["file_path"]).stem: entry for entry in read_json(file)["frames"]}
        frames = tuple(sorted(name for name in entries if (place / f"{name}.png").is_file()))
        if not frames:
            raise CorruptSample(place, "no picture of transforms.json is there")
        return _Asset(
            place=place,
            frames=frames,
            skipped={"no image": len(entries) - len(frames)},
            entries=tuple(entries[name] for name in frames),
            size=read_image_size(place / f"{frames[0]}.png"),
        )

    def _camera(self, files: _Asset, index: int) -> CameraOfFrame:
        with damage_in(files.place / "transforms.json"):
            angle = float(files.entries[index]["camera_angle_x"])
            world_from_camera = np.array(files.entries[index]["transform_matrix"], np.float64).reshape(4, 4)
        height, width = files.size
        intrinsics = central_intrinsics(focal_length(angle, width), width, height)
        return intrinsics, extrinsics_from_opengl(world_from_camera)

    def _view(
        self,
        files: _Asset,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        image_file, depth_file = files.place / f"{frame}.png", files.place / f"{frame}_depth.png"
        image, alpha = read_rgba(image_file)
        check_size(image_file, image, files.size)
        if alpha is None:
            raise CorruptSample(image_file, "no alpha channel, which is the mask of the object")
        mask = alpha >= _OPAQUE
        depth = (depth_file, _read_depth(depth_file, files, index, mask)) if depth_file.is_file() else None
        return assemble(image, depth, intrinsics=intrinsics, extrinsics=extrinsics, mask=mask)


def _read_depth(file: Path, files: _Asset, index: int, mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """16 bits from the nearest to the farthest point of the cube; the background is at the end of the range."""
    steps = read_grey_16(file)
    check_size(file, steps, mask.shape)
    with damage_in(files.place / "transforms.json"):
        limits = files.entries[index]["depth"]
        near, far = float(limits["min"]), float(limits["max"])
    raw = near + steps * np.float32((far - near) / _FULL)
    return valid_depth(np.where(mask & (steps < _FULL), raw, 0))[0]


def _read_suffixes(table: Path) -> Iterator[tuple[str, str]]:
    """(sha256, file type in lower case) of the assets whose name tells one."""
    with table.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            names = [urlsplit(row.get(column) or "").path for column in _COLUMNS]
            suffix = next((s for s in (PurePosixPath(name).suffix.lower() for name in names) if s), "")
            yield row.get("sha256") or "", suffix


DATASET = Trellis
