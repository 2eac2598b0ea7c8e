"""What adapters of downloaded data sets have in common: finding scenes, remembering a few of them, checking."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from depth_anything_3.datasets.base import CorruptSample, Dataset, SceneCameras, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import intrinsics_problem, pose_problem

_REMEMBERED = 16  # scenes whose poses and lists are kept, for each data set and process

CameraOfFrame = tuple[Float[np.ndarray, "3 3"], "Float[np.ndarray, '3 4'] | None"]
"""Intrinsics and world-to-camera pose as read, before they are checked."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneFiles:
    """What is read once for a scene.

    Attributes:
        place: the folder, the file or the beginning of the file names of the scene.
        frames: names of its frames.
        skipped: why frames were left out, and how many.
    """

    place: Path
    frames: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


S = TypeVar("S", bound=SceneFiles)


class FolderDataset(Dataset, Generic[S]):
    """A data set below one folder.

    Scenes are searched for when :meth:`scenes` or any other method first needs them; what belongs to a scene is read
    when the scene is first used, and kept for the last few scenes. Objects can be pickled and sent to workers.

    Args:
        root: the folder, or any folder above it that holds no other data.
        clean: leave out what is published as broken, and invalidate depth beyond the published limits.

    Raises:
        InputError: there is no such folder, or it holds nothing in the layout of the data set.
    """

    layout: ClassVar[str]
    """What a scene looks like on disk, for the error message."""

    def __init__(self, root: str | os.PathLike[str], *, clean: bool = True) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links, and ids hold names
        self.clean = clean
        self._recent: dict[str, S] = {}
        self._skipped: dict[str, Mapping[str, int]] = {}
        if not self.root.is_dir():
            raise InputError("root", f"{root}, which is not a folder", f"the folder of {self.name}")
        if next(self._find(), None) is None:
            raise InputError("root", f"{root}, which has nothing of the kind", self.layout)

    def scenes(self) -> tuple[str, ...]:
        """See :meth:`Dataset.scenes`."""
        return tuple(self._places)

    def frames(self, scene: str) -> tuple[str, ...]:
        """See :meth:`Dataset.frames`."""
        return self._scene(scene).frames

    def cameras(self, scene: str) -> SceneCameras:
        """See :meth:`Dataset.cameras`."""
        files = self._scene(scene)
        intrinsics = np.full((len(files.frames), 3, 3), np.nan, np.float32)
        extrinsics = np.full((len(files.frames), 3, 4), np.nan, np.float32)
        posed = True
        for index in range(len(files.frames)):
            try:
                k, pose = self._checked_camera(files, index)
            except CorruptSample:
                continue
            intrinsics[index] = k
            if pose is None:
                posed = False
            else:
                extrinsics[index] = pose
        return SceneCameras(intrinsics=intrinsics, extrinsics=extrinsics if posed else None)

    def load(self, scene: str, frame: str) -> View:
        """See :meth:`Dataset.load`."""
        files = self._scene(scene)
        if frame not in files.frames:
            known = f"one of its {len(files.frames)} frames"
            raise InputError("frame", f"{frame!r} of scene {scene!r}", known, files.frames[:3])
        index = files.frames.index(frame)
        return self._view(files, index, *self._checked_camera(files, index))

    def skipped(self) -> Mapping[str, int]:
        """See :meth:`Dataset.skipped`."""
        return dict(sum((Counter(reasons) for reasons in self._skipped.values()), Counter()))

    # --- what an adapter says ------------------------------------------------------------------------------------

    @abstractmethod
    def _find(self) -> Iterator[tuple[str, Path]]:
        """(id without the name of the data set, place) of everything that looks like a scene, in any order."""

    @abstractmethod
    def _open(self, scene: str, place: Path) -> S:
        """Read what describes the scene as a whole."""

    @abstractmethod
    def _camera(self, files: S, index: int) -> CameraOfFrame:
        """The camera of one frame, unchecked."""

    @abstractmethod
    def _view(
        self,
        files: S,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        """Load one frame whose camera has been checked."""

    def _unwanted(self, scene: str) -> str | None:
        """Why the published cleaning leaves a scene out (id as from :meth:`_find`), or None."""
        return None

    # --- what it gets --------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        skipped: Counter[str] = Counter()
        for scene, place in self._find():
            name = f"{self.name}/{scene}"
            reason = self._unwanted(scene) if self.clean else None
            if name in found:
                reason = "a second copy of a scene"
            if reason is None:
                found[name] = place
            else:
                skipped[reason] += 1
        self._skipped[""] = skipped
        return dict(sorted(found.items()))

    def _scene(self, scene: str) -> S:
        if scene not in self._recent:
            if scene not in self._places:
                known = f"one of the {len(self._places)} scenes in {self.root}"
                raise InputError("scene", repr(scene), known, list(self._places)[:3])
            files = self._open(scene, self._places[scene])
            self._skipped[scene] = files.skipped
            for old in list(self._recent)[: 1 - _REMEMBERED]:
                self._recent.pop(old, None)
            self._recent[scene] = files
        return self._recent[scene]

    def _checked_camera(
        self, files: S, index: int
    ) -> tuple[Float32[np.ndarray, "3 3"], Float32[np.ndarray, "3 4"] | None]:
        intrinsics, extrinsics = self._camera(files, index)
        problem = intrinsics_problem(intrinsics)
        if extrinsics is not None:
            problem = problem or pose_problem(extrinsics)
            extrinsics = extrinsics.astype(np.float32)
        if problem is not None:
            raise CorruptSample(files.place, f"frame {files.frames[index]}: {problem}")
        return intrinsics.astype(np.float32), extrinsics


def folders(root: Path, *, depth: int) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, names of folders in it, names of files in it) from the root down, at most ``depth`` levels below it.

    Clear the list of folders to go no deeper there: frames lie in folders with thousands of files.
    """
    for path, inner, files in os.walk(root, followlinks=True):
        folder = Path(path)
        inner.sort()
        yield folder, inner, files
        if len(folder.parts) - len(root.parts) >= depth:
            inner.clear()


def folders_holding(root: Path, *names: str, depth: int) -> Iterator[Path]:
    """The folders, at most ``depth`` levels below the root, that hold files or folders of all these names.

    What lies inside of one is not searched.
    """
    for folder, inner, files in folders(root, depth=depth):
        if set(names) <= {*inner, *files}:
            inner.clear()
            yield folder


def names_matching(folder: Path, prefix: str, suffix: str) -> set[str]:
    """The middle parts of the names in a folder; empty where there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each of thousands of files is slow
    except OSError:
        return set()
    return {
        name[len(prefix) : len(name) - len(suffix)]
        for name in names
        if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
    }


