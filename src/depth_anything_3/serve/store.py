"""The queue on disk: one SQLite file, safe against the death of any process at any moment.

A job is *queued*, *running*, and then exactly once *completed*, *failed* or *cancelled*. Whoever runs it holds a claim,
a random word in its row; what comes from a run whose claim has been taken away changes nothing. Write-ahead logging
keeps all that was committed when a process dies; after a loss of power the last moments may be missing.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from depth_anything_3.errors import DA3Error
from depth_anything_3.serve.settings import Limits
from depth_anything_3.types.progress import Progress

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
FINISHED: tuple[Status, ...] = ("completed", "failed", "cancelled")


class QueueFullError(DA3Error):
    """There is no room for another job; try again later."""


class QuotaError(DA3Error):
    """The client has used up what one client may have; others can still submit."""


class JobBusyError(DA3Error):
    """The job has not finished."""


class UnknownJobError(DA3Error, KeyError):
    """There is no such job, or it belongs to someone else."""

    __str__ = Exception.__str__


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A file that a job made.

    Attributes:
        name: relative to the folder of results, with ``/``.
        bytes: its size.
    """

    name: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: one of :data:`FINISHED`.
        message: for people; empty when completed.
        error_type: class of the error, empty when there was none.
        files: results.
        summary: what :func:`depth_anything_3.serve.summary.summarise` says of the prediction.
        notes: warnings.
    """

    status: Status
    message: str = ""
    error_type: str = ""
    files: tuple[ResultFile, ...] = ()
    summary: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the queue.

    Attributes:
        id: 32 hexadecimal digits.
        owner: id of the API key it was submitted with; empty where there are no keys.
        status: see the module.
        version: rises with every change.
        created, started, finished: seconds since 1970; None for what has not happened.
        images: display names of the inputs.
        options: as the client sent them.
        export_dir: folder of the server that results are copied to; None for none.
        stage, done, total: of the running step, see :class:`~depth_anything_3.types.progress.Progress`; "" before.
        message, error_type: why it failed.
        notes: warnings.
        files, summary: results.
        claim, slot: of the run, empty before; ``claim`` also names the folder of results.
        deaths: workers that died while they ran it.
        runs: how often it was begun.
        cancelling: whether its end was asked for.
        pixels: of all images at network size.
        priority: jobs of a higher one are begun first, those of the same in the order in which they came.
    """

    id: str
    owner: str
    status: Status
    version: int
    created: float
    started: float | None
    finished: float | None
    images: tuple[str, ...]
    options: Mapping[str, Any]
    export_dir: str | None
    stage: str
    done: int
    total: int
    message: str
    error_type: str
    notes: tuple[str, ...]
    files: tuple[ResultFile, ...]
    summary: Mapping[str, Any] | None
    claim: str
    slot: str
    deaths: int
    runs: int
    cancelling: bool
    pixels: int
    priority: Priority


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What is put into the queue; fields as in :class:`Job`, sizes in bytes."""

    id: str
    owner: str
    images: tuple[str, ...]
    options: Mapping[str, Any]
    export_dir: str | None = None
    batch_key: str | None = None
    idempotency_key: str | None = None
    bytes: int = 0
    pixels: int = 0
    notes: tuple[str, ...] = ()
    priority: Priority = "normal"


_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 1,
    created REAL NOT NULL, started REAL, finished REAL,
    images TEXT NOT NULL, options TEXT NOT NULL, export_dir TEXT,
    stage TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '', error_type TEXT NOT NULL DEFAULT '', notes TEXT NOT NULL DEFAULT '[]',
    files TEXT NOT NULL DEFAULT '[]', summary TEXT,
    claim TEXT NOT NULL DEFAULT '', slot TEXT NOT NULL DEFAULT '',
    deaths INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0,
    cancel_asked REAL, batch_key TEXT, idempotency_key TEXT, bytes INTEGER NOT NULL, pixels INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 1, UNIQUE(owner, idempotency_key)
);
CREATE INDEX IF NOT EXISTS jobs_by_turn ON jobs(status, priority DESC, number);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs(owner, status);
CREATE INDEX IF NOT EXISTS jobs_by_finish ON jobs(finished) WHERE finished IS NOT NULL;
CREATE TABLE IF NOT EXISTS workers(slot TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS usage(
    owner TEXT NOT NULL, day TEXT NOT NULL, jobs INTEGER NOT NULL, images INTEGER NOT NULL, pixels INTEGER NOT NULL,
    seconds REAL NOT NULL, PRIMARY KEY(owner, day)
);
-- The sum over all jobs, kept up to date: adding it up for every submission would take longer with every job.
CREATE TABLE IF NOT EXISTS held(one INTEGER PRIMARY KEY CHECK(one = 1), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO held SELECT 1, coalesce(sum(bytes), 0) FROM jobs;
CREATE TRIGGER IF NOT EXISTS held_more AFTER INSERT ON jobs BEGIN UPDATE held SET bytes = bytes + new.bytes; END;
CREATE TRIGGER IF NOT EXISTS held_other AFTER UPDATE OF bytes ON jobs
    BEGIN UPDATE held SET bytes = bytes + new.bytes - old.bytes; END;
CREATE TRIGGER IF NOT EXISTS held_less AFTER DELETE ON jobs BEGIN UPDATE held SET bytes = bytes - old.bytes; END;
"""


