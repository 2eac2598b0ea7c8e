"""Load on the server, and the death of its processes under it.

    python tools/load_server.py --clients 200 --seconds 120     clients that submit and poll; no job is lost
    python tools/load_server.py --clients 20 --kills 20         kill -9 of server and worker, at random, under load

The network is left out (a predictor that only writes files), because everything around it is the point; ``--model``
puts one in. Prints one JSON object and ends with status 1 if a job was lost or ended twice.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from depth_anything_3.serve.supervisor import resident_bytes


def picture() -> bytes:
    """A small photo."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    return buffer.getvalue()


_PICTURE = picture()


class WritingPredictor:
    """Takes 20 ms and writes one file."""

    def __init__(self, settings: Any, device: str) -> None:
        pass

    def load(self) -> dict[str, Any]:
        """Nothing to load."""
        return {"device": "none", "process_res": 56, "cameras": True, "model_name": "writing"}

    def run(self, tasks: Any, report: Any, cancel: Any) -> list[dict[str, Any]]:
        """Write the file of each task."""
        for task in tasks:
            time.sleep(0.02)
            (task.folder / "exports.json").write_text("{}")
        return [{"views": []} for _ in tasks]


@dataclass
class Report:
    """What the clients saw."""

    accepted: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    unreachable: int = 0
    submit_ms: list[float] = field(default_factory=list)
    status_ms: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    most_bytes: int = 0


