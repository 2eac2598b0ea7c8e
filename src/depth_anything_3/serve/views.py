"""Jobs as clients see them, the wait for them, and the schemas of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import anyio.to_thread
from anyio.lowlevel import RunVar

from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.store import FINISHED, PRIORITIES, STATUSES, Job

T = TypeVar("T")

_AT_ONCE = 4
_turns: RunVar[anyio.CapacityLimiter] = RunVar("da3_turns")
_POLL = 0.2
_HEARTBEAT = 15.0

_STAGE_SHARE = {"load": (0.1, 0.2), "preprocess": (0.2, 0.3), "network": (0.3, 0.8), "postprocess": (0.8, 0.8)}
_STAGE_SHARE |= {"refine": (0.8, 0.9), "export": (0.9, 1.0)}


def fraction(job: Job) -> float | None:
    """How much of a job is done, from 0 to 1, at the steps that the published server reports; None while it waits."""
    if job.status == "completed":
        return 1.0
    if job.stage not in _STAGE_SHARE:
        return None
    low, high = _STAGE_SHARE[job.stage]
    return round(low + (high - low) * job.done / max(1, job.total), 4)


def job_view(job: Job) -> dict[str, Any]:
    """A job as plain data, without what is only the server's business."""
    return {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "progress": fraction(job),
        "stage": job.stage or None,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "images": list(job.images),
        "options": dict(job.options),
        "export_dir": job.export_dir,
        "priority": job.priority,
        "cancelling": job.cancelling,
        "error": {"type": job.error_type, "message": job.message} if job.error_type else None,
        "notes": list(job.notes),
        "files": [{"name": f.name, "bytes": f.bytes, "url": f"/v1/jobs/{job.id}/files/{f.name}"} for f in job.files],
        "summary": job.summary,
        "runs": job.runs,
    }


def _nullable(kind: str) -> dict[str, Any]:
    return {"anyOf": [{"type": kind}, {"type": "null"}]}


JOB_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "status", "images", "files"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "job"},
        "status": {"enum": list(STATUSES)},
        "progress": _nullable("number"),
        "stage": _nullable("string"),
        "created": {"type": "number", "description": "Seconds since 1970."},
        "started": _nullable("number"),
        "finished": _nullable("number"),
        "images": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object"},
        "export_dir": _nullable("string"),
        "priority": {"enum": list(PRIORITIES)},
        "cancelling": {"type": "boolean"},
        "error": _nullable("object"),
        "notes": {"type": "array", "items": {"type": "string"}},
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "bytes", "url"],
                "properties": {"name": {"type": "string"}, "bytes": {"type": "integer"}, "url": {"type": "string"}},
            },
        },
        "summary": _nullable("object"),
        "runs": {"type": "integer"},
    },
}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": _nullable("string"),
                "code": {"type": "string"},
            },
        }
    },
}


def json_content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A response or body of OpenAPI."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def job_links(*operations: str) -> dict[str, Any]:
    """What can be done with the job in an answer, for OpenAPI: names of operations that take ``job_id``. The operation
    ``file`` also takes the name of a result."""
    parameters = {"job_id": "$response.body#/id"}
    found = {name: {"operationId": name, "parameters": dict(parameters)} for name in operations}
    if "file" in found:
        found["file"] = {"operationId": "file", "parameters": {**parameters, "name": "$response.body#/files/0/name"}}
    return {"links": found}


def error_answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, beside those that every route has."""
    said = {400: "Wrong value", 404: "Not found", 409: "Not finished", 413: "Too large", 415: "Wrong content type"}
    said |= {401: "No valid API key", 403: "Forbidden", 429: "Too many", 408: "Timed out", 504: "Not finished in time"}
    return {code: json_content(ERROR_SCHEMA, said[code]) for code in (*codes, 401, 403, 429)}


async def in_turn(work: Callable[[], T]) -> T:
    """Do long work, such as taking in a submission, in a thread, few at a time.

    Threads share one interpreter with the event loop: if dozens of them worked at once, every answer would wait for
    each of them to give it back.
    """
    try:
        limiter = _turns.get()
    except LookupError:
        _turns.set(limiter := anyio.CapacityLimiter(_AT_ONCE))
    return await anyio.to_thread.run_sync(work, limiter=limiter)


async def wait_for(queue: JobQueue, job_id: str, *, seconds: float, gone: Callable[[], Any] | None = None) -> Job:
    """The job once it has finished, or as it is after so many seconds or once the client has hung up."""
    end = asyncio.get_running_loop().time() + seconds
    pause = 0.02
    while True:
        job = queue.get(job_id)
        if job.status in FINISHED or asyncio.get_running_loop().time() >= end or (gone and await gone()):
            return job
        await asyncio.sleep(pause)
        pause = min(_POLL, 1.5 * pause)


async def events(
    queue: JobQueue, job_id: str, *, after: int, stopping: asyncio.Event, gone: Callable[[], Any]
) -> AsyncIterator[str]:
    """Server-sent events: one ``job`` for each change that is seen, and ``end`` with the last one.

    Args:
        after: the version that the client has seen already.
        stopping: set when the server shuts down.
        gone: whether the client has hung up.
    """
    loop = asyncio.get_running_loop()
    quiet = loop.time()
    while not stopping.is_set() and not await gone():
        job = queue.get(job_id)
        if job.version > after or job.status in FINISHED:
            after, quiet = job.version, loop.time()
            kind = "end" if job.status in FINISHED else "job"
            yield f"id: {job.version}\nevent: {kind}\ndata: {json.dumps(job_view(job))}\n\n"
            if kind == "end":
                return
        elif loop.time() - quiet > _HEARTBEAT:
            quiet = loop.time()
            yield ": still here\n\n"
        await asyncio.sleep(_POLL)
