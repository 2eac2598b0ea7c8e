"""Playing a video with depth: what is shown when, and what is left out because it would come too late.

One thread decodes, a little ahead; another estimates; whoever shows the frames takes the newest one when there is room
for it. A clock runs
with the video. A frame that is behind the clock by the time it could be estimated is dropped, and so is one that was
not fetched before the next was ready: slow machines show fewer frames, never old ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from depth_anything_3.errors import DA3Error
from depth_anything_3.view.frames import DepthFrame

if TYPE_CHECKING:
    from depth_anything_3.io.video import VideoFrame
    from depth_anything_3.view.estimate import Estimator

Reader = Callable[[float], Iterator["VideoFrame"]]
"""The frames of the video from a time in seconds on, in order."""

T = TypeVar("T")

_AHEAD = 3
"""Frames that are decoded before they are due."""

_LATE = 0.05
"""Seconds behind the clock at which a frame is still worth estimating."""


def read_ahead(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The same items, up to ``count`` of them made before they are asked for, in a thread of their own.

    Errors come where the item would have come. Closing it waits for the item that is being made.
    """
    end: Any = object()
    pool = ThreadPoolExecutor(1, "read-ahead")
    try:
        pending = deque(pool.submit(next, items, end) for _ in range(count))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class Counts:
    """What became of the frames: estimated and handed over, dropped before the network, dropped after it."""

    shown: int = 0
    late: int = 0
    replaced: int = 0


class Playback:
    """One showing of a video. Methods may be called from any thread.

    Args:
        read: see :data:`Reader`.
        estimate: adds depth to a frame.
        reset: called after a jump, before the next frame is estimated.
        on_ready: called from the thread whenever :meth:`take` would give something new.
        now: a clock in seconds, for tests.
    """

    def __init__(
        self,
        read: Reader,
        estimate: Estimator,
        *,
        reset: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._estimate, self._reset, self._on_ready, self._now = read, estimate, reset, on_ready, now
        self._changed = threading.Condition()
        self._newest: DepthFrame | None = None
        self._start, self._generation, self._playing, self._closed = 0.0, 0, True, False
        self._zero: float | None = None  # reading of the clock at which the video was at 0
        self.counts, self.ended = Counts(), False
        self.error: str | None = None
        self._thread = threading.Thread(target=self._run, name="playback", daemon=True)

    def start(self) -> None:
        """Begin to read and to estimate."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end after the frame it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and wait for it."""
        self.stop()
        self._thread.join()

    def seek(self, seconds: float) -> int:
        """Go on at another time. Frames from before do not come any more; the new generation is returned."""
        with self._changed:
            self._start, self._generation = max(0.0, seconds), self._generation + 1
            self._newest, self._zero, self.ended = None, None, False
            self._changed.notify_all()
            return self._generation

    def set_playing(self, playing: bool) -> None:
        """Play or pause; a paused video still shows one frame after a jump."""
        with self._changed:
            self._playing, self._zero = playing, None
            self._changed.notify_all()

    def take(self) -> DepthFrame | None:
        """The newest frame, if it was not taken before."""
        with self._changed:
            frame, self._newest = self._newest, None
            self.counts.shown += frame is not None
            return frame

    def _run(self) -> None:
        sequence, generation = 0, -1
        while not self._closed:
            with self._changed:
                while self._generation == generation and not self._closed:
                    self._changed.wait()
                generation, start = self._generation, self._start
            if not self._closed:
                sequence = self._play(start, generation, sequence)

    def _play(self, start: float, generation: int, sequence: int) -> int:
        """Show frames until the end, a jump, or an error; gives the number of the next frame."""
        try:
            self._reset()
            with closing(read_ahead(self._read(start), _AHEAD)) as frames:
                for number, frame in enumerate(frames):
                    if self._wait_for(frame.timestamp, generation, first=number == 0):
                        shown = replace(self._estimate(frame), sequence=sequence, generation=generation)
                        self._offer(shown, first=number == 0)
                        sequence += 1
                    if self._is_over(generation):
                        return sequence
            self._finish(generation, None)
        except (DA3Error, OSError) as error:
            self._finish(generation, str(error))
        return sequence

    def _wait_for(self, timestamp: float, generation: int, *, first: bool) -> bool:
        """Wait until a frame is due; False if it comes too late or is not wanted any more."""
        with self._changed:
            while not self._playing and not first and not self._is_over(generation):
                self._changed.wait()
            if self._zero is None:
                self._zero = self._now() - timestamp
            while not self._is_over(generation) and self._playing and self._zero is not None:
                early = timestamp - (self._now() - self._zero)
                if early < -_LATE and not first:
                    self.counts.late += 1
                    return False
                if early <= 0:
                    return True
                self._changed.wait(early)
            return not self._is_over(generation)

    def _is_over(self, generation: int) -> bool:
        return self._closed or self._generation != generation

    def _offer(self, frame: DepthFrame, *, first: bool) -> None:
        with self._changed:
            if self._is_over(frame.generation):
                return
            self.counts.replaced += self._newest is not None
            self._newest = frame
            if first:  # it also paid for loading whatever loads when first used
                self._zero = self._now() - frame.timestamp
        self._on_ready()

    def _finish(self, generation: int, error: str | None) -> None:
        with self._changed:
            if self._is_over(generation):
                return
            self.ended, self.error = True, error
        self._on_ready()
