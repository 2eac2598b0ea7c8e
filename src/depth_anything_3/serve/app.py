"""The HTTP server: routes and guard on a job queue."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from depth_anything_3 import __version__
from depth_anything_3.errors import DA3Error
from depth_anything_3.serve import routes_health, routes_jobs, routes_openai, routes_published
from depth_anything_3.serve.fetch import Fetcher
from depth_anything_3.serve.guard import Guard
from depth_anything_3.serve.http_errors import HttpError, on_http_exception, on_package_error, response_of
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.metrics import Requests
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.web.pages import static_routes

_GRACE = 5
_CONNECTIONS = 2000


def create_app(
    settings: ServerSettings, *, pages: Mapping[str, ASGIApp] | None = None, fetcher: Fetcher | None = None
) -> FastAPI:
    """The application. Its queue and workers live from its start to its end.

    Args:
        settings: of the server.
        pages: applications mounted below a path, such as ``{"/gallery": ...}``. They are behind the guard: host names,
            keys, limits and headers are its business.
        fetcher: of image URLs; tests put their own in its place.
    """
    queue = JobQueue(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(queue.__enter__)
        try:
            yield
        finally:
            app.state.stopping.set()
            await asyncio.to_thread(queue.__exit__)

    # The usual pages of documentation load their scripts from elsewhere, so there are none.
    app = FastAPI(
        title="Depth Anything 3",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # short names of operations, which links refer to
    )
    app.state.queue, app.state.streams, app.state.stopping = queue, 0, asyncio.Event()
    app.state.requests = Requests()
    for routes in (routes_health, routes_jobs, routes_published):
        app.include_router(routes.router(queue))
    app.include_router(routes_openai.router(queue, fetcher or Fetcher(settings.limits)))
    app.router.routes.extend(static_routes("dashboard.html"))
    for path, page in {"/gallery": _no_gallery, **(pages or {})}.items():
        app.mount(path, page)
    app.add_exception_handler(DA3Error, on_package_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_middleware(Guard, settings=settings, requests=app.state.requests)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    return app


async def _no_gallery(scope: Scope, receive: Receive, send: Send) -> None:
    raise HttpError(404, "not_found", "no gallery is shown here; see --gallery-dir of da3 backend")


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return response_of(HttpError(400, "invalid_value", f"{param}: {first['msg']}", param=param))


def _openapi(app: FastAPI, settings: ServerSettings) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # validation errors are 400 here, like all wrong values
                operation["responses"].setdefault("400", {"description": "Wrong value"})
        if settings.keys_file is not None:
            schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema


class Server(uvicorn.Server):
    """uvicorn, which tells event streams of the end before it waits for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGINT and SIGTERM."""
        application: Any = self.config.app
        application.state.stopping.set()
        super().handle_exit(sig, frame)


def make_server(app: FastAPI, settings: ServerSettings) -> Server:
    """A server that is ready to run; with port 0 the system chooses one."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=32 * 1024,
        http="h11",
    )
    return Server(config)


def serve(settings: ServerSettings, *, pages: Mapping[str, ASGIApp] | None = None) -> None:
    """Run until SIGINT or SIGTERM: running requests end, running jobs get a few seconds, the rest stays queued."""
    from depth_anything_3.serve.logs import configure

    configure()
    server = make_server(create_app(settings, pages=pages), settings)
    try:
        server.run()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
