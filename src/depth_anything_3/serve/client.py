"""A typed client of the server: submit, watch, fetch.

with Client("http://localhost:8008") as client:
    job = client.wait(client.submit(["a.jpg", "b.jpg"], process_res=504).id)
    client.download(job, "results")
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from depth_anything_3._files import atomic_path
from depth_anything_3._optional import require
from depth_anything_3.errors import DA3Error, InputError

if TYPE_CHECKING:
    from httpx import Client as HttpClient
    from httpx import Response

FileSource: TypeAlias = "str | os.PathLike[str] | tuple[str, bytes]"
"""A file, or a name and the bytes of a file."""

API_KEY = "DA3_API_KEY"
"""Environment variable of the key, which does not belong on a command line."""

_FINISHED = ("completed", "failed", "cancelled")
_TRIES = 5


class ServerError(DA3Error, OSError):
    """The server cannot be reached, or refused.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        code: for programs, such as ``queue_full``.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "unreachable") -> None:
        self.status, self.code = status, code
        super().__init__(message)


class JobFailedError(DA3Error):
    """A job ended without results."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A result on the server: its name relative to the folder of results, and its size."""

    name: str
    bytes: int
    url: str


@dataclass(frozen=True, kw_only=True)
class RemoteJob:
    """A job as the server describes it.

    Attributes:
        id: for all other calls.
        status: ``queued``, ``running``, ``completed``, ``failed`` or ``cancelled``.
        progress: share of the work that is done; None before it begins.
        stage: what is being done.
        images: names of the inputs.
        files: results.
        summary: depth and cameras in a few numbers, see :func:`depth_anything_3.serve.summary.summarise`.
        notes: warnings.
        error: ``type`` and ``message``, or None.
        position: jobs before this one in the queue, or None.
    """

    id: str
    status: str
    progress: float | None
    stage: str | None
    images: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    summary: Mapping[str, Any] | None
    notes: tuple[str, ...]
    error: Mapping[str, str] | None
    position: int | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in _FINISHED

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RemoteJob:
        """From an answer of the server."""
        names = ("id", "status", "progress", "stage", "summary", "error")
        return cls(
            **{name: value[name] for name in names},
            images=tuple(value["images"]),
            notes=tuple(value["notes"]),
            files=tuple(RemoteFile(**file) for file in value["files"]),
            position=value.get("position"),
        )


