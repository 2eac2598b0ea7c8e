"""A long sequence from the oracle, whole or killed and gone on with. Also a program: FOLDER [CRASH_AFTER]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from depth_anything_3.stream.loops import LoopOptions
from depth_anything_3.stream.mapper import MapperOptions
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture, make_oracle_world
from depth_anything_3.types.options import StreamOptions

FRAMES = 110
WORLD = make_oracle_world(FRAMES, laps=2)
OPTIONS = StreamOptions(window=24, overlap=6, loops="online")
MAPPER = MapperOptions(loops=LoopOptions(least_gap=30, apart=10, share=0.5, least_similarity=0.2))


def open_stream(folder: Path | None) -> StreamingReconstructor:
    """A reconstruction of the oracle's ring, new or gone on with."""
    return StreamingReconstructor(OracleModel(Oracle(world=WORLD)), OPTIONS, mapper=MAPPER, store=folder)


def run(stream: StreamingReconstructor) -> None:
    """Push what is missing, and finish."""
    for frame in range(stream.received, FRAMES):
        stream.push(frame_picture(frame), timestamp=0.1 * frame, name=f"{frame}.png")
    stream.finalize()


def main() -> None:
    """Run, and die in the midst of the so manieth write to the log."""
    with open_stream(Path(sys.argv[1])) as stream:
        if len(sys.argv) > 2:
            _die_at_write(stream, int(sys.argv[2]))
        run(stream)
        np.save(Path(sys.argv[1]) / ".poses.npy", stream.trajectory())


def _die_at_write(stream: StreamingReconstructor, number: int) -> None:
    append, left = stream.store._append, [number]

    def dying(kind: str, key: int, content: bytes) -> None:
        left[0] -= 1
        append(kind, key, content)
        if left[0] <= 0:
            stream.store._file.flush()
            # Half of the last record reaches the disk.
            stream.store._file.truncate(stream.store._end - len(content) // 2 - 1)
            os.kill(os.getpid(), signal.SIGKILL)

    stream.store._append = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
