"""Frames per second of ``da3 view``, as a page gets them.

    python benchmarks/view.py VIDEO > benchmarks/results/view.json

Starts ``da3 view VIDEO`` as a process of its own, connects like the page, acknowledges every frame at once, and counts
for ``--seconds`` after the first frames; at its end the video begins again. ``processor_ms`` is the processor time of
the server for a frame that arrived, which other programs on the machine do not change. Drawing is not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from depth_anything_3.serve.supervisor import processor_seconds
from depth_anything_3.view.frames import HEADER

_FIRST = 5
"""Frames before the clock starts: what is loaded when it is first used has been loaded by then."""


def start(arguments: argparse.Namespace) -> tuple[subprocess.Popen[str], str]:
    """The server, and the address of its WebSocket."""
    typed = ["--port", "0", "--model-dir", arguments.model, "--fps", str(arguments.fps)]
    typed += ["--process-res", str(arguments.process_res), "--device", "cpu"]
    command = [sys.executable, "-c", "from depth_anything_3.cli import main; main()", "view", str(arguments.video)]
    process = subprocess.Popen([*command, *typed], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.split("http://")[1].split("/")[0]


def watch(address: str, pid: int, seconds: float) -> dict[str, Any]:
    """What comes over the WebSocket."""
    times: list[float] = []
    stamps: list[float] = []
    spent, size = 0.0, (0, 0)
    with connect(f"ws://{address}/stream", max_size=None, proxy=None) as socket:
        while len(times) <= _FIRST or times[-1] - times[_FIRST] < seconds:
            message = socket.recv()
            if isinstance(message, str):
                if json.loads(message)["type"] == "end":
                    socket.send(json.dumps({"type": "seek", "time": 0}))
                continue
            socket.send(json.dumps({"type": "shown"}))
            fields = HEADER.unpack_from(message)
            times.append(time.perf_counter())
            stamps.append(fields[5])
            size = (fields[7], fields[6])
            if len(times) == _FIRST + 1:
                spent = processor_seconds(pid)
        spent = processor_seconds(pid) - spent
    gaps = [after - before for before, after in pairwise(times[_FIRST:])]
    return {
        "size": size,
        "frames": len(gaps),
        "fps": round(len(gaps) / (times[-1] - times[_FIRST]), 2),
        "gap_ms": {"p50": round(1000 * statistics.median(gaps), 1), "max": round(1000 * max(gaps), 1)},
        "processor_ms": round(1000 * spent / len(gaps), 1),
        "jumps_back": sum(after < before for before, after in pairwise(stamps)),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--process-res", type=int, default=252)
    parser.add_argument("--fps", type=float, default=15.0, help="most frames per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    process, address = start(arguments)
    try:
        report = watch(address, process.pid, arguments.seconds)
    finally:
        process.terminate()
        process.wait()
    shared = {"script": Path(__file__).name, "video": arguments.video.name, "model": arguments.model}
    machine = {"cores": os.cpu_count(), "load_average": [round(value, 1) for value in os.getloadavg()]}
    print(json.dumps({**shared, "process_res": arguments.process_res, **report, **machine}))


if __name__ == "__main__":
    main()
