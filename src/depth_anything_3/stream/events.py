"""What a reconstruction tells its caller while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from depth_anything_3.stream.alignment import Alignment
from depth_anything_3.stream.loops import LoopCandidate, LoopCheck
from depth_anything_3.stream.windows import Window

Conditioning = Literal["none", "held", "disagreed"]
"""Whether the network was told the cameras of the frames that a window shares: no; yes, and it kept to them; or yes,
but it did not, so that it saw the window again without, and is told none from then on."""

CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTracked:
    """A frame has a camera for the first time. Every frame is told once, in order.

    Attributes:
        frame: its number, from 0.
        extrinsics: world-to-camera, as known now; later frames may move it, see :class:`PosesUpdated`.
        intrinsics: in pixels of the frame as it came.
        timestamp: as it came.
    """

    frame: int
    extrinsics: Float[np.ndarray, "3 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    timestamp: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowAdded:
    """A window was seen by the network and joined to the last one.

    Attributes:
        window: its frames.
        alignment: how it lies in the last one; None for the first.
        conditioning: what the network was told.
    """

    window: Window
    alignment: Alignment | None
    conditioning: Conditioning


@dataclass(frozen=True, kw_only=True)
class LoopChecked:
    """The network looked at a place that seemed to be seen again.

    Attributes:
        candidate: the two frames.
        check: what it found; ``check.accepted`` says whether the loop is taken.
    """

    candidate: LoopCandidate
    check: LoopCheck


@dataclass(frozen=True, kw_only=True)
class PosesUpdated:
    """Cameras that were told before have moved: frames ``first <= frame < last``."""

    first: int
    last: int


Event = FrameTracked | WindowAdded | LoopChecked | PosesUpdated
