"""The job routes: submit, list, status, events, cancel, files, delete."""

from __future__ import annotations

import io
import json
import mimetypes
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from depth_anything_3.errors import InputError
from depth_anything_3.serve.guard import allowed_types
from depth_anything_3.serve.http_errors import HttpError
from depth_anything_3.serve.intake import SCENE_FILES, IncomingImage
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.requests import options_schema
from depth_anything_3.serve.settings import MIB
from depth_anything_3.serve.store import PRIORITIES, Job, Status
from depth_anything_3.serve.views import (
    JOB_SCHEMA,
    error_answers,
    events,
    in_turn,
    job_links,
    job_view,
    json_content,
)

_JSON, _FORM = "application/json", "multipart/form-data"
_INLINE = {".jpg", ".jpeg", ".png", ".webp", ".mp4"}
_TYPES = {".glb": "model/gltf-binary", ".npz": "application/octet-stream", ".npy": "application/octet-stream"}
_SAFE_TYPES = {"image/jpeg", "image/png", "image/webp", "video/mp4", "application/json", "model/gltf-binary"}
_PATHS = {"masks": "mask_paths", "poses": "poses_path", "intrinsics": "intrinsics_path"}
_INTRINSICS = "a camera file with intrinsics, or a text file that says a field of view (60deg) or exif."
MOST_JSON = 96 * MIB
"""Bytes of a JSON body: enough for images in base64."""


def router(queue: JobQueue) -> APIRouter:
    """The routes on a queue."""
    routes = APIRouter(prefix="/v1", tags=["jobs"])
    _add_submission(routes, queue)
    _add_status(routes, queue)
    _add_changes(routes, queue)
    _add_results(routes, queue)
    return routes


def _add_submission(routes: APIRouter, queue: JobQueue) -> None:
    @routes.post(
        "/jobs",
        status_code=202,
        responses={
            202: json_content(JOB_SCHEMA, "Accepted") | job_links("get_job", "stream", "cancel", "delete"),
            **error_answers(400, 413, 415, 408),
        },
        openapi_extra={"requestBody": submission_schema()},
    )
    async def submit(request: Request) -> JSONResponse:
        """Submit a job: images as a form, or the paths of images below a root of the server as JSON."""
        kind = allowed_types(request.headers.get("content-type", ""), (_FORM, _JSON))
        idempotency_key = request.headers.get("idempotency-key")
        if idempotency_key is not None and not 0 < len(idempotency_key) <= 200:
            raise InputError("Idempotency-Key", f"{len(idempotency_key)} characters", "1 to 200 characters")
        known: dict[str, Any] = {"owner": owner_of(request), "idempotency_key": idempotency_key}
        if kind == _JSON:
            values = await json_object(request)
            check_priority(request, values.get("priority"))
            job = await in_turn(partial(submit_paths, queue, values, **known))
        else:
            limits = queue.settings.limits
            most = 2 * limits.images + 3  # images, masks, and one file more than there may be of others
            async with request.form(max_files=most, max_fields=8, max_part_size=16 * MIB) as form:
                parts = await in_turn(partial(_form_parts, form))
                check_priority(request, parts.get("priority"))
                job = await in_turn(partial(queue.submit, **parts, **known))
        return JSONResponse(job_view(job), 202, headers={"Location": f"/v1/jobs/{job.id}"})


def _add_status(routes: APIRouter, queue: JobQueue) -> None:
    @routes.get("/jobs", responses={200: json_content(_list_of(JOB_SCHEMA), "Jobs"), **error_answers(400)})
    def list_jobs(
        request: Request,
        status: Status | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        before: Annotated[str | None, Query(max_length=64)] = None,
    ) -> JSONResponse:
        """Your jobs, the newest first; `before` is the id of the last one of the page before."""
        jobs = queue.find(owner=owner_of(request), status=status, limit=limit, before=before)
        return JSONResponse({"object": "list", "data": [job_view(job) for job in jobs]})

    @routes.get(
        "/jobs/{job_id}",
        responses={
            200: json_content(JOB_SCHEMA, "The job") | job_links("file", "archive", "cancel", "delete"),
            **error_answers(404),
        },
    )
    async def get_job(request: Request, job_id: str) -> JSONResponse:
        """One job, with its place in the queue while it waits."""
        # Read on the event loop: that takes less time than to pass it to a thread, and waits for no thread that works.
        job = queue.get(job_id, owner=owner_of(request))
        extra = {"position": queue.store.position(job_id)} if job.status == "queued" else {}
        return JSONResponse({**job_view(job), **extra})

    @routes.get(
        "/jobs/{job_id}/events",
        responses={
            200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
            **error_answers(404),
        },
    )
    async def stream(request: Request, job_id: str) -> Response:
        """Progress as server-sent events: `job` for each change, `end` with the finished job. `Last-Event-ID` leaves
        out what was seen."""
        queue.get(job_id, owner=owner_of(request))
        state = request.app.state
        if state.streams >= queue.settings.limits.streams:
            raise HttpError(429, "too_many_streams", "too many event streams are open", headers={"Retry-After": "5"})
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isdecimal() and seen.isascii() and len(seen) < 12 else 0

        async def counted() -> Any:
            state.streams += 1
            try:
                async for event in events(
                    queue, job_id, after=after, stopping=state.stopping, gone=request.is_disconnected
                ):
                    yield event
            finally:
                state.streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")

    @routes.get("/usage", responses={200: json_content({"type": "object"}, "Usage"), **error_answers()})
    def usage(request: Request) -> JSONResponse:
        """What your finished jobs took, by day: jobs, images, pixels at network size, seconds."""
        return JSONResponse({"object": "list", "data": queue.store.usage(owner_of(request))})