class ServerProcess:
    """A server in a process of its own, which is started again whenever it is gone."""

    def __init__(self, folder: Path, model: str | None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        predictor = (
            "load_server:WritingPredictor" if model is None else "depth_anything_3.serve.predictors:ModelPredictor"
        )
        self._code = (
            "import sys; from depth_anything_3.serve.settings import *; from depth_anything_3.serve.app import serve; "
            f"limits = Limits(requests_per_minute=10_000_000, queued=100_000); "
            f"serve(ServerSettings(data_dir={str(folder)!r}, port={self.port}, model={model or 'bundled'!r}, "
            f"predictor={predictor!r}, limits=limits))"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        path = os.pathsep.join([str(Path(__file__).resolve().parent), *sys.path])
        with (self.folder.parent / "server.log").open("ab") as log:
            command = [sys.executable, "-c", self._code]
            self.process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=log)
        while True:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)

    def worker(self) -> int | None:
        """Process id of the worker, if it has said so."""
        try:
            with sqlite3.connect(f"file:{self.folder / 'queue.sqlite'}?mode=ro", uri=True) as db:
                row = db.execute("SELECT state FROM workers").fetchone()
            return int(json.loads(row[0])["pid"])
        except (sqlite3.Error, TypeError, KeyError):
            return None

    def kill(self, what: str) -> None:
        """kill -9 of ``server`` or ``worker``."""
        pid = self.worker() if what == "worker" else self.process.pid if self.process else None
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        if what == "server" and self.process is not None:
            self.process.wait()
            self.start()

    def stop(self) -> None:
        """End it in an orderly way."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


async def one_client(url: str, end: float, report: Report, pause: float) -> None:
    """Submit, poll until the job has ended, begin again."""
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits, verify=False, trust_env=False) as client:
        while time.monotonic() < end:
            key = secrets.token_hex(8)
            while True:  # the same key until there is an answer: an accepted job is not submitted twice
                begun = time.perf_counter()
                try:
                    files = {"images": ("a.png", _PICTURE)}
                    answer = await client.post("/v1/jobs", files=files, headers={"Idempotency-Key": key})
                    break
                except httpx.TransportError:
                    report.unreachable += 1
                    await asyncio.sleep(0.1)
            report.submit_ms.append(1000 * (time.perf_counter() - begun))
            if answer.status_code != 202:
                report.refused[answer.status_code] += 1
                await asyncio.sleep(0.5)
                continue
            job = answer.json()["id"]
            report.accepted.append(job)
            while time.monotonic() < end:
                await asyncio.sleep(pause)
                begun = time.perf_counter()
                try:
                    status = (await client.get(f"/v1/jobs/{job}")).json()["status"]
                except httpx.TransportError:
                    report.unreachable += 1
                    continue
                report.status_ms.append(1000 * (time.perf_counter() - begun))
                if status not in ("queued", "running"):
                    break


def kill_at_random(server: ServerProcess, count: int, seconds: float, report: Report, seed: int) -> None:
    """So many kill -9, spread over the time."""
    rng = random.Random(seed)
    for _ in range(count):
        time.sleep(rng.uniform(0.3, 1.7) * seconds / count)
        what = rng.choice(["server", "worker"])
        server.kill(what)
        report.kills[what] += 1


def watch_memory(server: ServerProcess, report: Report, stop: threading.Event) -> None:
    """Note the most memory that the server has held."""
    while not stop.wait(0.5):
        if server.process is not None:
            report.most_bytes = max(report.most_bytes, resident_bytes(server.process.pid))


async def load(server: ServerProcess, arguments: argparse.Namespace, report: Report) -> None:
    """All clients at once, and the killer beside them."""
    end = time.monotonic() + arguments.seconds
    clients = [one_client(server.url, end, report, arguments.poll) for _ in range(arguments.clients)]
    killer = asyncio.to_thread(kill_at_random, server, arguments.kills, arguments.seconds * 0.8, report, arguments.seed)
    await asyncio.gather(*clients, killer)


def drain(server: ServerProcess, accepted: set[str], patience: float) -> dict[str, str]:
    """Status of every accepted job once all have ended, or patience has."""
    end = time.monotonic() + patience
    while True:
        with sqlite3.connect(server.folder / "queue.sqlite") as db:
            found = dict(db.execute("SELECT id, status FROM jobs").fetchall())
        if time.monotonic() > end or not {"queued", "running"} & set(found.values()):
            return {job: found.get(job, "lost") for job in accepted}
        time.sleep(0.2)


def percentile(values: list[float], share: float) -> float | None:
    """A percentile in milliseconds."""
    if len(values) < 2:
        return None
    return round(statistics.quantiles(values, n=1000, method="inclusive")[int(share * 10) - 1], 1)


def main(argv: list[str] | None = None) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between two questions of a client")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="run this model instead of writing files")
    arguments = parser.parse_args(argv)
    report, stop = Report(), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "data", arguments.model)
        server.start()
        watcher = threading.Thread(target=watch_memory, args=(server, report, stop))
        watcher.start()
        try:
            asyncio.run(load(server, arguments, report))
            accepted = Counter(report.accepted)
            ends = Counter(drain(server, set(accepted), patience=120).values())
            with sqlite3.connect(server.folder / "queue.sqlite") as db:
                usage = db.execute("SELECT coalesce(sum(jobs), 0) FROM usage").fetchone()[0]
                completed = db.execute("SELECT count(*) FROM jobs WHERE status='completed'").fetchone()[0]
                again = db.execute("SELECT count(*) FROM jobs WHERE runs > 1").fetchone()[0]
        finally:
            stop.set()
            watcher.join()
            server.stop()
    good = not {"lost", "queued", "running"} & ends.keys() and usage == completed
    summary = {
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "kills": dict(report.kills),
        "accepted": len(accepted),
        "ends": dict(ends),
        "counted_once": usage == completed,
        "begun_again": again,
        "refused": dict(report.refused),
        "connections_lost": report.unreachable,
        "submit_ms": {"p50": percentile(report.submit_ms, 50), "p99": percentile(report.submit_ms, 99)},
        "status_ms": {"p50": percentile(report.status_ms, 50), "p99": percentile(report.status_ms, 99)},
        "server_most_mb": round(report.most_bytes / 1e6),
    }
    print(json.dumps(summary, indent=1))
    return 0 if good and ends else 1


if __name__ == "__main__":
    sys.exit(main())
