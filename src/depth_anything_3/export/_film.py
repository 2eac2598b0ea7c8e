"""Films, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import DA3Error

Picture = npt.NDArray[np.uint8]


def write_film(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    """An MP4 file with MPEG-4 Part 2 (``mp4v``), which every build of OpenCV writes.

    Args:
        path: of the film.
        pictures: (H, W, 3) RGB of one size, at least one; taken one at a time. Sides are cut to even numbers of pixels.
        fps: pictures per second.

    Raises:
        DA3Error: this build of OpenCV cannot write it.
    """
    rest = iter(pictures)
    first = next(rest)
    height, width = (side - side % 2 for side in first.shape[:2])
    with atomic_path(path) as temporary:
        film = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not film.isOpened():
            raise DA3Error("this build of OpenCV cannot write mp4 films; the other formats can be written without it")
        for picture in chain((first,), rest):
            film.write(np.ascontiguousarray(picture[:height, :width, ::-1]))
        film.release()
