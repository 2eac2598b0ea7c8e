"""What the server has done and is doing, in the text format that Prometheus reads."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator

from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.supervisor import processor_seconds, resident_bytes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper ends in seconds of the histogram of answers."""


class Requests:
    """Counts answers by method, route and status, and how long they took by route. Routes are those of the server, so
    that no client can make the table grow."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def note(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """One answer."""
        name = route or "none"
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self._answers[known, name, status] += 1
        self._seconds[name] += seconds
        for end in (*BUCKETS, float("inf")):
            if seconds <= end:
                self._buckets[name, end] += 1

    def lines(self) -> Iterator[str]:
        """In the text format."""
        yield from _family("da3_http_requests_total", "counter", "Answers.")
        for (method, route, status), count in sorted(self._answers.items()):
            yield _sample("da3_http_requests_total", count, method=method, route=route, status=str(status))
        name = "da3_http_request_seconds"
        yield from _family(name, "histogram", "From the first byte of a request to the last of its answer.")
        for route in sorted(self._seconds):
            for end in (*BUCKETS, float("inf")):
                le = "+Inf" if end == float("inf") else f"{end:g}"
                yield _sample(f"{name}_bucket", self._buckets[route, end], route=route, le=le)
            yield _sample(f"{name}_sum", round(self._seconds[route], 6), route=route)
            yield _sample(f"{name}_count", self._buckets[route, float("inf")], route=route)


def render(queue: JobQueue, requests: Requests, streams: int) -> str:
    """All metrics. Numbers of jobs and workers are of now; totals count from the first day of the data folder, those of
    answers from the start of the process.

    Args:
        queue: of the server.
        requests: what was counted.
        streams: open event streams.
    """
    return "\n".join([*_of_queue(queue), *_of_processes(queue, streams), *requests.lines()]) + "\n"


def _of_queue(queue: JobQueue) -> Iterator[str]:
    yield from _family("da3_jobs", "gauge", "Jobs in the queue file by status.")
    for status, count in queue.store.counts().items():
        yield _sample("da3_jobs", count, status=status)
    yield from _family("da3_job_bytes", "gauge", "Inputs and results of all jobs.")
    yield _sample("da3_job_bytes", queue.store.held_bytes())
    for name, value in queue.store.totals().items():
        yield from _family(f"da3_completed_{name}_total", "counter", f"Of completed jobs: {name}.")
        yield _sample(f"da3_completed_{name}_total", value)


def _of_processes(queue: JobQueue, streams: int) -> Iterator[str]:
    yield from _family("da3_event_streams", "gauge", "Open event streams.")
    yield _sample("da3_event_streams", streams)
    yield from _family("da3_worker_up", "gauge", "Workers, with what they last said they do.")
    states = queue.store.workers()
    for slot, state in sorted(states.items()):
        yield _sample("da3_worker_up", 1, slot=slot, state=str(state.get("state")))
    processes = sorted({"server": os.getpid(), **queue.supervisor.pids()}.items())
    yield from _family("da3_resident_bytes", "gauge", "Resident memory of the server and its workers.")
    for slot, pid in processes:
        yield _sample("da3_resident_bytes", resident_bytes(pid), process=slot)
    yield from _family("da3_processor_seconds_total", "counter", "Processor time of the server and its workers.")
    for slot, pid in processes:
        yield _sample("da3_processor_seconds_total", processor_seconds(pid), process=slot)


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, value: float, **labels: str) -> str:
    said = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{said}}} {value}" if said else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
