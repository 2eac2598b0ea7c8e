"""Ways in which downloads are broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets.writers.exr import write_exr


def truncate(file: Path) -> None:
    """Keep the first half of a file, as an interrupted download does."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def crop(file: Path) -> None:
    """Take the last four rows off a map of numbers."""
    if file.suffix == ".npy":
        np.save(file, np.load(file)[:-4])
    elif file.suffix == ".png":
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:-4])
    elif file.suffix in (".h5", ".hdf5"):
        import h5py

        with h5py.File(file, "r+") as stream:
            (name,) = stream
            pixels = stream[name][:-4]
            del stream[name]
            stream[name] = pixels
    elif file.suffix == ".pfm":
        kind, size, scale, content = file.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        file.write_bytes(b"\n".join((kind, b"%d %d" % (width, height - 4), scale, content[: 4 * width * (height - 4)])))
    else:
        import OpenEXR

        channels = OpenEXR.File(str(file), separate_channels=True).channels()
        write_exr(file, {name: channel.pixels[:-4] for name, channel in channels.items()})


def only(root: Path, pattern: str) -> Path:
    """The one file below a folder that matches."""
    (file,) = root.rglob(pattern)
    return file
