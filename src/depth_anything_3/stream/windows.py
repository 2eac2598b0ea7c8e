"""Which frames the network sees together.

Consecutive windows share a few frames, by which they are joined. Each frame is *owned* by one window, whose depth and
camera it gets; the border lies in the middle of the shared frames, away from the ends of both windows, where a network
knows least.
"""

from __future__ import annotations

from dataclasses import dataclass

from depth_anything_3.errors import InputError

WINDOW_SIZE, WINDOW_OVERLAP = 120, 12
"""Frames per window and frames shared by neighbours: 1.11 frames inferred for each frame of a long sequence."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A run of frames.

    Attributes:
        start, stop: the frames that the network sees, ``start <= frame < stop``.
        own_start, own_stop: the part that the window owns.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def frames(self) -> range:
        """All frames of the window."""
        return range(self.start, self.stop)


def plan_windows(frames: int, *, size: int = WINDOW_SIZE, overlap: int = WINDOW_OVERLAP) -> list[Window]:
    """Windows for a sequence of known length: as few as possible, and about equally long.

    Neighbours share exactly ``overlap`` frames, so frames + (windows - 1) * overlap frames are inferred. A sequence
    that fits one window is one window.

    Args:
        frames: length of the sequence, at least 1.
        size: the most frames of a window.
        overlap: shared frames, at least 1 and below ``size``. 8 to 16 work well; up to a sixth of ``size`` keeps the
            work below 1.2 times that of seeing each frame once.

    Raises:
        InputError: a number is out of range.
    """
    if frames < 1:
        raise InputError("frames", str(frames), "at least one frame")
    if not 1 <= overlap < size:
        raise InputError("overlap", str(overlap), f"at least 1 and below the window size, {size}")
    count = 1 if frames <= size else -(-(frames - overlap) // (size - overlap))
    # Window k begins where an even division of the frames behind the first overlap says.
    starts = [k * (frames - overlap) // count for k in range(count)] if count > 1 else [0]
    stops = [start + overlap for start in starts[1:]] + [frames]
    borders = [0, *(start + overlap // 2 for start in starts[1:]), frames]
    return [
        Window(start=start, stop=stop, own_start=first, own_stop=last)
        for start, stop, first, last in zip(starts, stops, borders, borders[1:], strict=False)
    ]
