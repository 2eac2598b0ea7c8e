"""Frames that are read while the network runs, and frames that come whether it runs or not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from depth_anything_3.errors import InputError
from depth_anything_3.stream.events import Event
from depth_anything_3.stream.frames import Picture, StreamFrame
from depth_anything_3.stream.reconstructor import StreamingReconstructor

_END = object()


def feed(stream: StreamingReconstructor, frames: Iterable[StreamFrame | Any]) -> Iterator[Event]:
    """Push all frames; another thread reads and resizes the next ones while the network looks at a window.

    Args:
        stream: takes the frames; ``stream.options.queue`` of them are read ahead.
        frames: frames, or images.

    Yields:
        what happens. :meth:`StreamingReconstructor.finalize` is left to the caller.

    Raises:
        what reading a frame or the network raises.
    """
    waiting: queue.Queue[Any] = queue.Queue(stream.options.queue)
    stopped = threading.Event()

    def read() -> None:
        try:
            for frame in frames:
                whole = frame if isinstance(frame, StreamFrame) else StreamFrame(image=frame)
                if not _put(waiting, stream.prepare(whole), stopped):
                    return
            _put(waiting, _END, stopped)
        except BaseException as error:  # raised again where the frames are taken
            _put(waiting, error, stopped)

    reader = threading.Thread(target=read, name="read frames", daemon=True)
    reader.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield from stream.take(item)
    finally:
        stopped.set()
        reader.join()


def _put(waiting: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False


class LiveReconstruction:
    """A sequence whose frames come at their own pace, such as those of a camera; the network runs in a thread.

    Frames wait in a queue of ``stream.options.queue``. Where it is full, ``stream.options.when_full`` says whether
    :meth:`push` waits or leaves the frame out.

    Args:
        stream: takes the frames; nobody else may use it before :meth:`finish`.

    Attributes:
        dropped: frames that were left out.
    """

    def __init__(self, stream: StreamingReconstructor) -> None:
        self.stream, self.dropped = stream, 0
        self._waiting: queue.Queue[Any] = queue.Queue(stream.options.queue)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._worker = threading.Thread(target=self._work, name="reconstruct", daemon=True)
        self._worker.start()

    def push(self, frame: StreamFrame | Any) -> list[Event]:
        """Hand over a frame; what has happened since the last call.

        Raises:
            InputError: the frame cannot be read or does not fit, or :meth:`finish` was called.
            what the network raised while it looked at frames that came before.
        """
        if self._stopped.is_set():
            self._raise()
            raise InputError("frame", "one after the end", "frames before finish()")
        picture = self.stream.prepare(frame if isinstance(frame, StreamFrame) else StreamFrame(image=frame))
        if self.stream.options.when_full == "block":
            _put(self._waiting, picture, self._stopped)
        else:
            try:
                self._waiting.put_nowait(picture)
            except queue.Full:
                self.dropped += 1
        self._raise()
        return self.events()

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def finish(self) -> list[Event]:
        """Wait for all frames, look for loops, and fit everything; the last events.

        Raises:
            what the network raised.
        """
        _put(self._waiting, _END, self._stopped)
        self._worker.join()
        self._stopped.set()
        self._raise()
        return [*self.events(), *self.stream.finalize()]

    def _work(self) -> None:
        try:
            while isinstance(picture := self._waiting.get(), Picture):
                for event in self.stream.take(picture):
                    self._events.put(event)
        except BaseException as error:  # raised again in the caller's thread
            self._error = error
            self._stopped.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
