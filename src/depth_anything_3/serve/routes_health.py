"""Whether the server lives, whether it can take work, and what it does."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.metrics import CONTENT_TYPE, render
from depth_anything_3.serve.views import error_answers, json_content

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

    @routes.get(
        "/metrics",
        responses={200: {"description": "Prometheus text", "content": {"text/plain": {}}}, **error_answers()},
    )
    def metrics(request: Request) -> Response:
        """Jobs, workers, memory and answers in the text format of Prometheus; with API keys any of them will do."""
        state = request.app.state
        return Response(render(queue, state.requests, state.streams), headers={"Content-Type": CONTENT_TYPE})

    return routes
