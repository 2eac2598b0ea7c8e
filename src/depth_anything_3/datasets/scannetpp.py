"""ScanNet++: rooms scanned by laser and photographed by a camera with a fisheye lens and by a phone.

Yeshwanth et al., "ScanNet++: A High-Fidelity Dataset of 3D Indoor Scenes", 2023. Layout of the release: ``data/{10 hex
digits}/`` with ``dslr/{resized_images,resized_anon_masks,colmap,nerfstudio}`` and ``iphone/{rgb,rgb_masks,colmap,...}``
(pictures extracted with the authors' tools). Depth is rendered from the scan by the same tools, into ``render_depth/``
beside the pictures, millimetres in their pixels; for the phone, ``depth/`` of its own sensor stands in where there is
none. The world is that of the scan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from depth_anything_3.datasets._colmap import ColmapDataset, ColmapFiles, undistort_nearest
from depth_anything_3.datasets._folder import assemble, check_size, folders
from depth_anything_3.datasets._reading import damage_in, millimetres, read_image, read_mask
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.benchmark.scannetpp import SCENES
from depth_anything_3.geometry.distortion import undistort_image
from depth_anything_3.io.colmap import find_model
from depth_anything_3.metrics.depth import resized_nearest

_PICTURES = {"dslr": "resized_images", "iphone": "rgb"}
_MASKS = {"dslr": "resized_anon_masks", "iphone": "rgb_masks"}
_DEPTHS = ("render_depth", "depth")
_KEPT = 255  # in a mask; anything less hides a person


class ScanNetPP(ColmapDataset):
    """ScanNet++; scenes are ``scannetpp/{id}/dslr`` and ``scannetpp/{id}/iphone``, frames have the pictures' names.

    Pictures and depth are freed from lens distortion; they keep their size and centre. Depth is z-depth in metres.

    Args:
        root: the folder ``data``, or one of its scenes.
        clean: leave out the scenes of the published evaluation, and pictures marked as bad.
    """

    name = "scannetpp"
    metric = True
    layout = "folders SCENE/dslr/ or SCENE/iphone/ that hold colmap/ and resized_images/ or rgb/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=4):
            if folder.name not in _PICTURES or not {"colmap", _PICTURES[folder.name]} <= set(inner):
                continue
            inner.clear()
            if (model := find_model(folder / "colmap", deep=False)) is not None:
                yield "/".join(folder.parts[-2:]), model

    def _unwanted(self, scene: str) -> str | None:
        return "cleaning: a scene of the published evaluation" if scene.split("/")[0] in SCENES else None

    def _pictures(self, model: Path) -> Path:
        return model.parent / _PICTURES[model.parent.name]

    def _open(self, scene: str, place: Path) -> ColmapFiles:
        files = super()._open(scene, place)
        bad = _bad(place.parent / "nerfstudio" / "transforms.json") if self.clean else frozenset()
        fine = [i for i, image in enumerate(files.images) if image.name not in bad]
        kept = [i for i in fine if _depth_file(files.images[i]) is not None]
        if not kept:
            raise CorruptSample(place.parent / _DEPTHS[0], "no picture has depth; the authors' tools render it")
        skipped = {"cleaning: bad": len(files.images) - len(fine), "no depth": len(fine) - len(kept)}
        return replace(
            files,
            frames=tuple(files.frames[i] for i in kept),
            images=tuple(files.images[i] for i in kept),
            registered=tuple(files.registered[i] for i in kept),
            skipped={**files.skipped, **skipped},
        )

    def _view(
        self,
        files: ColmapFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        file = files.images[index]
        depth_file = _depth_file(file)
        if depth_file is None:
            raise CorruptSample(file.parent.parent / _DEPTHS[0] / f"{file.stem}.png", "no such file")
        image, depth = read_image(file), millimetres(depth_file)
        if depth_file.parent.name != _DEPTHS[0]:  # the sensor's is small
            depth = resized_nearest(depth[None], *image.shape[:2])[0]
        check_size(depth_file, depth, image.shape[:2])
        shown = _shown(file, image.shape[:2])
        depth = np.where(shown, depth, np.float32(0))
        taken_with, lens, _ = self._taken_with(files, index)
        if not lens.is_pinhole:
            k = intrinsics.astype(np.float64)
            image = undistort_image(image, taken_with, lens, k)
            depth = undistort_nearest(depth, taken_with, lens, k)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def _depth_file(picture: Path) -> Path | None:
    """The depth of a picture: rendered, or of the phone's sensor."""
    kinds = _DEPTHS if picture.parent.name == _PICTURES["iphone"] else _DEPTHS[:1]
    found = (picture.parent.parent / kind / f"{picture.stem}.png" for kind in kinds)
    return next((file for file in found if file.is_file()), None)


def _shown(picture: Path, size: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
    """Where nobody is hidden; everywhere, where there is no mask."""
    device = picture.parent.parent.name
    file = picture.parent.parent / _MASKS[device] / f"{picture.stem}.png"
    if not file.is_file():
        return np.ones((size[0], size[1]), np.bool_)
    mask = read_mask(file)
    check_size(file, mask, size)
    return mask == _KEPT


def _bad(file: Path) -> frozenset[str]:
    """Names of the pictures that are marked as bad."""
    if not file.is_file():
        return frozenset()
    with damage_in(file):
        content = json.loads(file.read_text(encoding="utf-8"))
        entries = [*content.get("frames", ()), *content.get("test_frames", ())]
        return frozenset(Path(entry["file_path"]).name for entry in entries if entry.get("is_bad"))


DATASET = ScanNetPP
