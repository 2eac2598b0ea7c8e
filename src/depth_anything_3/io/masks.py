"""Masks that come with photos: which pixels count.

White (True) keeps a pixel, black (False) masks it out, as in COLMAP.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import ImageError, InputError
from depth_anything_3.io.images import ImageSource, LensPhoto, decode_image, describe_type
from depth_anything_3.io.sources import list_images
from depth_anything_3.io.video import VideoFrame

MaskSource = str | os.PathLike[str] | npt.NDArray[Any]
"""A picture in black and white, or an array (H, W): bool; whole numbers, where 128 and more keep a pixel, or 1 if there
is nothing larger; floats, where 0.5 and more do."""

_HALF = 128


def as_mask_list(masks: object, images: Sequence[ImageSource]) -> list[MaskSource | None]:
    """The argument ``masks`` as a list with one entry per view.

    Args:
        masks: None; a sequence with a mask or None per view; an array (N, H, W); or a folder with pictures named like
            the photos (``a.png`` or ``a.jpg.png`` for ``a.jpg``). Photos without one there have no mask.
        images: N sources, as :func:`~depth_anything_3.io.sources.as_image_list` gives them.

    Raises:
        InputError: another number, something that is no mask, or a folder without a mask for any photo.
    """
    if masks is None:
        return [None] * len(images)
    if isinstance(masks, (str, os.PathLike)):
        return _of_folder(Path(masks), images)
    if not isinstance(masks, (list, tuple, np.ndarray)) or (isinstance(masks, np.ndarray) and masks.ndim != 3):
        got = f"shape {masks.shape}" if isinstance(masks, np.ndarray) else describe_type(masks)
        raise InputError("masks", got, "one mask per view, or the folder they are in")
    if len(masks) != len(images):
        raise InputError("masks", f"{len(masks)} for {len(images)} views", "one per view, or None in its place")
    for index, mask in enumerate(masks):
        if mask is not None and not isinstance(mask, (str, os.PathLike, np.ndarray)):
            raise InputError(f"masks[{index}]", describe_type(mask), "a path, an array (H, W) or None")
    return list(masks)


def mask_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The pictures of a folder by what they are named like, for :func:`mask_named`.

    Raises:
        InputError: no such folder, or no picture in it.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises on names that are too long
        raise InputError("masks", f"{folder} (no such folder)", "a folder, or a sequence with one mask per view")
    return {file.stem.casefold(): file for file in list_images(folder, argument="masks")}


def mask_named(files: dict[str, Path], name: str) -> Path | None:
    """The mask of a photo or frame with that name (``a.png`` or ``a.jpg.png`` for ``a.jpg``), or None."""
    return files.get(name.casefold(), files.get(Path(name).stem.casefold())) if name else None


def _of_folder(folder: Path, images: Sequence[ImageSource]) -> list[MaskSource | None]:
    files = mask_files(folder)
    found = [mask_named(files, _name(source)) for source in images]
    if not any(mask is not None for mask in found):
        names = ", ".join(name for source in images[:3] if (name := _name(source)))
        raise InputError(
            "masks", f"{folder}, with no mask for {names or 'images without names'}", "names of the photos"
        )
    return cast(list[MaskSource | None], found)


def _name(source: ImageSource) -> str:
    if isinstance(source, LensPhoto):
        return _name(source.photo)
    if isinstance(source, VideoFrame):
        return source.name
    return Path(os.fsdecode(source)).name if isinstance(source, (str, os.PathLike)) else ""


def decode_mask(mask: MaskSource, *, index: int, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """True where a pixel is kept.

    Args:
        mask: see :data:`MaskSource`.
        index: position in the caller's list, for errors.
        size: height and width of the upright photo.

    Raises:
        InputError: it cannot be read, is not two-dimensional, or has another size than the photo.
    """
    label = f"masks[{index}]"
    if isinstance(mask, (str, os.PathLike)):
        try:
            values: npt.NDArray[Any] = decode_image(mask, index=index, alpha="drop").pixels.max(axis=2)
        except ImageError as error:
            raise InputError(label, error.got, error.expected, error.alternatives) from None
    else:
        values = np.asarray(mask)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.shape != size or values.dtype.kind not in "buif":
        got = f"shape {values.shape} and dtype {values.dtype}"
        raise InputError(label, got, f"shape {size}, that of the upright photo, of bools or numbers")
    if values.dtype.kind == "b":
        return values
    if values.dtype.kind == "f":
        return values >= 0.5
    return values >= (1 if int(values.max(initial=0)) <= 1 else _HALF)