class JobStore:
    """The queue; every method is one transaction. One object may serve many threads.

    Methods that only read (:meth:`get`, :meth:`position`, :meth:`find`, ...) never wait for those that write, and
    take microseconds for one job: with write-ahead logging they see what was committed last.

    Args:
        path: of the SQLite file, made where there is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._local = threading.local()
        # Threads that write queue up here, in order. In SQLite they would sleep and try again, ever more seldom.
        self._writing = threading.Lock()
        with self._write() as db:
            columns = {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}
            if columns and "priority" not in columns:  # a queue file from before there were priorities
                db.execute("ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 1")
            db.executescript(_SCHEMA)

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._local.connection = connection
        return connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        db = self._db
        with self._writing:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    # --- clients ---------------------------------------------------------------------------------------------------

    def add(self, job: NewJob, limits: Limits) -> Job:
        """Put a job into the queue, or return the one that was put there with the same idempotency key.

        Raises:
            QueueFullError: too many jobs wait already, or there is no room on the disk.
            QuotaError: the owner has too many jobs waiting, or has had too many images today.
        """
        with self._write() as db:
            if job.idempotency_key is not None:
                same = (job.owner, job.idempotency_key)
                if row := db.execute("SELECT * FROM jobs WHERE owner=? AND idempotency_key=?", same).fetchone():
                    return _job(row)
            waiting = db.execute("SELECT count(*) FROM jobs WHERE status='queued'").fetchone()[0]
            if waiting >= limits.queued:
                raise QueueFullError(f"{waiting} jobs wait already, which is the most that may")
            if db.execute("SELECT bytes FROM held").fetchone()[0] + job.bytes > limits.disk_bytes:
                raise QueueFullError("the disk space for jobs is used up; delete finished ones")
            _check_quota(db, job, limits)
            columns = {
                "id": job.id,
                "owner": job.owner,
                "status": "queued",
                "created": time.time(),
                "images": json.dumps(job.images),
                "options": json.dumps(job.options),
                "export_dir": job.export_dir,
                "batch_key": job.batch_key,
                "idempotency_key": job.idempotency_key,
                "bytes": job.bytes,
                "pixels": job.pixels,
                "notes": json.dumps(job.notes),
                "priority": PRIORITIES.index(job.priority),
            }
            names = ", ".join(columns)
            db.execute(f"INSERT INTO jobs({names}) VALUES({', '.join('?' * len(columns))})", tuple(columns.values()))
            return _job(db.execute("SELECT * FROM jobs WHERE id=?", (job.id,)).fetchone())

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """One job. With ``owner``, only if it is theirs. Raises :class:`UnknownJobError`."""
        row = self._db.execute("SELECT * FROM jobs WHERE id=?", (job_id,)).fetchone()
        if row is None or (owner is not None and row["owner"] != owner):
            raise UnknownJobError(f"no job {job_id!r}")
        return _job(row)

    def find(
        self, *, owner: str | None = None, status: Status | None = None, limit: int = 100, before: str | None = None
    ) -> list[Job]:
        """Jobs, the newest first; ``before`` is the id of the last one of the page before."""
        wanted: list[str] = ["1"]
        values: list[Any] = []
        for clause, value in (("owner=?", owner), ("status=?", status)):
            if value is not None:
                wanted.append(clause)
                values.append(value)
        if before is not None:
            wanted.append("number < (SELECT number FROM jobs WHERE id=?)")
            values.append(before)
        query = f"SELECT * FROM jobs WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?"
        return [_job(row) for row in self._db.execute(query, (*values, limit))]

    def position(self, job_id: str) -> int:
        """How many queued jobs stand before this one."""
        query = (
            "SELECT count(*) FROM jobs AS other JOIN jobs AS this ON this.id=? WHERE other.status='queued' AND "
            "(other.priority > this.priority OR (other.priority = this.priority AND other.number < this.number))"
        )
        return int(self._db.execute(query, (job_id,)).fetchone()[0])

    def held_bytes(self) -> int:
        """Of the inputs and results of all jobs."""
        return int(self._db.execute("SELECT bytes FROM held").fetchone()[0])

    def totals(self) -> dict[str, float]:
        """``jobs``, ``images``, ``pixels`` and ``seconds`` of all jobs that were ever completed."""
        names = ("jobs", "images", "pixels", "seconds")
        query = f"SELECT {', '.join(f'coalesce(sum({name}), 0)' for name in names)} FROM usage"
        return dict(zip(names, self._db.execute(query).fetchone(), strict=True))

    def counts(self) -> dict[str, int]:
        """Status -> number of jobs."""
        found = {row[0]: row[1] for row in self._db.execute("SELECT status, count(*) FROM jobs GROUP BY status")}
        return {status: found.get(status, 0) for status in STATUSES}

    def cancel(self, job_id: str) -> Job:
        """End a queued job, ask a running one to stop, leave a finished one as it is."""
        with self._write() as db:
            row = db.execute("SELECT * FROM jobs WHERE id=?", (job_id,)).fetchone()
            if row is None:
                raise UnknownJobError(f"no job {job_id!r}")
            if row["status"] == "queued":
                _end(db, row, Outcome(status="cancelled", message="cancelled before it began", error_type="Cancelled"))
            elif row["status"] == "running" and row["cancel_asked"] is None:
                db.execute("UPDATE jobs SET cancel_asked=?, version=version+1 WHERE id=?", (time.time(), job_id))
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a finished job; its files are the caller's. Raises :class:`JobBusyError`, :class:`UnknownJobError`."""
        with self._write() as db:
            row = db.execute("SELECT status FROM jobs WHERE id=?", (job_id,)).fetchone()
            if row is None:
                raise UnknownJobError(f"no job {job_id!r}")
            if row["status"] not in FINISHED:
                raise JobBusyError(f"job {job_id} is {row['status']}; cancel it first")
            db.execute("DELETE FROM jobs WHERE id=?", (job_id,))

    def usage(self, owner: str) -> list[dict[str, Any]]:
        """Per day (UTC): finished jobs, their images, pixels at network size, and seconds of computing."""
        query = "SELECT day, jobs, images, pixels, seconds FROM usage WHERE owner=? ORDER BY day"
        return [dict(row) for row in self._db.execute(query, (owner,))]

    # --- workers ---------------------------------------------------------------------------------------------------

    def claim(self, slot: str, *, batch: int = 1) -> list[Job]:
        """The job whose turn it is, and others that may run together with it; now running under a claim.

        A job whose worker died runs alone from then on, so that it takes no others down.
        """
        if self._db.execute("SELECT 1 FROM jobs WHERE status='queued' LIMIT 1").fetchone() is None:
            return []  # an idle worker asks all the time, and must not hold up those who write
        with self._write() as db:
            first = db.execute("SELECT * FROM jobs WHERE status='queued' ORDER BY priority DESC, number LIMIT 1")
            first = first.fetchone()
            if first is None:
                return []
            rows = [first]
            if first["batch_key"] is not None and first["deaths"] == 0 and batch > 1:
                query = (
                    "SELECT * FROM jobs WHERE status='queued' AND batch_key=? AND deaths=0 AND id<>? "
                    "ORDER BY priority DESC, number LIMIT ?"
                )
                rows += db.execute(query, (first["batch_key"], first["id"], batch - 1)).fetchall()
            for row in rows:
                db.execute(
                    "UPDATE jobs SET status='running', slot=?, claim=?, started=?, runs=runs+1, version=version+1, "
                    "stage='', done=0, total=0 WHERE id=?",
                    (slot, secrets.token_hex(8), time.time(), row["id"]),
                )
            ids = [row["id"] for row in rows]
            marks = ", ".join("?" * len(ids))
            found = db.execute(f"SELECT * FROM jobs WHERE id IN ({marks}) ORDER BY number", ids).fetchall()
        return [_job(row) for row in found]

    def progress(self, job: Job, step: Progress) -> bool:
        """Note a step of a run; whether the run should stop (cancelled, or the claim is gone)."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE jobs SET stage=?, done=?, total=?, version=version+1 "
                "WHERE id=? AND claim=? AND status='running'",
                (step.stage, step.done, step.total, job.id, job.claim),
            ).rowcount
            asked = db.execute("SELECT cancel_asked FROM jobs WHERE id=?", (job.id,)).fetchone()
        return changed == 0 or asked is None or asked[0] is not None

    def finish(self, job: Job, outcome: Outcome) -> bool:
        """End a run; False if its claim is gone, in which case nothing changes."""
        with self._write() as db:
            query = "SELECT * FROM jobs WHERE id=? AND claim=? AND status='running'"
            row = db.execute(query, (job.id, job.claim)).fetchone()
            if row is None:
                return False
            _end(db, row, outcome)
        return True

    def recover(
        self, slot: str, *, counted: bool, tries: int, runs: int, complete: Callable[[Job], Outcome | None]
    ) -> list[Job]:
        """Take the running jobs of a worker that is gone for good.

        Args:
            slot: of the worker.
            counted: it died by itself, perhaps because of a job.
            tries, runs: see :class:`~depth_anything_3.serve.settings.Limits`.
            complete: what a job left behind if its run had in fact come to its end.

        Returns:
            The jobs, as they are now.
        """
        with self._write() as db:
            rows = db.execute("SELECT * FROM jobs WHERE status='running' AND slot=?", (slot,)).fetchall()
            for row in rows:
                deaths = row["deaths"] + counted
                if (outcome := complete(_job(row))) is not None:
                    _end(db, row, outcome)
                elif row["cancel_asked"] is not None:
                    _end(db, row, Outcome(status="cancelled", message="cancelled", error_type="Cancelled"))
                elif deaths >= tries or row["runs"] >= runs:
                    times = f"{deaths} times" if deaths >= tries else f"or was stopped {row['runs']} times"
                    message = f"the worker process died {times} while it ran this job"
                    _end(db, row, Outcome(status="failed", message=message, error_type="WorkerDied"), deaths)
                else:
                    db.execute(
                        "UPDATE jobs SET status='queued', claim='', slot='', stage='', done=0, total=0, deaths=?, "
                        "version=version+1 WHERE id=?",
                        (deaths, row["id"]),
                    )
        return [self.get(row["id"]) for row in rows]

    def running(self, slot: str | None = None) -> list[Job]:
        """Jobs that run now, of one worker or all."""
        clause = "" if slot is None else " AND slot=?"
        values = () if slot is None else (slot,)
        return [_job(row) for row in self._db.execute(f"SELECT * FROM jobs WHERE status='running'{clause}", values)]

    def overdue(self, slot: str, *, job_seconds: float, cancel_seconds: float) -> list[tuple[Job, Outcome]]:
        """Running jobs that must be ended by force, and what becomes of them."""
        now = time.time()
        found: list[tuple[Job, Outcome]] = []
        for row in self._db.execute("SELECT * FROM jobs WHERE status='running' AND slot=?", (slot,)).fetchall():
            if row["cancel_asked"] is not None and now - row["cancel_asked"] > cancel_seconds:
                found.append((_job(row), Outcome(status="cancelled", message="cancelled", error_type="Cancelled")))
            elif now - row["started"] > job_seconds:
                message = f"it ran for more than {job_seconds:g} seconds, which is the limit"
                found.append((_job(row), Outcome(status="failed", message=message, error_type="TimeLimit")))
        return found

    def slots(self) -> list[str]:
        """Workers that have running jobs."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT slot FROM jobs WHERE status='running'")]

    def report_worker(self, slot: str, state: Mapping[str, Any]) -> None:
        """Note the state of a worker, which is plain data."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO workers VALUES(?, ?)", (slot, json.dumps(state)))

    def workers(self) -> dict[str, dict[str, Any]]:
        """Slot -> its last state."""
        return {row["slot"]: json.loads(row["state"]) for row in self._db.execute("SELECT * FROM workers")}

    def forget_workers(self, keep: Sequence[str] = ()) -> None:
        """Drop the states of workers that are not in ``keep``."""
        with self._write() as db:
            db.execute(f"DELETE FROM workers WHERE slot NOT IN ({', '.join('?' * len(keep))})", tuple(keep))

    def expired(self, before: float, *, keep: int | None = None) -> list[str]:
        """Ids of jobs that finished before a time, and of those beyond the ``keep`` newest finished ones."""
        found = {row[0] for row in self._db.execute("SELECT id FROM jobs WHERE finished < ?", (before,))}
        if keep is not None:
            query = "SELECT id FROM jobs WHERE finished IS NOT NULL ORDER BY finished DESC LIMIT -1 OFFSET ?"
            found |= {row[0] for row in self._db.execute(query, (keep,))}
        return sorted(found)

    def ids(self) -> set[str]:
        """Ids of all jobs."""
        return {row[0] for row in self._db.execute("SELECT id FROM jobs")}


def _check_quota(db: sqlite3.Connection, job: NewJob, limits: Limits) -> None:
    if limits.owner_queued is not None:
        query = "SELECT count(*) FROM jobs WHERE owner=? AND status='queued'"
        if (count := db.execute(query, (job.owner,)).fetchone()[0]) >= limits.owner_queued:
            raise QuotaError(f"{count} of your jobs wait already, which is the most that one client may have waiting")
    if limits.owner_images_per_day is not None:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        had = "SELECT coalesce(sum(images), 0) FROM usage WHERE owner=? AND day=?"
        count = db.execute(had, (job.owner, today)).fetchone()[0] + len(job.images)
        begun = "SELECT images FROM jobs WHERE owner=? AND status IN ('queued', 'running')"
        count += sum(len(json.loads(row[0])) for row in db.execute(begun, (job.owner,)))
        if count > limits.owner_images_per_day:
            most = limits.owner_images_per_day
            raise QuotaError(f"{count} images today with this job; {most} is the most of one client in a day (UTC)")


def _end(db: sqlite3.Connection, row: sqlite3.Row, outcome: Outcome, deaths: int | None = None) -> None:
    """The one way into a final state; counts the usage in the same transaction."""
    now = time.time()
    notes = [*json.loads(row["notes"]), *outcome.notes]
    made = sum(file.bytes for file in outcome.files)
    db.execute(
        "UPDATE jobs SET status=?, finished=?, message=?, error_type=?, files=?, summary=?, notes=?, deaths=?, "
        "bytes=bytes+?, version=version+1 WHERE id=? AND status IN ('queued', 'running')",
        (
            outcome.status,
            now,
            outcome.message,
            outcome.error_type,
            json.dumps([[file.name, file.bytes] for file in outcome.files]),
            None if outcome.summary is None else json.dumps(outcome.summary),
            json.dumps(list(dict.fromkeys(notes))),
            row["deaths"] if deaths is None else deaths,
            made,
            row["id"],
        ),
    )
    if outcome.status == "completed":
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        seconds = max(0.0, now - (row["started"] or now))
        db.execute(
            "INSERT INTO usage VALUES(?, ?, 1, ?, ?, ?) ON CONFLICT(owner, day) DO UPDATE SET jobs=jobs+1, "
            "images=images+excluded.images, pixels=pixels+excluded.pixels, seconds=seconds+excluded.seconds",
            (row["owner"], day, *_work(row, outcome), seconds),
        )


def _work(row: sqlite3.Row, outcome: Outcome) -> tuple[int, int]:
    """Images and pixels at network size; of a video, whose frames are counted by the worker, from the summary."""
    summary = outcome.summary or {}
    if row["pixels"] or not summary.get("processed_size"):
        return len(json.loads(row["images"])), row["pixels"]
    views, (width, height) = len(summary["views"]), summary["processed_size"]
    return views, views * width * height


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        owner=row["owner"],
        status=row["status"],
        version=row["version"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        images=tuple(json.loads(row["images"])),
        options=json.loads(row["options"]),
        export_dir=row["export_dir"],
        stage=row["stage"],
        done=row["done"],
        total=row["total"],
        message=row["message"],
        error_type=row["error_type"],
        notes=tuple(json.loads(row["notes"])),
        files=tuple(ResultFile(name=name, bytes=size) for name, size in json.loads(row["files"])),
        summary=None if row["summary"] is None else json.loads(row["summary"]),
        claim=row["claim"],
        slot=row["slot"],
        deaths=row["deaths"],
        runs=row["runs"],
        cancelling=row["cancel_asked"] is not None,
        pixels=row["pixels"],
        priority=PRIORITIES[row["priority"]],
    )
