"""CO3D, version 2: videos around single things, with cameras and depth from structure from motion.

Reizenstein et al., "Common Objects in 3D", 2021. Layout: ``{category}/`` with ``frame_annotations.jgz``,
``sequence_annotations.jgz`` and, for each sequence, ``{sequence}/{images,depths,depth_masks}/``; annotations hold paths
and cameras.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    check_size,
    folders,
)
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_image, read_mask, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View

QUALITY = 0.5
"""Sequences whose cameras are scored lower (``viewpoint_quality_score``) count as corrupt."""

_FORMAT = "ndc_isotropic"
_FRAMES, _SEQUENCES = "frame_annotations.jgz", "sequence_annotations.jgz"

Annotation = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sequence(SceneFiles):
    annotations: tuple[Annotation, ...]
    root: Path


class Co3d(FolderDataset[_Sequence]):
    """CO3D, version 2; scenes are sequences (``co3d/apple/110_13051_23361``), frames ``frame000001``, ...

    Each scene has a unit of its own. What is around the thing is in the depth as well, but noisy.

    Args:
        root: the folder of categories, or one of them.
        clean: sequences with cameras of a low quality count as corrupt.
    """

    name = "co3d"
    metric = False
    real = True
    layout = f"folders CATEGORY that hold {_FRAMES} and folders SEQUENCE/images/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=3):
            if _FRAMES in files:
                found = [name for name in inner if (folder / name / "images").is_dir()]
                inner.clear()
                yield from ((f"{folder.name}/{name}", folder / name) for name in found)

    def _open(self, scene: str, place: Path) -> _Sequence:
        if self.clean:
            _check_quality(place)
        stored = _by_sequence(place.parent / _FRAMES).get(place.name, ())
        root = place.parent.parent
        kept = {}
        for entry in stored:
            with damage_in(place.parent / _FRAMES):
                file, depth = root / entry["image"]["path"], (entry.get("depth") or {}).get("path")
            if file.is_file() and depth and (root / depth).is_file():
                kept[file.stem] = entry
        if not kept:
            raise CorruptSample(place, "no annotated picture has its file and depth")
        frames = tuple(sorted(kept))
        skipped = {"no image or no depth": len(stored) - len(kept)}
        annotations = tuple(kept[name] for name in frames)
        return _Sequence(place=place, frames=frames, skipped=skipped, annotations=annotations, root=root)

    def _camera(self, files: _Sequence, index: int) -> CameraOfFrame:
        entry, file = files.annotations[index], files.place.parent / _FRAMES
        with damage_in(file):
            view, (height, width) = entry["viewpoint"], entry["image"]["size"]
            if view.get("intrinsics_format") != _FORMAT:
                raise CorruptSample(file, f"intrinsics_format is {view.get('intrinsics_format')} and not {_FORMAT}")
            half = min(height, width) / 2
            (fx, fy), (px, py) = (np.array(view[key], np.float64) * half for key in ("focal_length", "principal_point"))
            rotation, translation = np.array(view["R"], np.float64).reshape(3, 3), np.array(view["T"], np.float64)
            matrix = np.array([[fx, 0, width / 2 - px], [0, fy, height / 2 - py], [0, 0, 1]])
            return matrix, _opencv_pose(rotation, translation)

    def _view(
        self,
        files: _Sequence,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        entry = files.annotations[index]
        with damage_in(files.place.parent / _FRAMES):
            depth_file, factor = files.root / entry["depth"]["path"], float(entry["depth"].get("scale_adjustment", 1))
            masked, image_file = entry["depth"].get("mask_path"), files.root / entry["image"]["path"]
            size = tuple(entry["image"]["size"])
        image = read_image(image_file)
        check_size(image_file, image, size)
        stored = read_grey_16(depth_file).view(np.float16).astype(np.float32)  # the bits are those of half precision
        check_size(depth_file, stored, size)
        depth, _ = valid_depth(stored * np.float32(factor))
        if masked:
            mask = read_mask(files.root / masked)
            check_size(files.root / masked, mask, size)
            depth = np.where(mask > 0, depth, np.float32(0))
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def _opencv_pose(rotation: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, 3]) -> Float[np.ndarray, "3 4"]:
    """World-to-camera from what PyTorch3D has: row vectors times R plus T, x to the left and y up."""
    flip = np.array([-1.0, -1.0, 1.0])
    return np.column_stack(((rotation * flip).T, translation * flip))


def _check_quality(place: Path) -> None:
    file = place.parent / _SEQUENCES
    if not file.is_file():
        return
    for entry in _read_list(file):
        score = entry.get("viewpoint_quality_score")
        if entry.get("sequence_name") == place.name and score is not None and not score > QUALITY:
            raise CorruptSample(place, f"the quality of its cameras is {score:g}, and {QUALITY:g} is not exceeded")


@lru_cache(maxsize=2)  # hundreds of megabytes; a worker that stays in a category reads it once
def _by_sequence(file: Path) -> dict[str, tuple[Annotation, ...]]:
    grouped: dict[str, list[Annotation]] = {}
    for entry in _read_list(file):
        grouped.setdefault(str(entry.get("sequence_name")), []).append(entry)
    return {name: tuple(entries) for name, entries in grouped.items()}


@lru_cache(maxsize=2)
def _read_list(file: Path) -> tuple[Annotation, ...]:
    with damage_in(file):
        content = json.loads(gzip.decompress(file.read_bytes()))
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise CorruptSample(file, "not a list of objects")
    return tuple(content)


DATASET = Co3d
