"""The job queue: submit, watch, cancel, fetch, delete. The HTTP server and the web UI are doors to this."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.serve.intake import (
    SCENE_FILES,
    IncomingImage,
    is_film,
    plan_pixels,
    receive,
    receive_files,
    received_files,
)
from depth_anything_3.serve.locks import ProcessLock
from depth_anything_3.serve.requests import SceneOptions, parse_request
from depth_anything_3.serve.sandbox import Roots
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.serve.store import (
    FINISHED,
    PRIORITIES,
    Job,
    JobStore,
    NewJob,
    Outcome,
    Priority,
    ResultFile,
    Status,
)
from depth_anything_3.serve.supervisor import Supervisor
from depth_anything_3.types.options import check_choice

_MARK = "done.json"
_JOB_ID = re.compile(r"[0-9a-f]{32}\Z")


class JobFolders:
    """Where the files of jobs lie below the data folder: ``jobs/<id>/inputs`` and ``jobs/<id>/<claim>``."""

    def __init__(self, data_dir: str | Path) -> None:
        self.root = Path(data_dir)
        self.jobs = self.root / "jobs"
        self.incoming = self.root / "incoming"
        self.locks = self.root / "locks"
        self.database = self.root / "queue.sqlite"

    def make(self) -> None:
        """Make what is missing; only this user may look inside."""
        for folder in (self.root, self.jobs, self.incoming, self.locks):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def inputs(self, job_id: str) -> Path:
        """The folder of the images of a job."""
        return self.jobs / job_id / "inputs"

    def files(self, job_id: str) -> dict[str, list[Path]]:
        """What came beside the images, by its kind."""
        return {kind: received_files(self.jobs / job_id / kind) for kind in SCENE_FILES}

    def results(self, job: Job) -> Path:
        """The folder of what the current run of a job writes, or the last one wrote."""
        return self.jobs / job.id / job.claim

    def mark_complete(self, job: Job, outcome: Outcome) -> None:
        """Say beside the results that the run came to its end, in case the queue does not hear of it."""
        content = {
            "files": [[file.name, file.bytes] for file in outcome.files],
            "summary": outcome.summary,
            "notes": list(outcome.notes),
        }
        with atomic_path(self.jobs / job.id / f"{job.claim}.{_MARK}") as path:
            path.write_text(json.dumps(content))

    def complete(self, job: Job) -> Outcome | None:
        """What :meth:`mark_complete` wrote for the run, or None."""
        path = self.jobs / job.id / f"{job.claim}.{_MARK}"
        if not job.claim or not path.is_file():
            return None
        content = json.loads(path.read_text())
        files = tuple(ResultFile(name=name, bytes=size) for name, size in content["files"])
        return Outcome(status="completed", files=files, summary=content["summary"], notes=tuple(content["notes"]))

    def remove(self, job_id: str) -> None:
        """Remove all files of a job."""
        if not _JOB_ID.match(job_id):
            raise ValueError(f"not the id of a job: {job_id!r}")
        shutil.rmtree(self.jobs / job_id, ignore_errors=True)

    def sweep(self, known: set[str]) -> None:
        """Remove what interrupted submissions left behind."""
        for entry in self.incoming.iterdir():
            shutil.rmtree(entry, ignore_errors=True)
        for entry in self.jobs.iterdir():
            if _JOB_ID.match(entry.name) and entry.name not in known:
                self.remove(entry.name)


class JobQueue:
    """Jobs, their files, and the worker processes that run them.

    Use it as a context manager: entering takes the data folder, takes back what an earlier process left unfinished,
    and starts the workers; leaving stops them, and what they had not finished is queued again.

    Args:
        settings: of the server.

    Raises:
        LockedError: on entering, if another process uses the data folder.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.folders = JobFolders(settings.data_dir)
        self.folders.make()
        self.store = JobStore(self.folders.database)
        self.roots = Roots(settings.roots)
        self.supervisor = Supervisor(settings, self.store, self.folders.locks, self.folders.complete, self.clean)
        self._open = ExitStack()

    def __enter__(self) -> JobQueue:
        self._open.enter_context(ProcessLock(self.folders.locks / "server", timeout=5.0))
        self.folders.sweep(self.store.ids())
        self.supervisor.start()
        self._open.callback(self.supervisor.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def submit(
        self,
        images: Sequence[IncomingImage],
        options: Mapping[str, Any] | None = None,
        *,
        files: Mapping[str, Sequence[IncomingImage]] | None = None,
        owner: str = "",
        export_dir: str | None = None,
        idempotency_key: str | None = None,
        priority: Priority = "normal",
    ) -> Job:
        """Put a job into the queue. Everything that can be wrong before the network runs is found here.

        Args:
            images: the views of one scene, or one video; their streams are read to the end.
            options: of :mod:`depth_anything_3.serve.requests`, as plain data.
            files: what comes beside the images, see :data:`depth_anything_3.serve.intake.SCENE_FILES`.
            owner: whose job it is.
            export_dir: folder below a root that the results are copied to as well.
            idempotency_key: a second submission by the same owner with the same key returns the first job.
            priority: jobs of a higher one are begun first.

        Raises:
            InputError: a wrong option or image. TooLargeError, QueueFullError, QuotaError, ForbiddenPathError: see
                there.
        """
        process_res = self.process_res
        check_choice("priority", priority, PRIORITIES)
        beside = {kind: given for kind, given in (files or {}).items() if given}
        count = None if is_film(images) else len(images)
        request = parse_request(options or {}, images=count, process_res=process_res)
        _check_once(request.scene, beside)
        if export_dir is not None:
            self.roots.check_target(export_dir)
        job_id = secrets.token_hex(16)
        staged = self.folders.incoming / job_id
        try:
            received = receive(images, staged / "inputs", self.settings.limits)
            bytes_beside = receive_files(beside, staged, self.settings.limits, count)
            pixels, processed_hw = plan_pixels(received, request.preprocess, self.settings.limits)
            alone = bool(export_dir or beside or count is None)
            staged.rename(self.folders.jobs / job_id)
            job = NewJob(
                id=job_id,
                owner=owner,
                images=received.names,
                options=dict(request.given),
                export_dir=export_dir,
                batch_key=None if alone else request.batch_key(len(images), processed_hw),
                idempotency_key=idempotency_key,
                bytes=received.bytes + bytes_beside,
                pixels=pixels,
                notes=request.notes,
                priority=priority,
            )
            stored = self.store.add(job, self.settings.limits)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            self.folders.remove(job_id)
            raise
        if stored.id != job_id:
            self.folders.remove(job_id)
        return stored

    @property
    def process_res(self) -> int | None:
        """The model's own resolution, once a worker has loaded it."""
        found = (state.get("process_res") for state in self.store.workers().values())
        return next((value for value in found if value), None)

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """See :meth:`JobStore.get`."""
        return self.store.get(job_id, owner=owner)

    def find(
        self, *, owner: str | None = None, status: Status | None = None, limit: int = 100, before: str | None = None
    ) -> list[Job]:
        """See :meth:`JobStore.find`."""
        return self.store.find(owner=owner, status=status, limit=limit, before=before)

    def cancel(self, job_id: str, *, owner: str | None = None) -> Job:
        """End a queued job, ask a running one to stop; a finished one stays as it is."""
        self.store.get(job_id, owner=owner)
        return self.store.cancel(job_id)

    def delete(self, job_id: str, *, owner: str | None = None) -> None:
        """Forget a finished job and remove its files. Raises JobBusyError while it waits or runs."""
        self.store.get(job_id, owner=owner)
        self.store.delete(job_id)
        self.folders.remove(job_id)

    def result(self, job_id: str, name: str, *, owner: str | None = None) -> Path:
        """The path of one result file, which must be among ``job.files``: the name is looked up, never joined.

        Raises:
            InputError: the job has no such file.
        """
        job = self.store.get(job_id, owner=owner)
        for file in job.files:
            if file.name == name:
                return self.folders.results(job) / file.name
        raise InputError("file", repr(name), "a file of this job", [file.name for file in job.files])

    def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        on_change: Callable[[Job], None] | None = None,
        interval: float = 0.1,
    ) -> Job:
        """The job once it has finished, or as it is after ``timeout`` seconds."""
        end, version = None if timeout is None else time.monotonic() + timeout, 0
        while True:
            job = self.store.get(job_id)
            if on_change is not None and job.version != version:
                version = job.version
                on_change(job)
            if job.status in FINISHED or (end is not None and time.monotonic() >= end):
                return job
            time.sleep(interval)

    def clean(self, *, older_than: float | None = None, keep: int | None = None) -> int:
        """Delete jobs that finished long ago; returns how many.

        Args:
            older_than: seconds; by default those of the settings.
            keep: also delete all but so many of the others.
        """
        age = self.settings.limits.retention_seconds if older_than is None else older_than
        expired = self.store.expired(time.time() - age, keep=keep)
        for job_id in expired:
            self.delete(job_id)
        return len(expired)


def _check_once(scene: SceneOptions, files: Mapping[str, object]) -> None:
    """Cameras come as numbers or as files; both would leave open which of them count."""
    given = [name for name in ("extrinsics", "intrinsics", "rig") if getattr(scene, name) is not None]
    if given and (cameras := sorted({"poses", "intrinsics"} & set(files))):
        raise InputError(given[0], f"a value, and a file of {cameras[0]}", "one of the two")
