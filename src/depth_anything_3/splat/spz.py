"""SPZ, the compressed file of 3D Gaussians: versions 2 and 3, to and from tensors.

A gzip stream of a header of 16 bytes (magic ``NGSP``, version, number, degree of the harmonics, fractional bits of the
centres, flags, 0) and six sections, one after the other, each for all Gaussians: centres (24-bit fixed point),
opacities (8 bits), colours of degree 0 (8 bits), logarithms of the deviations (8 bits, steps of 1/16), rotations
(version 2: x, y, z in 8 bits each with w >= 0; version 3: the three smaller components in 10 bits each, and which one
is left out), higher harmonics (8 bits, coefficient by coefficient, three colours each). Little-endian throughout.

Its world is "right, up, back": half a turn about x from the one with OpenCV axes. Both functions here turn.
Format: Niantic's published description of SPZ.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.harmonics import MAX_DEGREE, degree_of, rotate_harmonics
from depth_anything_3.splat.blocks import Array, Block, blocks
from depth_anything_3.splat.options import SPZ_VERSIONS
from depth_anything_3.types.gaussians import Gaussians

_HEADER = struct.Struct("<IIIBBBB")
_MAGIC = 0x5053474E
_ROTATION_BYTES = {2: 3, 3: 4}
_COLOUR = 0.15  # of a byte's range per unit of the coefficient
_LARGEST = (1 << 23) - 1
_MOST_BITS = 20  # of the fraction: a millionth of the unit
_HALF_TURN = (1.0, -1.0, -1.0)  # diagonal of the rotation between the two worlds
_STEPS = 511 * math.sqrt(2)  # of the smaller components of a quaternion, which are at most sqrt(1/2)

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SpzHeader:
    """What a file says of itself.

    Attributes:
        version: 2 or 3.
        count: of Gaussians.
        degree: of the harmonics, 0 to 3.
        fractional_bits: of the fixed-point centres.
    """

    version: int
    count: int
    degree: int
    fractional_bits: int

    def sections(self) -> dict[str, int]:
        """Bytes per Gaussian of every section, in the order of the file."""
        rest = 3 * ((self.degree + 1) ** 2 - 1)
        sizes = {"means": 9, "opacities": 1, "colours": 3, "scales": 3, "rotations": _ROTATION_BYTES[self.version]}
        return {**sizes, "harmonics": rest}


def write_spz(file: BufferedIOBase, gaussians: Gaussians, version: int = 3) -> None:
    """Write one scene, section by section and some thousands of Gaussians at a time; the same input, the same bytes.

    Centres keep as many fractional bits as the farthest of them allows, 20 at most; deviations below e^-10 or above
    e^5.9 are written as those.

    Args:
        file: opened for writing.
        gaussians: one scene, all finite, deviations above 0.
        version: 3 stores rotations more exactly; older readers know 2.

    Raises:
        InputError: another version, or a centre that no fixed-point number of the format holds.
    """
    if version not in SPZ_VERSIONS:
        raise InputError("version", repr(version), "a version of SPZ that is written here", SPZ_VERSIONS)
    count, bits = gaussians.means.shape[1], _bits(gaussians)
    packers: tuple[Callable[[Block], Bytes], ...] = (
        lambda block: _pack_means(block.means, bits),
        lambda block: _byte(255 * block.opacities),
        lambda block: _byte(255 * (0.5 + _COLOUR * block.harmonics[..., 0])),
        lambda block: _byte(16 * (np.log(block.scales) + 10)),
        lambda block: _pack_rotations(block.rotations, version),
        lambda block: _pack_harmonics(block.harmonics),
    )
    # No name and no time of day in the stream.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as stream:
        stream.write(_HEADER.pack(_MAGIC, version, count, degree_of(gaussians.harmonics.shape[-1]), bits, 0, 0))
        for pack in packers:
            for block in blocks(gaussians):
                stream.write(pack(block).tobytes())


def read_spz(path: str | os.PathLike[str]) -> Gaussians:
    """The Gaussians of a file of version 2 or 3, one scene on the CPU, in the world with OpenCV axes.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, not SPZ, or of another version.
    """
    try:
        with gzip.open(path, "rb") as stream:
            header = _read_header(stream.read(_HEADER.size), path)
            parts = {name: _section(stream, size * header.count, path) for name, size in header.sections().items()}
            if stream.read(1):
                raise _damaged(path, "more bytes than its header says")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    return _unpacked(header, parts)


def _damaged(path: str | os.PathLike[str], why: str) -> InputError:
    return InputError("path", f"{os.fspath(path)} ({why})", "a whole SPZ file of version 2 or 3")


def _read_header(head: bytes, path: str | os.PathLike[str]) -> SpzHeader:
    if len(head) < _HEADER.size:
        raise _damaged(path, "too short for a header")
    magic, version, count, degree, bits, _, _ = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise _damaged(path, "not SPZ")
    if version not in SPZ_VERSIONS:
        raise _damaged(path, f"version {version}")
    if degree > MAX_DEGREE or bits > 30:
        raise _damaged(path, f"harmonics of degree {degree}, {bits} fractional bits")
    return SpzHeader(version=version, count=count, degree=degree, fractional_bits=bits)


def _section(stream: BufferedIOBase, size: int, path: str | os.PathLike[str]) -> Bytes:
    """Exactly ``size`` bytes; memory grows with what is there and not with what the header claims."""
    pieces: list[bytes] = []
    missing = size
    while missing:
        piece = stream.read(min(missing, 1 << 24))
        if not piece:
            raise _damaged(path, "it ends too early")
        pieces.append(piece)
        missing -= len(piece)
    return np.frombuffer(b"".join(pieces), np.uint8)


def _unpacked(header: SpzHeader, parts: dict[str, Bytes]) -> Gaussians:
    count, per_rotation = header.count, _ROTATION_BYTES[header.version]
    colours = (parts["colours"].reshape(count, 3, 1) / 255 - 0.5) / _COLOUR
    coefficients = (header.degree + 1) ** 2
    rest = (parts["harmonics"].reshape(count, coefficients - 1, 3).swapaxes(1, 2).astype(np.float32) - 128) / 128
    harmonics = torch.from_numpy(np.concatenate((colours, rest), -1).astype(np.float32))
    values = {
        "means": _unpack_means(parts["means"].reshape(count, 3, 3), header.fractional_bits),
        "scales": np.exp(parts["scales"].reshape(count, 3).astype(np.float32) / 16 - 10),
        "rotations": _unpack_rotations(parts["rotations"].reshape(count, per_rotation), header.version),
        "opacities": parts["opacities"].astype(np.float32) / 255,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value, np.float32))[None] for name, value in values.items()}
    return Gaussians(harmonics=_turned(harmonics)[None], **tensors)


# --- sections --------------------------------------------------------------------------------------------------------


def _byte(values: Array) -> Bytes:
    return np.round(values).clip(0, 255).astype(np.uint8)


def _turned(harmonics: torch.Tensor) -> torch.Tensor:
    return rotate_harmonics(harmonics, torch.diag(harmonics.new_tensor(_HALF_TURN)))


def _bits(gaussians: Gaussians) -> int:
    """As many as the farthest coordinate leaves."""
    farthest = float(gaussians.means.detach().abs().amax()) if gaussians.means.numel() else 0.0
    if not farthest <= _LARGEST:
        raise InputError("gaussians.means", f"a coordinate of {farthest:g}", f"at most {_LARGEST} for SPZ")
    room = math.log2(_LARGEST / farthest) if farthest > 0 else _MOST_BITS
    return min(_MOST_BITS, max(0, math.floor(room)))


def _pack_means(means: Array, bits: int) -> Bytes:
    fixed = np.round(means.astype(np.float64) * _HALF_TURN * 2**bits).clip(-_LARGEST, _LARGEST).astype("<i4")
    return fixed.view(np.uint8).reshape(*means.shape, 4)[..., :3]


def _unpack_means(packed: Bytes, bits: int) -> Array:
    low, middle, high = (packed[..., i].astype(np.int32) for i in range(3))
    fixed = low | middle << 8 | (high - ((high & 0x80) << 1)) << 16
    return (fixed / 2**bits * _HALF_TURN).astype(np.float32)


def _pack_harmonics(harmonics: Array) -> Bytes:
    rest = _turned(torch.from_numpy(harmonics))[..., 1:]
    return _byte(128 * rest.transpose(-1, -2).numpy() + 128)


def _pack_rotations(quat_wxyz: Array, version: int) -> Bytes:
    quat = quat_wxyz[:, [1, 2, 3, 0]].astype(np.float64) * [*_HALF_TURN, 1.0]
    if version == 2:
        xyz = np.where(quat[:, 3:] < 0, -quat[:, :3], quat[:, :3])
        return np.round(127.5 * xyz + 127.5).clip(0, 255).astype(np.uint8)
    largest = np.abs(quat).argmax(1)
    flipped = np.take_along_axis(quat, largest[:, None], 1)[:, 0] < 0
    packed = largest.astype(np.uint32)
    for component in range(4):
        value = quat[:, component]
        steps = np.round(np.abs(value) * _STEPS).clip(0, 511).astype(np.uint32)
        longer = packed << 10 | ((value < 0) ^ flipped).astype(np.uint32) << 9 | steps
        packed = np.where(component == largest, packed, longer)
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


def _unpack_rotations(packed: Bytes, version: int) -> Array:
    """Quaternions with w first."""
    quat = np.empty((len(packed), 4), np.float64)
    if version == 2:
        quat[:, :3] = packed / 127.5 - 1
        quat[:, 3] = np.sqrt((1 - (quat[:, :3] ** 2).sum(1)).clip(0))
    else:
        word = np.ascontiguousarray(packed).view("<u4")[:, 0]
        largest = word >> 30
        left = np.ones(len(word))
        for component in (3, 2, 1, 0):
            there = component != largest
            value = (word & 511) / _STEPS * np.where(word & 512, -1.0, 1.0)
            quat[:, component] = np.where(there, value, 0.0)
            left -= quat[:, component] ** 2
            word = np.where(there, word >> 10, word)
        quat[np.arange(len(word)), largest] = np.sqrt(left.clip(0))
    quat *= [*_HALF_TURN, 1.0]
    quat /= np.linalg.norm(quat, axis=1, keepdims=True)
    return quat[:, [3, 0, 1, 2]].astype(np.float32)
