"""What a command works on: photos, or frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from depth_anything_3.cli._options import KnownCameras
    from depth_anything_3.io.cameras.given import GivenViews
    from depth_anything_3.types.options import FolderOptions
    from depth_anything_3.types.progress import ProgressCallback

Size = tuple[int, int]
"""Height and width."""


class Material(Protocol):
    """N pictures of one scene, as far as they are known before anything is read."""

    @property
    def origin(self) -> Path:
        """The path that was typed."""

    @property
    def inputs(self) -> list[str]:
        """The files that are read."""

    @property
    def given(self) -> list[str]:
        """What is known of the cameras."""

    @property
    def with_poses(self) -> bool:
        """Whether poses are known."""

    @property
    def with_intrinsics(self) -> bool:
        """Whether camera matrices are known."""

    def sizes(self) -> list[Size]:
        """Height and width of every picture."""

    def __len__(self) -> int:
        """How many pictures, as far as that is known."""

    def own_files(self, count: int) -> list[str]:
        """Files that :meth:`load` writes for so many pictures, relative to the folder of the results."""

    def load(self, folder: Path, progress: ProgressCallback | None) -> GivenViews:
        """The pictures for :meth:`depth_anything_3.api.DepthAnything3.inference`."""


@dataclass(frozen=True)
class Photos:
    """Photos on disk."""

    origin: Path
    views: GivenViews

    @property
    def inputs(self) -> list[str]:
        return [str(path) for path in self.views.photos]

    @property
    def given(self) -> list[str]:
        from depth_anything_3.io.images import LensPhoto

        through_lens = any(isinstance(image, LensPhoto) for image in self.views.images)
        known = {
            "intrinsics": self.with_intrinsics,
            "poses": self.with_poses,
            "lens distortion, undone": through_lens,
        }
        return [name for name, there in known.items() if there]

    @property
    def with_poses(self) -> bool:
        return self.views.extrinsics is not None

    @property
    def with_intrinsics(self) -> bool:
        return self.views.intrinsics is not None

    def sizes(self) -> list[Size]:
        from depth_anything_3.io.cameras.fitting import read_headers

        return [header.size for header in read_headers(self.views.photos)]

    def __len__(self) -> int:
        return len(self.views.photos)

    def own_files(self, count: int) -> list[str]:
        return []

    def load(self, folder: Path, progress: ProgressCallback | None) -> GivenViews:
        return self.views


def photos_in(
    path: Path, options: FolderOptions, cameras: KnownCameras, *, model: Path | None = None, argument: str = "INPUT"
) -> Photos:
    """The photos of a path, with what is known of their cameras.

    Args:
        path: as it was typed.
        options: which photos of a folder.
        cameras: files of cameras.
        model: which of the cameras in the folder.
        argument: what the command calls the path.

    Raises:
        InputError: no photos, or cameras that do not fit them.
    """
    from depth_anything_3.io.cameras.given import open_views

    views = open_views(
        path, poses=cameras.poses, intrinsics=cameras.intrinsics, options=options, model=model, argument=argument
    )
    return Photos(path, views)
