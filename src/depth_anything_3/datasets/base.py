"""What every data set gives, and the data sets by name.

A scene is a set of frames that share one world; a frame is one picture. Adapters only load: which scenes to train on,
how to sample and how to mix is decided elsewhere. What an adapter does do is to bring everything into one form
(:class:`View`) and to leave out what is published as broken (``clean=True``).

Every module of this package whose name has no leading underscore, except this one, is an adapter: its name is the
name of the data set, and it defines ``DATASET``, a subclass of :class:`Dataset`. Other packages add data sets through
the entry-point group ``depth_anything_3.dataset``.
"""

from __future__ import annotations

import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.registry import Registry


class CorruptSample(DA3Error, ValueError):  # noqa: N818 - callers skip it and count it
    """A file of a data set is damaged, missing, or does not fit the other files of its frame or scene.

    Args:
        file: the file, or the folder, that is at fault.
        reason: what is wrong with it.
    """

    def __init__(self, file: str | os.PathLike[str], reason: str) -> None:
        self.file, self.reason = Path(file), reason
        super().__init__(f"{self.file}: {reason}")

    def __reduce__(self) -> tuple[type[CorruptSample], tuple[Path, str]]:
        """What it is made again from in another process."""
        return type(self), (self.file, self.reason)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One picture and what is known about it; the arrays are read-only.

    Attributes:
        image: RGB, upright.
        intrinsics: camera matrix in pixels; the centre of the top-left pixel is (0.5, 0.5).
        extrinsics: world-to-camera pose, OpenCV axes (x right, y down, z forward), in the unit of the depth. All
            frames of a scene share the world. None where the data set has no poses.
        depth: z-depth, in metres where the data set is metric; 0 where there is none. None where the data set has no
            depth for this picture.
        sky: where sky is seen. A pixel without sky and without depth is neither known to be sky nor known not to be.
            None where the data set does not tell.
        mask: where the object is seen, in data sets of single objects. None elsewhere.

    Raises:
        InputError: a shape or dtype is wrong, or depth is negative or not finite.
    """

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float32[np.ndarray, "3 3"]
    extrinsics: Float32[np.ndarray, "3 4"] | None = None
    depth: Float32[np.ndarray, "h w"] | None = None
    sky: Bool[np.ndarray, "h w"] | None = None
    mask: Bool[np.ndarray, "h w"] | None = None

    def __post_init__(self) -> None:
        _freeze(self, "image", "uint8", (*np.shape(self.image)[:2], 3))
        size = self.image.shape[:2]
        _freeze(self, "intrinsics", "float32", (3, 3))
        _freeze(self, "extrinsics", "float32", (3, 4))
        _freeze(self, "depth", "float32", size)
        _freeze(self, "sky", "bool", size)
        _freeze(self, "mask", "bool", size)
        if self.depth is not None and not (np.isfinite(self.depth) & (self.depth >= 0)).all():
            raise InputError("depth", "values that are negative or not finite", "z-depth, and 0 where there is none")


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneCameras:
    """The cameras of all N frames of a scene, in the order of ``Dataset.frames``; conventions as in :class:`View`.

    Rows of frames whose camera cannot be read are NaN; loading such a frame raises :class:`CorruptSample`.

    Raises:
        InputError: a shape or dtype is wrong.
    """

    intrinsics: Float32[np.ndarray, "n 3 3"]
    extrinsics: Float32[np.ndarray, "n 3 4"] | None = None

    def __post_init__(self) -> None:
        count = len(self.intrinsics)
        _freeze(self, "intrinsics", "float32", (count, 3, 3))
        _freeze(self, "extrinsics", "float32", (count, 3, 4))


class Dataset(ABC):
    """A data set on disk, or made up.

    Attributes:
        name: the name it is registered under; scene ids begin with it.
        metric: whether depth and translations are in metres; otherwise each scene has a unit of its own.
        real: whether the pictures are photographs; their depth is measured or reconstructed, not exact.
    """

    name: ClassVar[str]
    metric: bool
    real: bool

    @abstractmethod
    def scenes(self) -> tuple[str, ...]:
        """Ids of all scenes, sorted, such as ``"tartanair/abandonedfactory/Easy/P000"``.

        They depend on the data set alone, not on where it lies. Nothing but names is read for them.
        """

    @abstractmethod
    def frames(self, scene: str) -> tuple[str, ...]:
        """Names of the frames of a scene, in the order they were taken where there is one.

        Raises:
            InputError: there is no such scene.
            CorruptSample: a file that describes the whole scene is damaged.
        """

    @abstractmethod
    def cameras(self, scene: str) -> SceneCameras:
        """The cameras of ``frames(scene)``; no picture is decoded.

        Raises:
            InputError: there is no such scene.
            CorruptSample: a file that describes the whole scene is damaged.
        """

    @abstractmethod
    def load(self, scene: str, frame: str) -> View:
        """One frame.

        Raises:
            InputError: there is no such scene or frame.
            CorruptSample: a file is damaged, missing, or does not fit the others. Skip the frame and count it.
        """

    def skipped(self) -> Mapping[str, int]:
        """Why scenes and frames were left out of the lists given so far, and how many of them."""
        return {}


def _find_datasets() -> Registry[type[Dataset]]:
    registry: Registry[type[Dataset]] = Registry("dataset")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "base" and not module.name.startswith("_") and not module.ispkg:
            registry.register_lazy(module.name, f"{__package__}.{module.name}:DATASET")
    return registry


DATASETS: Registry[type[Dataset]] = _find_datasets()
"""Data sets by name, imported when first asked for."""


def _freeze(owner: object, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Check one array of a frozen dataclass and replace it by a read-only view."""
    array = getattr(owner, name)
    if array is None:
        return
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__qualname__
        raise InputError(name, got, f"an array of {dtype} and shape {shape}")
    view = array.view()
    view.flags.writeable = False
    object.__setattr__(owner, name, view)