def _add_changes(routes: APIRouter, queue: JobQueue) -> None:
    @routes.post(
        "/jobs/{job_id}/cancel",
        responses={
            200: json_content(JOB_SCHEMA, "The job") | job_links("get_job", "delete"),
            **error_answers(404),
        },
    )
    def cancel(request: Request, job_id: str) -> JSONResponse:
        """End a waiting job, ask a running one to stop; a finished one stays as it is."""
        return JSONResponse(job_view(queue.cancel(job_id, owner=owner_of(request))))

    @routes.delete(
        "/jobs/{job_id}", status_code=204, responses={204: {"description": "Gone"}, **error_answers(404, 409)}
    )
    def delete(request: Request, job_id: str) -> Response:
        """Remove a finished job and its files."""
        queue.delete(job_id, owner=owner_of(request))
        return Response(status_code=204)


def _add_results(routes: APIRouter, queue: JobQueue) -> None:
    kinds = sorted({"application/octet-stream", *_SAFE_TYPES} - {"application/json"})
    bytes_: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    binary = {"content": {**dict.fromkeys(kinds, bytes_), "application/json": {"schema": {}}}}

    @routes.get(
        "/jobs/{job_id}/files/{name:path}",
        responses={200: {"description": "The file", **binary}, **error_answers(404)},
    )
    def file(request: Request, job_id: str, name: str) -> Response:
        """One result file, by a name from `files` of the job."""
        try:
            path = queue.result(job_id, name, owner=owner_of(request))
        except InputError as error:
            raise HttpError(404, "not_found", str(error), param="name") from None
        return file_response(path)

    @routes.get(
        "/jobs/{job_id}/results.zip",
        responses={
            200: {"description": "All files", "content": {"application/zip": {}}},
            **error_answers(404, 409),
        },
    )
    def archive(request: Request, job_id: str) -> Response:
        """All result files in one archive, which is made while it is sent."""
        job = queue.get(job_id, owner=owner_of(request))
        if job.status != "completed":
            raise HttpError(409, "job_busy", f"job {job_id} is {job.status} and has no results")
        headers = {"Content-Disposition": f'attachment; filename="{job.id}.zip"'}
        return StreamingResponse(_zipped(queue, job), media_type="application/zip", headers=headers)


def owner_of(request: Request) -> str:
    """Id of the API key of a request; empty where there are no keys."""
    owner: str = request.scope["state"]["owner"]
    return owner


def check_priority(request: Request, priority: object) -> None:
    """Refuse ``high`` to keys that may not use it; without keys everybody may."""
    if priority == "high" and not request.scope["state"]["high_priority"]:
        message = "this API key may not use the priority 'high'; see 'da3 backend keys add --high-priority'"
        raise HttpError(403, "priority_not_allowed", message, param="priority")


