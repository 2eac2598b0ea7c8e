"""What the formats of 3D Gaussians have in common: one file, of those that the options keep."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from depth_anything_3._files import atomic_path
from depth_anything_3.export.base import Exporter
from depth_anything_3.splat.options import CleanOptions

if TYPE_CHECKING:
    from depth_anything_3.types.gaussians import Gaussians
    from depth_anything_3.types.prediction import Prediction

O = TypeVar("O", bound=CleanOptions)  # noqa: E741 - options


def gaussian_exporter(
    file: str, options: type[O], write: Callable[[BufferedIOBase, Gaussians, O], None]
) -> Exporter[O]:
    """An exporter of one file of cleaned Gaussians, which warns where none is left.

    Args:
        file: that will be written, relative to the folder, which is called like the format.
        options: its options.
        write: writes one scene, with the options, into the open file.
    """

    def planned_files(count: int, options: O) -> list[str]:
        return [file]

    def export(prediction: Prediction, folder: Path, options: O) -> list[Path]:
        gaussians = cleaned(prediction, options, str(Path(file).parent))
        with atomic_path(folder / file) as temporary, temporary.open("wb") as stream:
            write(stream, gaussians, options)
        return [folder / file]

    return Exporter(options=options, export=export, planned_files=planned_files, needs=frozenset({"gaussians"}))


def cleaned(prediction: Prediction, options: CleanOptions, name: str) -> Gaussians:
    """The Gaussians that the options keep; warns where none is left."""
    from depth_anything_3.splat.clean import clean_gaussians

    gaussians = clean_gaussians(prediction, options)
    if not gaussians.means.shape[1]:
        warnings.warn(f"{name}: no Gaussian is left; the file is empty", stacklevel=4)
    return gaussians
