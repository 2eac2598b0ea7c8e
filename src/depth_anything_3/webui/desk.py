"""What the page's buttons do, apart from how the page looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from depth_anything_3.errors import InputError
from depth_anything_3.serve.intake import IncomingImage
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.store import FINISHED, Job
from depth_anything_3.webui.choices import ModelChoice
from depth_anything_3.webui.intake import Uploads, camera_files, photos, pictures, video_frames
from depth_anything_3.webui.jobs import Form, gallery_name, options_of
from depth_anything_3.webui.queues import ModelQueues
from depth_anything_3.webui.results import ARRAYS, Arrays, read_arrays
from depth_anything_3.webui.session import Session

STAGES = {
    "load": "loading the model",
    "preprocess": "reading images",
    "network": "running the network",
    "refine": "refining",
    "export": "writing files",
}
_INTERVAL = 0.2


class Desk:
    """Jobs of all visitors.

    Args:
        queues: where jobs run.
        choices: the models that may be chosen.
        gallery_dir: where results may be kept; None for nowhere.
    """

    def __init__(self, queues: ModelQueues, choices: Sequence[ModelChoice], gallery_dir: Path | None) -> None:
        self._queues, self._gallery_dir = queues, gallery_dir
        self._sources = {choice.source for choice in choices}
        self._models: dict[str, str] = {}  # job -> model
        self._lock = threading.Lock()

    def submit(
        self,
        images: Sequence[IncomingImage],
        model: str,
        form: Form,
        *,
        cameras: Mapping[str, Sequence[IncomingImage]],
        keep_as: str = "",
    ) -> Session:
        """Queue a job; the session that watches it.

        Args:
            images: photos.
            model: one of the models of the list.
            form: what else was filled in.
            cameras: files of cameras, see :func:`~depth_anything_3.webui.intake.camera_files`.
            keep_as: name in the gallery; empty for none.

        Raises:
            InputError: anything about the form or the images that can be seen before the network runs.
        """
        if model not in self._sources:
            raise InputError("model", repr(model), "one of the models of the list", sorted(self._sources))
        if not images:
            raise InputError("photos", "none", "photos, or a video")
        target = None
        if keep_as.strip():
            if self._gallery_dir is None:
                raise InputError("name in the gallery", repr(keep_as), "nothing: this server keeps no gallery")
            taken = [path.name for path in self._gallery_dir.iterdir()] if self._gallery_dir.is_dir() else []
            target = str(self._gallery_dir.resolve() / gallery_name(keep_as, taken))
        job = self._queues.of(model).submit(images, options_of(form), files=cameras, export_dir=target)
        with self._lock:
            self._models[job.id] = model
        return Session(model=model, job=job.id)

    def queue_of(self, job: str) -> JobQueue | None:
        """The queue that a job is in, or None if no job has that id."""
        model = self._models.get(job)
        return None if model is None else self._queues.of(model)

    def watch(self, session: Session) -> Iterator[Job]:
        """The job whenever something changed, until it has finished."""
        queue, version = self._queues.of(session.model), 0
        changed = threading.Event()
        while True:
            job = queue.get(session.job)
            if job.version != version:
                version = job.version
                yield job
            if job.status in FINISHED:
                return
            changed.wait(_INTERVAL)

    def cancel(self, session: Session) -> None:
        """Stop the job of a session, if there is one."""
        if session.job:
            self._queues.of(session.model).cancel(session.job)

    def finished(self, session: Session) -> Job | None:
        """The job of a session if it was completed."""
        if not session.job:
            return None
        job = self._queues.of(session.model).get(session.job)
        return job if job.status == "completed" else None

    def arrays(self, session: Session) -> Arrays | None:
        """The arrays of the job of a session, if it was completed."""
        if self.finished(session) is None:
            return None
        return read_arrays(self._queues.of(session.model).result(session.job, ARRAYS))


FORM_FIELDS = tuple(field.name for field in fields(Form))
"""What the page asks for beside the pictures, the model and the cameras."""


def submit_form(desk: Desk, uploads: Uploads, given: Mapping[str, Any]) -> Session:
    """Submit what a visitor filled in: ``images`` or ``video`` with ``fps``, ``model``, files ``poses`` and ``lens`` or
    the text ``fov``, ``keep_as``, and :data:`FORM_FIELDS`.

    Raises:
        InputError: anything that can be seen before the network runs.
    """
    if given["video"] and given["images"]:
        raise InputError("photos", "photos and a video", "one of the two")
    if given["video"]:
        images = pictures(video_frames(uploads.check(given["video"]), fps=given["fps"]))
    else:
        images = photos([uploads.check(path) for path in given["images"] or ()])
    poses, lens = (uploads.check(given[name]) if given[name] else None for name in ("poses", "lens"))
    cameras = camera_files(poses, lens, (given["fov"] or "").strip())
    chosen = {name: given[name] for name in FORM_FIELDS}
    chosen |= {"process_res": int(chosen["process_res"] or 0), "formats": tuple(chosen["formats"] or ())}
    return desk.submit(images, given["model"], Form(**chosen), cameras=cameras, keep_as=given["keep_as"] or "")


def describe(job: Job, ahead: int = 0) -> str:
    """The state of a job in a line."""
    if job.status == "queued":
        return f"waiting, {ahead} before it" if ahead else "waiting"
    if job.status == "running":
        step = STAGES.get(job.stage, "starting")
        return f"{step}: {job.done} of {job.total}" if job.total else step
    if job.status == "completed":
        notes = "".join(f"\nnote: {note}" for note in job.notes)
        return f"done in {(job.finished or 0) - (job.started or 0):.1f} s{notes}"
    return f"{job.status}: {job.message}" if job.message else job.status
