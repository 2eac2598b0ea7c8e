"""Worker processes: started, watched, ended where they must be, started again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from depth_anything_3.serve.locks import ProcessLock
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.serve.store import Job, JobStore, Outcome

_LOG = logging.getLogger(__name__)
_TICK = 0.1
_CLEAN_EVERY = 60.0
_LONGEST_PAUSE = 30.0
_ORPHAN_SECONDS = 30.0
WORKER = "depth_anything_3.serve.worker"


@dataclass
class _Worker:
    """One slot and the process in it."""

    slot: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    not_before: float = 0.0
    ended_by_us: bool = False
    restart: bool = field(default=False)


class Supervisor:
    """Keeps one worker process per device alive.

    Args:
        settings: of the server.
        store: the queue.
        locks: folder of lock files; a worker holds the one of its slot while it lives.
        complete: what a run left behind if it had come to its end.
        clean: called once a minute.
    """

    def __init__(
        self,
        settings: ServerSettings,
        store: JobStore,
        locks: Path,
        complete: Callable[[Job], Outcome | None],
        clean: Callable[[], object],
    ) -> None:
        self._settings, self._store, self._locks = settings, store, locks
        self._complete, self._clean = complete, clean
        self._workers = {slot: _Worker(slot) for slot in settings.slots}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take back the jobs of workers of an earlier server, then start our own."""
        self._store.forget_workers()
        for slot in {*self._store.slots(), *self._workers}:
            with ProcessLock(self._locks / f"worker-{slot}", timeout=_ORPHAN_SECONDS):
                self._recover(slot, counted=False)
        self._stopping.clear()
        for worker in self._workers.values():
            self._spawn(worker)
        self._thread = threading.Thread(target=self._run, name="da3-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let workers finish what they run within ``stop_seconds``, end them, and queue the rest again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        end = time.monotonic() + self._settings.limits.stop_seconds
        for worker in self._workers.values():
            _tell(worker.process, b"stop\n")
        for worker in self._workers.values():
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            self._recover(worker.slot, counted=False)
            worker.process = None

    def restart_workers(self) -> None:
        """Have every worker end after its current job and be replaced, which loads the model anew."""
        for worker in self._workers.values():
            worker.restart = True
            _tell(worker.process, b"stop\n")

    def pids(self) -> dict[str, int]:
        """Slot -> process id of its worker, as far as there is one."""
        return {w.slot: w.process.pid for w in self._workers.values() if w.process is not None}

    def _run(self) -> None:
        cleaned = time.monotonic()
        while not self._stopping.wait(_TICK):
            try:
                for worker in self._workers.values():
                    self._look_after(worker)
                if time.monotonic() - cleaned > _CLEAN_EVERY:
                    cleaned = time.monotonic()
                    self._clean()
            except Exception:  # the thread that keeps everything going must not end; the next round tries again
                _LOG.exception("supervisor")

    def _look_after(self, worker: _Worker) -> None:
        if worker.process is None:
            if time.monotonic() >= worker.not_before:
                self._spawn(worker)
        elif (code := worker.process.poll()) is not None:
            self._bury(worker, code)
        else:
            self._enforce_limits(worker, worker.process)

    def _spawn(self, worker: _Worker) -> None:
        command = (
            [sys.executable, "-P", "-m", WORKER] if sys.version_info >= (3, 11) else [sys.executable, "-m", WORKER]
        )
        worker.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        worker.started, worker.ended_by_us, worker.restart = time.monotonic(), False, False
        _tell(worker.process, f"{worker.slot}\n{self._settings.to_json()}\n".encode())

    def _bury(self, worker: _Worker, code: int) -> None:
        """Note that a worker has ended; the next one comes at once, or after a growing pause if this one was short."""
        asked = worker.ended_by_us or worker.restart
        self._recover(worker.slot, counted=not asked)
        if not asked:
            _LOG.warning("worker ended", extra={"slot": worker.slot, "exit_code": code})
        short = time.monotonic() - worker.started < 2.0 and not asked
        worker.pause = min(_LONGEST_PAUSE, max(0.2, 2 * worker.pause)) if short else 0.0
        worker.not_before = time.monotonic() + worker.pause
        worker.process = None

    def _recover(self, slot: str, *, counted: bool) -> None:
        limits = self._settings.limits
        jobs = self._store.recover(slot, counted=counted, tries=limits.tries, runs=limits.runs, complete=self._complete)
        for job in jobs:
            _LOG.info("job taken back", extra={"job": job.id, "status": job.status, "slot": slot})

    def _enforce_limits(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        limits = self._settings.limits
        ended = self._store.overdue(worker.slot, job_seconds=limits.job_seconds, cancel_seconds=limits.cancel_seconds)
        used = resident_bytes(process.pid) if limits.worker_bytes is not None else 0
        if limits.worker_bytes is not None and used > limits.worker_bytes:
            message = f"it needed more than {limits.worker_bytes} bytes of memory, which is the limit"
            outcome = Outcome(status="failed", message=message, error_type="MemoryLimit")
            running = self._store.running(worker.slot)
            ended += [(job, outcome) for job in running[:1] if len(running) == 1]
            worker.ended_by_us = len(running) <= 1  # of several, each runs alone next time, and one of them fails
            process.kill()
        for job, outcome in ended:
            self._store.finish(job, outcome)
            worker.ended_by_us = True
            process.kill()


def _tell(process: subprocess.Popen[bytes] | None, line: bytes) -> None:
    """Write to the standard input of a worker, which may be gone."""
    if process is None or process.stdin is None:
        return
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except (OSError, ValueError):
        pass


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system has no ``/proc``."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    import resource

    return pages * resource.getpagesize()


def processor_seconds(pid: int) -> float:
    """Processor time of a process; NaN where the system has no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