async def json_object(request: Request) -> dict[str, Any]:
    """The body of a request as a JSON object.

    Raises:
        HttpError: it is something else, or too large.
    """
    pieces, count = [], 0
    async for piece in request.stream():
        count += len(piece)
        if count > MOST_JSON:
            raise HttpError(413, "too_large", f"more than {MOST_JSON} bytes of JSON; upload images as a form instead")
        pieces.append(piece)
    try:
        value = await in_turn(lambda: _parsed(b"".join(pieces)))
    except (ValueError, RecursionError):
        raise HttpError(400, "invalid_json", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HttpError(400, "invalid_json", "the body is not a JSON object")
    return value


def _parsed(text: str | bytes) -> Any:
    """JSON, without constants that are none.

    A parser in C keeps the interpreter to itself until it is done; where it asks Python for each number, the event loop
    has its turns.
    """
    return json.loads(text, parse_constant=_no_constant, parse_float=_number)


def _number(text: str) -> float:
    return float(text)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def submit_paths(queue: JobQueue, values: dict[str, Any], *, owner: str, idempotency_key: str | None = None) -> Job:
    """Submit a job whose images lie below the roots.

    Args:
        values: ``image_paths``, ``mask_paths``, ``poses_path``, ``intrinsics_path``, ``export_dir``,
            ``priority`` and options.

    Raises:
        InputError: a wrong value. ForbiddenPathError: a path outside the roots.
    """
    options, most = dict(values), queue.settings.limits.images
    priority = options.pop("priority", "normal")
    images = _opened_below(queue, "image_paths", options.pop("image_paths", None), most)
    files = {
        kind: _opened_below(queue, name, options.pop(name), most) for kind, name in _PATHS.items() if name in options
    }
    export_dir = options.pop("export_dir", None)
    if export_dir is not None and not isinstance(export_dir, str):
        raise InputError("export_dir", repr(export_dir)[:100], "a path or null")
    return queue.submit(
        images,
        options,
        files=files,
        owner=owner,
        export_dir=export_dir,
        idempotency_key=idempotency_key,
        priority=priority,
    )


def _opened_below(queue: JobQueue, name: str, paths: Any, most: int) -> list[IncomingImage]:
    if name != "image_paths" and isinstance(paths, str | None):
        paths = [paths] if paths else []
    if (
        not isinstance(paths, list)
        or not all(isinstance(path, str) for path in paths)
        or (name == "image_paths" and not paths)
    ):
        raise InputError(name, repr(paths)[:100], "a list of paths")
    if len(paths) > most:
        raise InputError(name, f"{len(paths)} paths", f"at most {most}")
    return [IncomingImage(path, partial(queue.roots.open, path)) for path in paths]


def _form_parts(form: FormData) -> dict[str, Any]:
    """Images, files beside them, options and folder of a form, as arguments of ``JobQueue.submit``; nothing else may be
    in it."""
    images: list[IncomingImage] = []
    files: dict[str, list[IncomingImage]] = {}
    options: dict[str, Any] = {}
    plain: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name in ("images", *SCENE_FILES):
            target = images if name == "images" else files.setdefault(name, [])
            target.append(IncomingImage(value.filename or "", value.file))
        elif name == "options" and isinstance(value, str):
            try:
                options = _parsed(value)
            except (ValueError, RecursionError):
                raise InputError("options", repr(value)[:100], "a JSON object") from None
            if not isinstance(options, dict):
                raise InputError("options", repr(value)[:100], "a JSON object")
        elif name in ("export_dir", "priority") and isinstance(value, str):
            plain[name] = value
        else:
            known = f"files {', '.join(('images', *SCENE_FILES))}; JSON 'options'; 'export_dir', 'priority'"
            raise InputError(name[:50] or "form", "an unknown part", known)
    return {"images": images, "files": files, "options": options, **plain}


def submission_schema() -> dict[str, Any]:
    """The body of a submission, for OpenAPI."""
    options = options_schema()
    turn = {"enum": list(PRIORITIES), "default": "normal", "description": "What is higher is begun first."}
    strings: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    files_: dict[str, Any] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    paths = {
        "image_paths": {**strings, "minItems": 1, "description": "Below a root: photos, or one video."},
        "mask_paths": {**strings, "description": "Below a root: one mask for each image, white where it counts."},
        "poses_path": {"type": "string", "description": "Below a root: a camera file with poses."},
        "intrinsics_path": {"type": "string", "description": f"Below a root: {_INTRINSICS}"},
        "export_dir": {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "default": None,
            "description": "Folder below a root that the results are copied to.",
        },
        "priority": turn,
    }
    by_path = {**options, "properties": {**paths, **options["properties"]}, "required": ["image_paths"]}
    form = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {
            "images": {**files_, "minItems": 1, "description": "Photos, or one video."},
            "masks": {**files_, "description": "One for each image, in order; white where it counts."},
            "poses": {"type": "string", "format": "binary", "description": "A camera file with poses."},
            "intrinsics": {"type": "string", "format": "binary", "description": _INTRINSICS.capitalize()},
            "options": {"type": "string", "description": "JSON object of options, as in the JSON form."},
            "export_dir": {"type": "string"},
            "priority": turn,
        },
    }
    return {"required": True, "content": {_FORM: {"schema": form}, _JSON: {"schema": by_path}}}


def file_response(path: Path) -> FileResponse:
    """A result file, with a type that no browser takes for a page; ranges are served."""
    kind = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or ""
    inline = path.suffix.lower() in _INLINE and kind in _SAFE_TYPES
    disposition = f"{'inline' if inline else 'attachment'}; filename*=UTF-8''{quote(path.name)}"
    return FileResponse(
        path,
        media_type=kind if kind in _SAFE_TYPES else "application/octet-stream",
        headers={"Content-Disposition": disposition},
    )


class _Pipe(io.RawIOBase):
    """Collects what is written until it is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _zipped(queue: JobQueue, job: Job) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # the formats are compressed already
        for entry in job.files:
            info = zipfile.ZipInfo(entry.name)
            path = queue.folders.results(job) / entry.name
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                while piece := source.read(MIB):
                    target.write(piece)
                    yield pipe.take()
    yield pipe.take()


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"object": {"const": "list"}, "data": {"type": "array", "items": schema}}
    return {"type": "object", "required": ["data"], "properties": properties}