def by_number(names: set[str]) -> list[str]:
    """Sorted as people count: 2 before 10. Names that hold no digits come last."""
    return sorted(names, key=lambda name: (*_number(name), name))


def _number(name: str) -> tuple[bool, int]:
    digits = "".join(filter(str.isdecimal, name))
    return not digits, int(digits or 0)


def assemble(
    image: UInt8[np.ndarray, "h w 3"],
    depth: tuple[Path, Float32[np.ndarray, "h2 w2"]] | None,
    *,
    intrinsics: Float32[np.ndarray, "3 3"],
    extrinsics: Float32[np.ndarray, "3 4"] | None,
    sky: Bool[np.ndarray, "_ _"] | None = None,
    mask: Bool[np.ndarray, "_ _"] | None = None,
) -> View:
    """A view, once the depth (with the file it comes from) is seen to have the size of the image.

    Raises:
        CorruptSample: it has not.
    """
    if depth is not None:
        check_size(depth[0], depth[1], image.shape[:2])
    return View(
        image=image,
        depth=None if depth is None else depth[1],
        sky=sky,
        mask=mask,
        intrinsics=intrinsics,
        extrinsics=extrinsics,
    )


def check_size(file: Path, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise :class:`CorruptSample` unless the first two axes of an array are as expected (height, width)."""
    if array.shape[:2] != tuple(expected):
        got, wanted = ("x".join(map(str, shape)) for shape in (array.shape[:2], expected))
        raise CorruptSample(file, f"height x width is {got} and should be {wanted}")


def counted_from_corner(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """A camera matrix whose centre counts from the middle of the first pixel, which a centre of exactly half of one
    pixel less than the size (height, width) says, moved to count from its corner; any other as it is."""
    if not np.allclose(2 * intrinsics[:2, 2] + 1, size[::-1], rtol=0, atol=1e-3):
        return intrinsics
    moved = intrinsics.copy()
    moved[:2, 2] += 0.5
    return moved
