"""HiRoom: rendered rooms of the authors of Depth Anything 3.

Layout: ``data/SCENE/`` with ``image/``, ``depth/NAME.png`` (16 bit, 65535 is 100 m), ``pose/NAME.npy``
(world-to-camera), ``cam_K.npy`` and ``aliasing_mask/NAME.png`` (above 0: not to be scored);
``fused_pcd/``, with the last three parts of the scene's path joined by hyphens, holds the true clouds, and
``selected_scene_list_val.txt`` names the scenes that are scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from depth_anything_3.datasets._folder import folders_holding
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_mask
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, read_surface, same_camera
from depth_anything_3.datasets.benchmark.base import Fusion, Surface

LIST = "selected_scene_list_val.txt"

_FULL_SCALE = 100.0 / 65535.0


class HiRoom(ListedDataset):
    """Scenes are folders (``hiroom/SCENE``); with ``clean`` those of the published list."""

    name = "hiroom"
    title = "HiRoom"
    modes = ("pose", "recon_unposed", "recon_posed", "speed", "robustness")
    real = False
    fusion = Fusion(voxel=4 / 512, truncation=0.04, max_depth=1e4, threshold=0.05)
    layout = f"a folder data/ of scenes with image/ and cam_K.npy, fused_pcd/ and {LIST}"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "cam_K.npy", "image", depth=8):
            parts = folder.relative_to(self.root).parts
            start = parts.index("data") + 1 if "data" in parts else 0
            yield "/".join(parts[start:]), folder

    def _unwanted(self, scene: str) -> str | None:
        listed = self._listed_scenes()
        return None if listed is None or scene in listed else f"not in {LIST}"

    def _listed_scenes(self) -> set[str] | None:
        file = next((p / LIST for p in (self.root, self.root / self.name) if (p / LIST).is_file()), None)
        if file is None:
            return None
        with damage_in(file):
            return {line.strip().strip("/") for line in file.read_text().splitlines() if line.strip()}

    def _open(self, scene: str, place: Path) -> Listed:
        with damage_in(place / "cam_K.npy"):
            k = np.load(place / "cam_K.npy", allow_pickle=False).astype(np.float64)[:3, :3]
        pictures = sorted(p for p in (place / "image").iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
        posed = [p for p in pictures if (place / "pose" / f"{p.stem}.npy").is_file()]
        poses = [self._pose(place / "pose" / f"{p.stem}.npy") for p in posed]
        return Listed(
            place=place,
            frames=tuple(p.stem for p in posed),
            skipped={"no pose": len(pictures) - len(posed)},
            images=tuple(posed),
            depths=tuple(place / "depth" / f"{p.stem}.png" for p in posed),
            intrinsics=same_camera(k, len(posed)),
            extrinsics=np.reshape(poses, (-1, 3, 4)),
        )

    def _pose(self, file: Path) -> np.ndarray:
        with damage_in(file):
            pose = np.load(file, allow_pickle=False)
        if pose.shape not in ((3, 4), (4, 4)):
            raise CorruptSample(file, f"shape {pose.shape} instead of a pose")
        return pose[:3].astype(np.float64)

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return read_grey_16(file) * _FULL_SCALE

    def _read_mask(self, files: Listed, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
        file = files.place / "aliasing_mask" / f"{files.frames[index]}.png"
        return read_mask(file) == 0 if file.is_file() else None

    def surface(self, scene: str) -> Surface | None:
        """The stored cloud."""
        place = self._scene(scene).place
        name = "-".join(place.parts[-3:]) + ".ply"
        root = next((p for p in place.parents if (p / "fused_pcd").is_dir()), self.root)
        return read_surface(root / "fused_pcd" / name)


DATASET = HiRoom
