"""KITTI depth, the Eigen test pictures with annotated depth (Geiger et al., 2013; Uhrig et al., 2017).

Layout: raw data ``DATE/DRIVE/image_02/data/0000000000.png`` with ``DATE/calib_cam_to_cam.txt``, annotated depth
``DRIVE/proj_depth/groundtruth/image_02/0000000000.png`` below ``train/`` and ``val/`` or without them (256 is a
metre), and a list ``eigen_test*.txt``, whose lines begin with the path of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders
from depth_anything_3.datasets._reading import damage_in, read_grey_16
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, same_camera
from depth_anything_3.datasets.benchmark.base import Crop

_LIST = "eigen_test*.txt"


class Kitti(ListedDataset):
    """Scenes are drives (``kitti/2011_09_26_drive_0002_sync``); frames are those of the list that have depth."""

    name = "kitti"
    title = "KITTI, Eigen split"
    modes = ("mono", "metric")
    depth_range = (1e-3, 80.0)
    # Garg et al., 2016.
    crop = Crop(rows=(0.40810811, 0.99189189), columns=(0.03594771, 0.96405229))
    max_frames = None
    layout = f"raw drives DATE/DRIVE/image_02/data/, annotated depth DRIVE/proj_depth/ and a list {_LIST}"

    def _find(self) -> Iterator[tuple[str, Path]]:
        if not sorted(self.root.glob(_LIST)):
            return
        for folder, inner, _ in folders(self.root, depth=5):
            if (folder / "image_02" / "data").is_dir():
                inner.clear()
                yield folder.name, folder

    def _unwanted(self, scene: str) -> str | None:
        return None if scene in self._listed() else "no picture in the list"

    def _listed(self) -> dict[str, list[str]]:
        """Names of the listed pictures by drive."""
        found: dict[str, list[str]] = {}
        file = sorted(self.root.glob(_LIST))[0]
        with damage_in(file):
            for line in file.read_text().splitlines():
                parts = Path(line.split()[0]).parts if line.split() else ()
                if "image_02" in parts:
                    found.setdefault(parts[parts.index("image_02") - 1], []).append(Path(parts[-1]).stem)
        return found

    def _open(self, scene: str, place: Path) -> Listed:
        listed = self._listed()[place.name]
        depths = self._depth_folders(place.name)
        files = {n: next((d / f"{n}.png" for d in depths if (d / f"{n}.png").is_file()), None) for n in listed}
        names = [name for name, file in files.items() if file is not None]
        if listed and not depths:
            raise CorruptSample(self.root, f"no folder {place.name}/proj_depth/groundtruth/image_02 of annotated depth")
        return Listed(
            place=place,
            frames=tuple(names),
            skipped={"no annotated depth": len(listed) - len(names)},
            images=tuple(place / "image_02" / "data" / f"{name}.png" for name in names),
            depths=tuple(files[name] for name in names),
            intrinsics=same_camera(_intrinsics(place.parent / "calib_cam_to_cam.txt"), len(names)),
        )

    def _depth_folders(self, drive: str) -> list[Path]:
        tail = Path(drive) / "proj_depth" / "groundtruth" / "image_02"
        tops = [self.root, self.root / "data_depth_annotated"]
        places = [top / part / tail for top in tops for part in ("", "train", "val")]
        return [place for place in places if place.is_dir()]

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return read_grey_16(file).astype(np.float32) / np.float32(256)


def _intrinsics(file: Path) -> np.ndarray:
    with damage_in(file):
        for line in file.read_text().splitlines():
            if line.startswith("P_rect_02:"):
                k = np.array(line.split()[1:], np.float64).reshape(3, 4)[:, :3]
                k[:2, 2] += 0.5  # the first pixel's centre counts as (0, 0)
                return k
    raise CorruptSample(file, "without P_rect_02")


DATASET = Kitti
