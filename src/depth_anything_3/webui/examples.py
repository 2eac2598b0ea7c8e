"""Example photos: the scenes of a folder, and a made-up room that needs none."""

from __future__ import annotations

from pathlib import Path

from depth_anything_3._files import atomic_path, path_inside
from depth_anything_3.errors import InputError

MADE_UP = "made-up room"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tiff", ".tif", ".webp")
_SEED, _VIEWS, _SECONDS, _SIZE = 3, 3, 0.6, (180, 240)


class Examples:
    """Scenes as folders of photos, ``<folder>/<scene>/*.jpg``, which is the published layout.

    Args:
        folder: where they are; need not exist.
        cache: where the made-up room is kept.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache

    def names(self) -> list[str]:
        """The scenes by name, and the made-up room."""
        found = sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []
        return [*(name for name in found if _photos(self.folder / name)), MADE_UP]

    def photos(self, name: str) -> list[Path]:
        """The photos of a scene. Raises InputError for a name that is none of :meth:`names`."""
        if name not in self.names():
            raise InputError("example", repr(name), "one of the examples", self.names())
        if name != MADE_UP:
            folder = path_inside(self.folder, name)
            return _photos(folder) if folder is not None else []
        return _photos(self.cache) or self._make()

    def _make(self) -> list[Path]:
        import numpy as np
        from PIL import Image

        from depth_anything_3.synth.sample import build, cameras_for, film, separate

        scene, motions = build(_SEED, "room", duration=_VIEWS * _SECONDS)
        times = [i * _SECONDS for i in range(_VIEWS)]
        cameras = cameras_for(scene, motions, times, *_SIZE, seed=_SEED, kind="orbit")
        for number, (time, camera) in enumerate(zip(times, separate(cameras), strict=True)):
            sample = film(scene, motions, camera, *_SIZE, times=[time], samples=1)
            pixels = np.round(sample.rgb[0].clip(0, 1) * 255).astype(np.uint8)
            with atomic_path(self.cache / f"{number:02d}.png") as temporary:
                Image.fromarray(pixels).save(temporary)
        return _photos(self.cache)


def _photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file() and not p.is_symlink())
