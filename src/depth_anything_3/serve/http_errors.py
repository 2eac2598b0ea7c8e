"""Errors on the wire: one shape for all doors, ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.serve.intake import TooLargeError
from depth_anything_3.serve.sandbox import ForbiddenPathError
from depth_anything_3.serve.store import JobBusyError, QueueFullError, QuotaError, UnknownJobError

_STATUS: tuple[tuple[type[DA3Error], int, str], ...] = (
    (ForbiddenPathError, 403, "forbidden_path"),
    (TooLargeError, 413, "too_large"),
    (QueueFullError, 429, "queue_full"),
    (QuotaError, 429, "quota_exceeded"),
    (JobBusyError, 409, "job_busy"),
    (UnknownJobError, 404, "not_found"),
    (InputError, 400, "invalid_value"),
)


class HttpError(DA3Error):
    """An answer other than success.

    Args:
        status: of HTTP.
        code: for programs.
        message: for people.
        param: the option or setting it is about.
        headers: to send along.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.status, self.code, self.param, self.headers = status, code, param, headers
        super().__init__(message)


def error_body(message: str, *, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def as_http(error: DA3Error) -> HttpError:
    """The answer to an error of the package."""
    if isinstance(error, HttpError):
        return error
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            headers = {"Retry-After": "5"} if status == 429 else None
            return HttpError(status, code, str(error), param=getattr(error, "argument", None), headers=headers)
    return HttpError(500, "internal_error", "an internal error; see the log of the server")


def response_of(error: HttpError) -> JSONResponse:
    """The response that carries an error."""
    body = error_body(str(error), status=error.status, code=error.code, param=error.param)
    return JSONResponse(body, error.status, headers=error.headers)


async def on_package_error(_: Request, error: Exception) -> JSONResponse:
    """Handler for everything that the package raises on purpose."""
    assert isinstance(error, DA3Error)
    return response_of(as_http(error))


async def on_http_exception(_: Request, error: Exception) -> JSONResponse:
    """Handler for what the framework raises: unknown routes, wrong methods, broken forms."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "bad_request")
    headers = dict(error.headers) if error.headers else None
    return response_of(HttpError(error.status_code, code, str(error.detail), headers=headers))
