"""A HEIF photo made by hand: one 16x16 block of HEVC with its samples as they are (PCM), in the boxes around it.

ITU-T H.265 sections 7.3 (syntax) and 9.3 (arithmetic coding); ISO/IEC 14496-12 and 23008-12 for the boxes.
"""

from __future__ import annotations

import struct

import numpy as np

SIDE = 16


class _Bits:
    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        self.bits += [value >> i & 1 for i in range(count - 1, -1, -1)]

    def ue(self, *values: int) -> None:
        """Exponential Golomb codes."""
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)

    def trail(self) -> bytes:
        self.put(1, 1)
        return self.whole()

    def whole(self) -> bytes:
        self.bits += [0] * (-len(self.bits) % 8)
        return np.packbits(np.array(self.bits, np.uint8)).tobytes()


def _unit(kind: int, payload: bytes) -> bytes:
    """A NAL unit, with the bytes that keep start codes out of it."""
    safe = bytearray()
    for byte in payload:
        if safe[-2:] == b"\0\0" and byte <= 3:
            safe.append(3)
        safe.append(byte)
    return bytes([kind << 1, 1]) + bytes(safe)


def _profile(bits: _Bits) -> None:
    bits.put(0b00_0_00011, 8)  # profile 3: main still picture
    bits.put(0x70000000, 32)  # compatible with 1, 2, 3
    bits.put(0b1011, 4)
    bits.put(0, 44)
    bits.put(30, 8)  # level 1


def _parameter_sets() -> tuple[bytes, bytes, bytes]:
    video = _Bits()
    video.put(0, 4)
    video.put(0b11, 2)
    video.put(0, 6)
    video.put(0, 3)
    video.put(1, 1)
    video.put(0xFFFF, 16)
    _profile(video)
    video.put(1, 1)
    video.ue(0, 0, 0)
    video.put(0, 6)
    video.ue(0)
    video.put(0, 2)
    sequence = _Bits()
    sequence.put(0, 4)
    sequence.put(0, 3)
    sequence.put(1, 1)
    _profile(sequence)
    sequence.ue(0, 1, SIDE, SIDE)  # id, 4:2:0, width, height
    sequence.put(0, 1)
    sequence.ue(0, 0, 0)  # 8 bits twice, order counts of 4 bits
    sequence.put(1, 1)
    sequence.ue(0, 0, 0)
    sequence.ue(0, 1, 0, 2, 0, 0)  # coding blocks 8 to 16, transforms 4 to 16
    sequence.put(0, 3)  # no scaling lists, no asymmetric partitions, no sample adaptive offset
    sequence.put(1, 1)  # PCM
    sequence.put(7, 4)
    sequence.put(7, 4)
    sequence.ue(0, 1)  # of 8 to 16
    sequence.put(1, 1)  # and no loop filter over it
    sequence.ue(0)
    sequence.put(0, 5)  # no long-term pictures, no temporal prediction, no smoothing, no VUI, no extension
    picture = _Bits()
    picture.ue(0, 0)
    picture.put(0, 7)
    picture.ue(0, 0, 0)
    picture.put(0, 3)
    picture.ue(0, 0)
    picture.put(0, 7)
    picture.put(1, 1)  # deblocking control present:
    picture.put(0b01, 2)  # not overridden, and off
    picture.put(0, 2)
    picture.ue(0)
    picture.put(0, 2)
    return tuple(_unit(kind, bits.trail()) for kind, bits in ((32, video), (33, sequence), (34, picture)))  # type: ignore[return-value]


class _Arithmetic:
    """The encoder of 9.3.4.6 and 9.3.4.8, as far as a flag or two need it."""

    def __init__(self, bits: _Bits) -> None:
        self.bits, self.low, self.range, self.first, self.waiting = bits, 0, 510, True, 0

    def likely(self, least: int) -> None:
        """The likelier value of a context whose other value has the width ``least``."""
        self.range -= least
        self._renormalise()

    def terminate(self) -> None:
        self.range -= 2
        self.low += self.range
        self.range = 2
        self._renormalise()
        self._bit(self.low >> 9 & 1)
        self.bits.put(self.low >> 7 & 3 | 1, 2)

    def _renormalise(self) -> None:
        while self.range < 256:
            if self.low < 256:
                self._bit(0)
            elif self.low >= 512:
                self.low -= 512
                self._bit(1)
            else:
                self.low -= 256
                self.waiting += 1
            self.range, self.low = self.range << 1, self.low << 1

    def _bit(self, value: int) -> None:
        if self.first:
            self.first = False
        else:
            self.bits.put(value, 1)
        self.bits.bits += [1 - value] * self.waiting
        self.waiting = 0


def _slice(grey: np.ndarray) -> bytes:
    bits = _Bits()
    bits.put(0b10, 2)  # the first slice, other pictures are kept
    bits.ue(0, 2)  # parameter set, intra
    bits.ue(0)  # quantisation as it was
    bits.put(1, 1)
    bits.whole()
    engine = _Arithmetic(bits)
    engine.likely(240)  # the block is not split: state 0, range 510, see table 9-46
    engine.terminate()  # PCM
    bits.whole()
    for sample in (*grey.ravel(), *(128,) * (SIDE * SIDE // 2)):
        bits.put(int(sample), 8)
    _Arithmetic(bits).terminate()  # the end
    return _unit(19, bits.whole())


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, version: int, *content: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24), *content)


def heif_photo(grey: np.ndarray, *, quarter_turns: int = 0) -> bytes:
    """A HEIF file of 16x16 grey values; ``quarter_turns`` counter-clockwise are to be made when it is shown."""
    sets, coded = _parameter_sets(), _slice(grey)
    arrays = b"".join(
        struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit for kind, unit in zip((32, 33, 34), sets, strict=True)
    )
    configuration = bytes([1, 3]) + struct.pack(">I", 0x70000000) + bytes.fromhex("b00000000000") + bytes([30])
    configuration += bytes.fromhex("f000fcfdf8f800000f03") + arrays
    properties = [_box(b"hvcC", configuration), _full(b"ispe", 0, struct.pack(">II", SIDE, SIDE))]
    if quarter_turns:
        properties.append(_box(b"irot", bytes([quarter_turns])))
    places = bytes([0x81, 2, 3][: len(properties)])
    item = struct.pack(">I", len(coded)) + coded

    places_of_one = struct.pack(">IHB", 1, 1, len(places)) + places

    def meta(offset: int) -> bytes:
        return _full(
            b"meta",
            0,
            _full(b"hdlr", 0, bytes(4) + b"pict" + bytes(13)),
            _full(b"pitm", 0, struct.pack(">H", 1)),
            _full(b"iinf", 0, struct.pack(">H", 1), _full(b"infe", 2, struct.pack(">HH", 1, 0) + b"hvc1\0")),
            _full(b"iloc", 0, struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, offset, len(item))),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", 0, places_of_one)),
        )

    head = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", item)
