"""Whether the server lives, and whether it can take work."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.views import json_content

_OBJECT = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}


def router(queue: JobQueue) -> APIRouter:
    """The routes on a queue."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", responses={200: json_content(_OBJECT, "Alive")})
    def alive() -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "alive"})

    @routes.get("/readyz", responses={200: json_content(_OBJECT, "Ready"), 503: json_content(_OBJECT, "Not ready")})
    def ready(request: Request) -> JSONResponse:
        """The queue can be read, a worker is up, and the server is not about to stop."""
        if request.app.state.stopping.is_set():
            return JSONResponse({"status": "stopping"}, 503)
        states = {state.get("state") for state in queue.store.workers().values()}
        up = bool(states & {"idle", "busy"}) and bool(queue.supervisor.pids())
        return JSONResponse({"status": "ready" if up else "starting"}, 200 if up else 503)

    return routes
