"""A worker process: takes jobs from the queue and runs them on one device.

The server starts it with ``python -m``, writes its slot and the settings to its standard input, and keeps that open.
When it closes, the server is gone, and so is the worker, at once: no job outlives the process that looks after it.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from depth_anything_3.errors import Cancelled, DA3Error
from depth_anything_3.io.video import is_video
from depth_anything_3.serve.intake import received_files
from depth_anything_3.serve.jobs import JobFolders
from depth_anything_3.serve.locks import ProcessLock
from depth_anything_3.serve.predictors import Predictor, Task
from depth_anything_3.serve.requests import parse_request
from depth_anything_3.serve.sandbox import Roots
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.serve.store import Job, JobStore, Outcome, ResultFile
from depth_anything_3.types.progress import Progress

_LOG = logging.getLogger(__name__)
_IDLE = 0.03
_REPORT_EVERY = 0.2
_LOCK_SECONDS = 30.0
_NICENESS = 5
EXIT_ORPHANED = 3


class Worker:
    """The loop of a worker process.

    Args:
        settings: of the server.
        slot: which worker of the server this is.
    """

    def __init__(self, settings: ServerSettings, slot: str) -> None:
        self.settings, self.slot = settings, slot
        self.device = settings.slots[slot]
        self.folders = JobFolders(settings.data_dir)
        self.store = JobStore(self.folders.database)
        self.roots = Roots(settings.roots)
        self.stop = threading.Event()
        self.predictor: Predictor | None = None
        self._facts: dict[str, Any] = {}

    def run(self) -> None:
        """Run jobs until told to stop."""
        self._report("starting")
        if self.settings.preload:
            self._load()
        self._report("idle")
        while not self.stop.is_set():
            jobs = self.store.claim(self.slot, batch=self.settings.limits.batch)
            if not jobs:
                self.stop.wait(_IDLE)
                continue
            self._run_jobs(jobs)
        self._report("stopped")

    def _load(self) -> Predictor:
        if self.predictor is None:
            module, _, name = self.settings.predictor.partition(":")
            begun = time.time()
            predictor: Predictor = getattr(importlib.import_module(module), name)(self.settings, self.device)
            self._facts |= predictor.load()
            self._facts |= {"loaded_at": time.time(), "load_time": time.time() - begun}
            self.predictor = predictor
        return self.predictor

    def _report(self, state: str) -> None:
        facts = {"state": state, "pid": os.getpid(), "device": self.device, "gpu_memory": gpu_memory(), **self._facts}
        self.store.report_worker(self.slot, facts)

    def _run_jobs(self, jobs: Sequence[Job]) -> None:
        self._report("busy")
        outcomes = self._attempt(jobs)
        if len(jobs) > 1 and any(outcome.status != "completed" for outcome in outcomes):
            # One bad image must not fail the others: what did not go together goes one by one.
            outcomes = [self._attempt([job])[0] for job in jobs]
        for job, outcome in zip(jobs, outcomes, strict=True):
            if self.store.finish(job, outcome):
                _LOG.info("job ended", extra={"job": job.id, "status": outcome.status, "error": outcome.error_type})
        self._facts["last_used"] = time.time()
        self._report("idle")

    def _attempt(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs together; if anything goes wrong, all of them have."""
        watch = _Watch(self.store, jobs)
        try:
            watch(Progress("load", 0, 1))
            predictor = self._load()
            watch(Progress("load", 1, 1))
            tasks = [self._task(job) for job in jobs]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                summaries = predictor.run(tasks, watch, watch.cancel)
            said = (self._without_our_paths(str(w.message), jobs[0]) for w in caught if w.category is UserWarning)
            notes = tuple(dict.fromkeys(said)) if len(jobs) == 1 else ()  # of several, nobody knows whose it is
            return [self._completed(job, summary, notes) for job, summary in zip(jobs, summaries, strict=True)]
        except Cancelled:
            outcome = Outcome(status="cancelled", message="cancelled", error_type="Cancelled")
        except DA3Error as error:
            message = self._without_our_paths(str(error), jobs[0])
            outcome = Outcome(status="failed", message=message, error_type=type(error).__name__)
        except MemoryError:
            outcome = Outcome(status="failed", message="not enough memory", error_type="MemoryError")
        except Exception as error:  # a process boundary: the client gets the kind, the log the rest
            _LOG.exception("job failed", extra={"job": jobs[0].id})
            message = (
                "out of memory on the device" if "out of memory" in str(error) else "an internal error; see the log"
            )
            outcome = Outcome(status="failed", message=message, error_type=type(error).__name__)
        return [outcome] * len(jobs)

    def _task(self, job: Job) -> Task:
        folder = self.folders.results(job)
        folder.mkdir(exist_ok=True)
        images = received_files(self.folders.inputs(job.id))
        process_res = self._facts.get("process_res")
        count = None if is_video(images[0]) else len(images)
        request = parse_request(job.options, images=count, process_res=process_res)
        return Task(images=images, files=self.folders.files(job.id), request=request, folder=folder)

    def _completed(self, job: Job, summary: dict[str, Any], notes: tuple[str, ...]) -> Outcome:
        folder = self.folders.results(job)
        files = tuple(
            ResultFile(name=path.relative_to(folder).as_posix(), bytes=path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        )
        if job.export_dir is not None:
            self.roots.deliver(folder, [file.name for file in files], job.export_dir)
        outcome = Outcome(status="completed", files=files, summary=summary, notes=notes)
        self.folders.mark_complete(job, outcome)
        return outcome

    def _without_our_paths(self, message: str, job: Job) -> str:
        inputs, results = self.folders.inputs(job.id), self.folders.results(job)
        for folder in (inputs, results, self.folders.jobs / job.id, self.folders.root):
            message = message.replace(f"{folder}{os.sep}", "")
        return message


class _Watch:
    """Passes progress on to the queue, not too often, and hears there whether to stop."""

    def __init__(self, store: JobStore, jobs: Sequence[Job]) -> None:
        self._store, self._jobs = store, jobs
        self._next, self._stage = 0.0, ""
        self.cancel = threading.Event()

    def __call__(self, step: Progress) -> None:
        if self.cancel.is_set():
            raise Cancelled(f"stopped during {step.stage}")
        now = time.monotonic()
        if step.stage == self._stage and now < self._next and step.done < step.total:
            return
        self._next, self._stage = now + _REPORT_EVERY, step.stage
        stops = [self._store.progress(job, step) for job in self._jobs]
        if all(stops):
            self.cancel.set()


def gpu_memory() -> dict[str, float] | None:
    """Memory of the first CUDA device in gigabytes, as the published server reports it; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    free, total = (value / 1e9 for value in torch.cuda.mem_get_info())
    allocated, reserved = torch.cuda.memory_allocated() / 1e9, torch.cuda.memory_reserved() / 1e9
    return {
        "total_gb": round(total, 2),
        "allocated_gb": round(allocated, 2),
        "reserved_gb": round(reserved, 2),
        "free_gb": round(free, 2),
        "utilization_percent": round(100 * (total - free) / total, 1),
    }


def _listen(stream: BinaryIO, stop: threading.Event) -> None:
    """Hear of the end of the server: an order to stop, or the end of the stream."""
    for line in stream:
        if line.strip() == b"stop":
            stop.set()
    os._exit(EXIT_ORPHANED)


def main() -> None:
    """Entry point of the process."""
    from depth_anything_3.serve.logs import configure

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, it goes to the server, which tells us
    if hasattr(os, "nice"):
        os.nice(_NICENESS)  # the server, which needs little, answers at once also where the network takes every core
    configure()
    stream = sys.stdin.buffer
    slot, settings = stream.readline().decode().strip(), stream.readline().decode()
    if not settings.endswith("\n"):
        os._exit(EXIT_ORPHANED)
    worker = Worker(ServerSettings.from_json(settings), slot)
    threading.Thread(target=_listen, args=(stream, worker.stop), daemon=True).start()
    with ProcessLock(worker.folders.locks / f"worker-{Path(slot).name}", timeout=_LOCK_SECONDS):
        worker.run()
    os._exit(0)  # the listening thread sits in a read that would keep the interpreter from ending


if __name__ == "__main__":
    main()
