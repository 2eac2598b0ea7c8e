"""Weights that lie in a file, read without keeping them in memory.

The tensors of a checkpoint are mapped to its file: a page of them takes memory from when it is first read, and becomes
a copy of this process's own when it is written to. Who needs their values once, to make something else of them, reads
the same bytes of the file through a mapping that ends with the reading. The pages of the tensors themselves are never
given back, so nothing that was written to them can be lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_MAPPINGS, _PAGES = Path("/proc/self/maps"), Path("/proc/self/pagemap")  # both of Linux alone
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61  # proc_pid_pagemap(5)


class _Place(NamedTuple):
    """A byte of a file; ``device`` and ``inode`` as the system writes them."""

    device: str
    inode: str
    offset: int
    path: str


def reread(tensor: Tensor) -> Tensor:
    """The values of ``tensor`` for one reading: straight from the file that it is mapped to, or ``tensor`` itself.

    It is ``tensor`` wherever anything speaks against the file: a page was written to since it was mapped, the file was
    moved or replaced, the system does not tell (all but Linux).
    """
    place = _place(tensor)
    if place is None or not tensor.is_contiguous():
        return tensor
    try:
        values = np.memmap(place.path, np.uint8, "c", place.offset, (tensor.nbytes,))
    except (OSError, ValueError):  # gone, or shorter than it was
        return tensor
    # Compared as two mappings: not every file system says the same of a file and of a mapping of it.
    same = _mapped_at(values.ctypes.data) == place
    return torch.from_numpy(values).view(tensor.dtype).view(tensor.shape) if same else tensor


def in_file(tensor: Tensor) -> bool:
    """Whether a tensor is mapped to a file and nothing was written to its pages."""
    return _place(tensor) is not None


def _place(tensor: Tensor) -> _Place | None:
    """Where the values of a tensor can be read; None if that is not known for certain."""
    if tensor.device.type != "cpu" or not _PAGES.exists():
        return None
    try:
        place = _mapped_at(tensor.data_ptr())
        return None if place is None or _written(tensor) else place
    except OSError:
        return None


def _mapped_at(address: int) -> _Place | None:
    with _MAPPINGS.open() as mappings:
        for line in mappings:
            start, end = (int(edge, 16) for edge in line[: line.index(" ")].split("-"))
            if start <= address < end:
                _, _, first, device, inode, *path = line.rstrip("\n").split(maxsplit=5)
                known = path and Path(path[0]).is_file()
                return _Place(device, inode, int(first, 16) + address - start, path[0]) if known else None
    return None


def _written(tensor: Tensor) -> bool:
    """Whether any page that holds a part of a tensor in a file has become this process's own."""
    size = os.sysconf("SC_PAGE_SIZE")
    first, last = tensor.data_ptr() // size, (tensor.data_ptr() + tensor.nbytes - 1) // size
    count = last - first + 1
    with _PAGES.open("rb", buffering=0) as pages:
        pages.seek(8 * first)
        states = np.frombuffer(pages.read(8 * count), np.uint64)
    if len(states) != count:
        return True
    there, of_file = states & np.uint64(_PRESENT | _SWAPPED) != 0, states & np.uint64(_OF_FILE) != 0
    return bool((there & ~of_file).any())
