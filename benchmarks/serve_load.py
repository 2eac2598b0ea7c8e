"""Load on the server, and the death of its processes under it.

    python benchmarks/serve_load.py --model bundled > benchmarks/results/serve_load.json
    python benchmarks/serve_load.py --clients 20 --seconds 60 --kills 20 > benchmarks/results/serve_kills.json

The first: 200 clients submit and poll for two minutes; the second: kill -9 of server and worker, at random. Without
``--model`` the network is left out (a predictor that only writes files), because everything around it is the point.

The server is a process of its own, its worker another; the clients share this one, and ``client_late_ms`` says by how
much this process itself was late: that is part of every other time. ``server_processor_ms`` is the processor time of
the server for one answer, which other programs on the machine do not change. Prints one JSON object, and ends
with status 1 if a job was lost or ended twice, or if the server held more than a fifth more memory at the end than in
the middle.
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

from depth_anything_3.serve.supervisor import processor_seconds, resident_bytes


def picture() -> bytes:
    """A small photo."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((320, 240)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


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
    client_late_ms: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    memory_mb: list[list[float]] = field(default_factory=list)


class ServerProcess:
    """A server in a process of its own, which is started again whenever it is gone."""

    def __init__(self, folder: Path, model: str | None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        predictor = (
            "serve_load:WritingPredictor" if model is None else "depth_anything_3.serve.predictors:ModelPredictor"
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


class Connection:
    """One connection that is kept open. Plain sockets: a full HTTP client would take more time than the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer. Raises OSError where there is none."""
        lines = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            content = await reader.readexactly(int(answer.split("content-length: ")[1].split("\r\n")[0]))
            if "connection: close" in answer:
                self.close()
        except (OSError, EOFError) as error:
            self.close()
            raise OSError(str(error)) from error
        return int(answer.split()[1]), json.loads(content)

    def close(self) -> None:
        """Hang up; the next question connects anew."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def submission(options: str) -> tuple[bytes, str]:
    """Body and content type of a submission."""
    request = httpx.Request(
        "POST", "http://localhost/", files={"images": ("a.jpg", picture())}, data={"options": options}
    )
    return request.read(), request.headers["content-type"]


async def one_client(port: int, end: float, report: Report, arguments: argparse.Namespace) -> None:
    """Submit, poll until the job has ended, begin again; after the end the last job is polled until it has ended."""
    connection, (body, kind) = Connection(port), submission(arguments.options)
    while time.monotonic() < end:
        key = secrets.token_hex(8)
        while True:  # the same key until there is an answer: an accepted job is not submitted twice
            begun = time.perf_counter()
            try:
                status, job = await connection.ask("POST", "/v1/jobs", body, Content_Type=kind, Idempotency_Key=key)
                break
            except OSError:
                report.unreachable += 1
                await asyncio.sleep(0.1)
        report.submit_ms.append(1000 * (time.perf_counter() - begun))
        if status != 202:
            report.refused[status] += 1
            await asyncio.sleep(0.5)
            continue
        report.accepted.append(job["id"])
        await poll(connection, job["id"], end + arguments.patience, report, arguments.poll)
    connection.close()


async def poll(connection: Connection, job: str, end: float, report: Report, pause: float) -> None:
    """Ask for a job until it has ended or there is no more time."""
    await asyncio.sleep(random.uniform(0, pause))
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            _, answer = await connection.ask("GET", f"/v1/jobs/{job}")
            report.status_ms.append(1000 * (time.perf_counter() - begun))
            if answer["status"] not in ("queued", "running"):
                return
        except OSError:
            report.unreachable += 1
        await asyncio.sleep(pause)


async def watch_clients(report: Report) -> None:
    """How late the clients themselves are: it is in every time that they measure."""
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.02)
        report.client_late_ms.append(1000 * (time.perf_counter() - begun) - 20)


def kill_at_random(server: ServerProcess, count: int, seconds: float, report: Report, seed: int) -> None:
    """So many kill -9, spread over the time."""
    rng = random.Random(seed)
    for _ in range(count):
        time.sleep(rng.uniform(0.3, 1.7) * seconds / count)
        what = rng.choice(["server", "worker"])
        server.kill(what)
        report.kills[what] += 1


def watch_memory(server: ServerProcess, report: Report, stop: threading.Event) -> None:
    """Note every second what the server and its worker hold."""
    begun = time.monotonic()
    while not stop.wait(1.0):
        process, worker = server.process, server.worker()
        if process is not None:
            sizes = [round(resident_bytes(pid) / 1e6, 1) for pid in (process.pid, worker) if pid is not None]
            report.memory_mb.append([round(time.monotonic() - begun, 1), *sizes])


def growth(series: list[list[float]]) -> float | None:
    """How much more the server held at the end than in the middle, as a share; None for less than four readings.

    The medians of the second and of the last quarter: at first everything is still being loaded.
    """
    quarter = len(series) // 4
    if quarter < 1:
        return None
    middle, last = (
        statistics.median(entry[1] for entry in part) for part in (series[quarter : 2 * quarter], series[-quarter:])
    )
    return round(last / middle - 1, 3)


async def load(server: ServerProcess, arguments: argparse.Namespace, report: Report) -> None:
    """All clients at once, and the killer beside them."""
    end = time.monotonic() + arguments.seconds
    lateness = asyncio.create_task(watch_clients(report))
    clients = [one_client(server.port, end, report, arguments) for _ in range(arguments.clients)]
    killer = asyncio.to_thread(kill_at_random, server, arguments.kills, arguments.seconds * 0.8, report, arguments.seed)
    await asyncio.gather(*clients, killer)
    lateness.cancel()


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


def milliseconds(values: list[float]) -> dict[str, float | int | None]:
    """Count, median, 99th percentile and maximum."""
    most = round(max(values), 1) if values else None
    return {"count": len(values), "p50": percentile(values, 50), "p99": percentile(values, 99), "max": most}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0, help="of submitting; then the last jobs are awaited")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds for the last jobs to end")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between two questions of a client")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--model", help="run this model instead of writing files")
    parser.add_argument("--options", default='{"process_res": 252}', help="of every job, as JSON")
    return parser.parse_args(argv)


def run(folder: Path, arguments: argparse.Namespace) -> tuple[Report, dict[str, Any]]:
    """What the clients saw, and what the queue says afterwards."""
    report, stop = Report(), threading.Event()
    server = ServerProcess(folder / "data", arguments.model)
    server.start()
    watcher = threading.Thread(target=watch_memory, args=(server, report, stop))
    watcher.start()
    assert server.process is not None
    pid, before = server.process.pid, processor_seconds(server.process.pid)
    try:
        asyncio.run(load(server, arguments, report))
        stop.set()
        answers = len(report.submit_ms) + len(report.status_ms)
        spent = None if arguments.kills else 1000 * (processor_seconds(pid) - before) / max(1, answers)
        ends = Counter(drain(server, set(report.accepted), arguments.patience).values())
        with sqlite3.connect(server.folder / "queue.sqlite") as db:
            queries = {
                "counted": "SELECT coalesce(sum(jobs), 0) FROM usage",
                "completed": "SELECT count(*) FROM jobs WHERE status='completed'",
                "begun_again": "SELECT count(*) FROM jobs WHERE runs > 1",
            }
            found = {name: db.execute(query).fetchone()[0] for name, query in queries.items()}
    finally:
        stop.set()
        watcher.join()
        server.stop()
    return report, {"ends": dict(ends), **found, "server_processor_ms": spent and round(spent, 3)}


def main(argv: list[str] | None = None) -> int:
    """Run and report."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        report, queue = run(Path(folder), arguments)
    more = growth(report.memory_mb)
    checks = {
        "no_job_lost": bool(queue["ends"]) and not {"lost", "queued", "running"} & queue["ends"].keys(),
        "counted_once": queue["counted"] == queue["completed"] and len(report.accepted) == len(set(report.accepted)),
        "memory_bounded": arguments.kills > 0 or more is None or more < 0.2,
    }
    summary = {
        "script": Path(__file__).name,
        **{name: getattr(arguments, name) for name in ("clients", "seconds", "poll", "model")},
        "kills": dict(report.kills),
        "accepted": len(report.accepted),
        **queue,
        **checks,
        "refused": dict(report.refused),
        "connections_lost": report.unreachable,
        "submit_ms": milliseconds(report.submit_ms),
        "status_ms": milliseconds(report.status_ms),
        "client_late_ms": milliseconds(report.client_late_ms),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "memory_growth": more,
        "memory_mb": {"columns": ["seconds", "server", "worker"], "rows": report.memory_mb},
    }
    print(json.dumps(summary))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
