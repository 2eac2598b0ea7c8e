"""Scenes on disk: a folder of images, depth maps and masks with one file of cameras.

``images/000000.png``, ``depth/000000.npy`` (float32 metres, 0 = none) or ``.png`` (uint16 millimetres), ``sky/``
(255 = sky), ``object/`` (uint16, object id + 1, 0 = sky), ``moving/`` (255 = moves), on request ``normal/`` (float32,
camera frame), and ``scene.npz`` with ``names``, ``K``, ``c2w`` (OpenCV axes), ``units`` and the pixel convention.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.synth.sample import Sample

DEPTH_FORMATS = ("npy", "png16")
"""Exact metres, or millimetres that other programs read."""

IMAGE_FORMATS = ("png", "jpg")
"""Exact pictures, or small ones."""

_FARTHEST_MM = 65535
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How scenes are written.

    Attributes:
        depth_format: one of :data:`DEPTH_FORMATS`.
        image_format: one of :data:`IMAGE_FORMATS`.
        normals: also write normals.
    """

    depth_format: str = "npy"
    image_format: str = "png"
    normals: bool = False

    def __post_init__(self) -> None:
        for name, known in (("depth_format", DEPTH_FORMATS), ("image_format", IMAGE_FORMATS)):
            if getattr(self, name) not in known:
                raise InputError(name, repr(getattr(self, name)), "a format", known)


def write_folder(
    folder: str | os.PathLike[str],
    samples: Iterable[Sample],
    options: FolderOptions | None = None,
    *,
    overwrite: bool = False,
    written: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write the views of one scene; the folder gets its files when all of them are complete.

    Args:
        folder: new or empty.
        samples: the views, in one sample or in many; each is written before the next is asked for.
        options: see :class:`FolderOptions`.
        overwrite: a folder that holds files is written into, and only files of the same names are replaced.
        written: called after each sample with the number of views so far.

    Returns:
        the files.

    Raises:
        InputError: the folder holds files, there are no views, or a depth does not fit the format.
    """
    target, options = Path(folder), FolderOptions() if options is None else options
    if target.exists() and not target.is_dir():
        raise InputError("folder", f"{target} (a file)", "a folder")
    if not overwrite and target.is_dir() and any(target.iterdir()):
        raise InputError("folder", f"{target}, which holds files", "an empty or new folder, or overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp") as temporary:
        files = _write_all(Path(temporary), samples, options, written)
        return [_moved(Path(temporary) / name, target / name) for name in files]


def _moved(source: Path, target: Path) -> Path:
    with atomic_path(target) as path:
        shutil.move(source, path)
    return target


def _write_all(
    folder: Path, samples: Iterable[Sample], options: FolderOptions, written: Callable[[int], None] | None
) -> list[str]:
    names, files = list[str](), list[str]()
    matrices, poses = list[np.ndarray](), list[np.ndarray]()
    for sample in samples:
        for index in range(len(sample.depth)):
            names.append(f"{len(names):06d}")
            files += _write_view(folder, names[-1], sample, index, options)
        matrices.append(sample.intrinsics.astype(np.float64))
        poses.append(_world_from_camera(sample.extrinsics))
        if written is not None:
            written(len(names))
    if not names:
        raise InputError("samples", "no views", "at least one view")
    np.savez(
        folder / "scene.npz",
        names=np.array(names),
        K=np.concatenate(matrices),
        c2w=np.concatenate(poses),
        pose_kind=np.array("exact"),
        units=np.array("m"),
        pixel_centre=np.array(0.5),
    )
    return [*files, "scene.npz"]


def _world_from_camera(extrinsics: np.ndarray) -> np.ndarray:
    rotation = extrinsics[:, :, :3].astype(np.float64).transpose(0, 2, 1)
    pose = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    pose[:, :3, :3], pose[:, :3, 3:] = rotation, -rotation @ extrinsics[:, :, 3:].astype(np.float64)
    return pose


def _write_view(folder: Path, name: str, sample: Sample, index: int, options: FolderOptions) -> list[str]:
    rgb = sample.rgb[index]
    picture = rgb if rgb.dtype == np.uint8 else (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    depth, mask = sample.depth[index], {False: np.uint8(0), True: np.uint8(255)}
    contents: dict[str, np.ndarray] = {
        f"images/{name}.{options.image_format}": picture,
        f"sky/{name}.png": np.where(sample.sky[index], mask[True], mask[False]),
        f"object/{name}.png": (sample.object_id[index] + 1).astype(np.uint16),
        f"moving/{name}.png": np.where(sample.moving[index], mask[True], mask[False]),
    }
    if options.depth_format == "npy":
        contents[f"depth/{name}.npy"] = depth.astype(np.float32)
    else:
        contents[f"depth/{name}.png"] = _millimetres(depth)
    if options.normals:
        contents[f"normal/{name}.npy"] = sample.normal[index].astype(np.float32)
    for file, content in contents.items():
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, content)
        else:
            Image.fromarray(content).save(path, quality=_JPEG_QUALITY)
    return list(contents)


def _millimetres(depth: np.ndarray) -> np.ndarray:
    millimetres = np.rint(depth.astype(np.float64) * 1000)
    if millimetres.max() > _FARTHEST_MM:
        farthest = f"png16 for a depth of {millimetres.max() / 1000:.1f} m"
        raise InputError("depth_format", farthest, "depths up to 65.535 m", DEPTH_FORMATS)
    return millimetres.astype(np.uint16)