class Client:
    """A server.

    Args:
        url: of the server.
        api_key: where it wants one; by default from the environment variable ``DA3_API_KEY``.
        timeout: seconds without an answer after which a call fails.
    """

    def __init__(
        self, url: str = "http://localhost:8008", *, api_key: str | None = None, timeout: float = 60.0
    ) -> None:
        httpx = require("httpx", extra="serve")
        if not url.startswith(("http://", "https://")):
            raise InputError("url", repr(url), "a URL such as http://localhost:8008")
        key = os.environ.get(API_KEY) if api_key is None else api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url.rstrip("/")
        self._http: HttpClient = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            trust_env=False,
            verify=url.startswith("https"),  # reading certificates takes a while and is not needed without TLS
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        images: Sequence[FileSource],
        *,
        masks: Sequence[FileSource] = (),
        poses: FileSource | None = None,
        intrinsics: FileSource | Sequence[Any] | None = None,
        priority: str = "normal",
        idempotency_key: str | None = None,
        **options: Any,
    ) -> RemoteJob:
        """Upload images and submit a job.

        Args:
            images: files, or names and the bytes of files; or one video.
            masks: one for each image, in order; white where it counts.
            poses: a camera file.
            intrinsics: a camera file, or the matrices as lists.
            priority: ``low``, ``normal`` or ``high``.
            idempotency_key: a second call with the same key returns the first job. By default each call has its own,
                so that an answer that gets lost on the way can be asked for again.
            options: arguments of ``DepthAnything3.inference`` as plain data.
        """
        key = idempotency_key or secrets.token_hex(16)
        files = [("images", image) for image in images] + [("masks", mask) for mask in masks]
        files += [("poses", poses)] if poses is not None else []
        if _is_file(intrinsics):
            files.append(("intrinsics", intrinsics))  # type: ignore[arg-type] # _is_file has looked
        elif intrinsics is not None:
            options["intrinsics"] = intrinsics
        for attempt in range(_TRIES):
            with ExitStack() as opened:
                parts = [(name, _part(file, opened, name)) for name, file in files]
                data = {"options": json.dumps(options), "priority": priority}
                try:
                    answer = self._call("POST", "/v1/jobs", files=parts, data=data, headers={"Idempotency-Key": key})
                    return RemoteJob.from_json(answer.json())
                except ServerError as error:
                    if error.status not in (0, 503) or attempt == _TRIES - 1:
                        raise
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    def submit_paths(self, image_paths: Sequence[str], *, export_dir: str | None = None, **options: Any) -> RemoteJob:
        """Submit a job whose images lie below a root of the server, and copy its results to ``export_dir`` there."""
        body = {"image_paths": list(image_paths), "export_dir": export_dir, **options}
        return RemoteJob.from_json(self._call("POST", "/v1/jobs", json=body).json())

    def get(self, job_id: str) -> RemoteJob:
        """One job."""
        return RemoteJob.from_json(self._call("GET", f"/v1/jobs/{job_id}").json())

    def jobs(self, *, status: str | None = None, limit: int = 100) -> tuple[RemoteJob, ...]:
        """Your jobs, the newest first."""
        params = {"limit": limit, **({"status": status} if status else {})}
        answer = self._call("GET", "/v1/jobs", params=params).json()
        return tuple(RemoteJob.from_json(value) for value in answer["data"])

    def events(self, job_id: str) -> Iterator[RemoteJob]:
        """The job at each change, until it has finished. A connection that breaks is made again."""
        seen, failures = "", 0
        httpx = require("httpx", extra="serve")
        while True:
            try:
                headers = {"Last-Event-ID": seen} if seen else {}
                with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        _raise_for(answer)
                    failures = 0
                    for line in answer.iter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            seen = value
                        elif name == "data":
                            job = RemoteJob.from_json(json.loads(value))
                            yield job
                            if job.finished:
                                return
            except httpx.TransportError as error:
                if failures == _TRIES:
                    raise ServerError(f"{self.url} does not answer ({error})") from error
            failures += 1
            time.sleep(min(5.0, 0.1 * 2**failures))

    def wait(self, job_id: str, *, on_change: Callable[[RemoteJob], None] | None = None) -> RemoteJob:
        """The completed job.

        Raises:
            JobFailedError: it failed or was cancelled.
        """
        for job in self.events(job_id):
            if on_change is not None:
                on_change(job)
            if job.finished:
                break
        if job.status != "completed":
            raise JobFailedError(f"job {job.id} {job.status}: {(job.error or {}).get('message', '')}")
        return job

    def cancel(self, job_id: str) -> RemoteJob:
        """End a waiting job, ask a running one to stop."""
        return RemoteJob.from_json(self._call("POST", f"/v1/jobs/{job_id}/cancel").json())

    def delete(self, job_id: str) -> None:
        """Remove a finished job and its files from the server."""
        self._call("DELETE", f"/v1/jobs/{job_id}")

    def download(self, job: RemoteJob, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Fetch all results; each file appears whole. A server cannot write outside ``folder``.

        Raises:
            ServerError: a file is not what was announced.
        """
        target = Path(folder)
        return tuple(self._fetch(job, file, target) for file in job.files)

    def models(self) -> tuple[str, ...]:
        """Names of the models that the server runs."""
        return tuple(entry["id"] for entry in self._call("GET", "/v1/models").json()["data"])

    def _fetch(self, job: RemoteJob, file: RemoteFile, folder: Path) -> Path:
        parts = PurePosixPath(file.name).parts
        if not parts or any(part in ("..", "/") or "\\" in part or ":" in part for part in parts):
            raise ServerError(f"the server names a file {file.name!r}", code="bad_name")
        path = folder.joinpath(*parts)
        if folder.resolve() not in path.resolve().parents:
            raise ServerError(f"{path} leads out of {folder}", code="bad_name")
        with atomic_path(path) as temporary, temporary.open("wb") as target:
            with self._http.stream("GET", f"/v1/jobs/{job.id}/files/{file.name}") as answer:
                if answer.is_error:
                    answer.read()
                    _raise_for(answer)
                for piece in answer.iter_bytes():
                    target.write(piece)
            if target.tell() != file.bytes:
                raise ServerError(f"{file.name}: got {target.tell()} of {file.bytes} bytes", code="truncated")
        return path

    def _call(self, method: str, path: str, **arguments: Any) -> Response:
        httpx = require("httpx", extra="serve")
        try:
            answer: Response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise ServerError(f"{self.url} does not answer ({error})") from error
        if answer.is_error:
            _raise_for(answer)
        return answer


def _is_file(value: object) -> bool:
    named = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bytes)
    return named or isinstance(value, str | os.PathLike)


def _part(file: FileSource, opened: ExitStack, name: str) -> tuple[str, Any]:
    if isinstance(file, tuple):
        return file
    path = Path(file)
    try:
        return path.name, opened.enter_context(path.open("rb"))
    except OSError as error:
        raise InputError(name, f"{path} ({error.strerror})", "a readable file") from None


def _raise_for(answer: Response) -> None:
    try:
        error = answer.json()["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = answer.text[:200], "unknown"
    raise ServerError(f"the server refused ({answer.status_code}): {message}", status=answer.status_code, code=code)
