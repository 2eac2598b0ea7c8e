"""The routes of the published server, for clients that know no others; fields, words and steps as there.

What differs: an unknown field is refused, paths lie below the roots, "completed" means that every file is there, and a
reload waits for the running job.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from depth_anything_3.serve.guard import allowed_types
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.routes_jobs import check_priority, json_object, owner_of, submission_schema, submit_paths
from depth_anything_3.serve.store import FINISHED, Job, JobBusyError, UnknownJobError
from depth_anything_3.serve.views import error_answers, fraction, in_turn, json_content
from depth_anything_3.web.pages import page

_WORDS = {"queued": "pending", "cancelled": "failed"}
_KEPT_FINISHED = 100
_CLEANUP_AGE = 600.0
_OBJECT: dict[str, Any] = {"type": "object"}


def router(queue: JobQueue) -> APIRouter:
    """The routes on a queue."""
    routes = APIRouter(tags=["published"])
    routes.add_api_route("/dashboard", lambda: page("dashboard.html"), include_in_schema=False, response_model=None)
    _add_state(routes, queue)
    _add_tasks(routes, queue)
    return routes


def _add_state(routes: APIRouter, queue: JobQueue) -> None:
    @routes.get("/status", responses={200: json_content(_OBJECT, "State of the model"), **error_answers()})
    def status() -> JSONResponse:
        """Whether the model is loaded, where, since when."""
        return JSONResponse(_model_state(queue))

    @routes.get("/gpu-memory", responses={200: json_content(_OBJECT, "Memory"), **error_answers()})
    def gpu_memory() -> JSONResponse:
        """Memory of the GPU."""
        found = _first_worker(queue).get("gpu_memory")
        if not found:
            return JSONResponse({"available": False, "message": "no CUDA device is in use"})
        used = found["utilization_percent"]
        health = "healthy" if used < 80 else "warning" if used < 95 else "critical"
        return JSONResponse({"available": True, **found, "status": health})

    @routes.post("/reload", responses={200: json_content(_OBJECT, "Reloading"), **error_answers()})
    def reload() -> JSONResponse:
        """Load the model anew, once the running job has ended."""
        queue.supervisor.restart_workers()
        return JSONResponse({"message": "the model is loaded anew after the running job"})

    @routes.post("/cleanup", responses={200: json_content(_OBJECT, "Cleaned"), **error_answers()})
    def cleanup(request: Request) -> JSONResponse:
        """Delete your jobs that finished more than ten minutes ago, and all but the newest hundred."""
        now, owner = time.time(), owner_of(request)
        finished = [job for job in queue.find(owner=owner, limit=10_000) if job.finished is not None]
        for index, job in enumerate(finished):
            if index >= _KEPT_FINISHED or now - (job.finished or now) > _CLEANUP_AGE:
                queue.delete(job.id, owner=owner)
        active = sum(job.status not in FINISHED for job in queue.find(owner=owner, limit=10_000))
        return JSONResponse({"message": "cleanup done", "active_tasks": active})


def _add_tasks(routes: APIRouter, queue: JobQueue) -> None:
    body = submission_schema()["content"]["application/json"]

    @routes.post(
        "/inference",
        responses={200: json_content(_OBJECT, "Accepted"), **error_answers(400, 413, 415)},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": body}}},
    )
    async def inference(request: Request) -> JSONResponse:
        """Submit a job whose images lie below a root of the server; it is not waited for."""
        allowed_types(request.headers.get("content-type", ""), ("application/json",))
        values = await json_object(request)
        check_priority(request, values.get("priority"))
        job = await in_turn(partial(submit_paths, queue, values, owner=owner_of(request)))
        answer = {
            "success": True,
            "message": f"task {job.id} is queued",
            "task_id": job.id,
            "export_dir": job.export_dir,
            "export_format": _format_of(job),
            "processing_time": None,
        }
        return JSONResponse(answer)

    @routes.get("/task/{task_id}", responses={200: json_content(_OBJECT, "The task"), **_details(404)})
    async def task(request: Request, task_id: str) -> JSONResponse:
        """One task."""
        try:
            return JSONResponse(task_view(queue.get(task_id, owner=owner_of(request))))
        except UnknownJobError:
            return JSONResponse({"detail": "Task not found"}, 404)

    @routes.delete("/task/{task_id}", responses={200: json_content(_OBJECT, "Deleted"), **_details(400, 404)})
    def delete_task(request: Request, task_id: str) -> JSONResponse:
        """Delete a finished task."""
        try:
            queue.delete(task_id, owner=owner_of(request))
        except UnknownJobError:
            return JSONResponse({"detail": "Task not found"}, 404)
        except JobBusyError:
            return JSONResponse({"detail": "Cannot delete a running or pending task"}, 400)
        return JSONResponse({"message": f"Task {task_id} deleted"})

    @routes.get("/tasks", responses={200: json_content(_OBJECT, "Tasks"), **error_answers()})
    def tasks(request: Request) -> JSONResponse:
        """All your tasks: those that wait or run, and those that have ended."""
        views = [task_view(job) for job in queue.find(owner=owner_of(request), limit=500)]
        active = [view for view in views if view["status"] in ("pending", "running")]
        ended = [view for view in views if view not in active]
        return JSONResponse(
            {
                "tasks": views,
                "active_tasks": active,
                "completed_tasks": ended,
                "active_count": len(active),
                "total_count": len(views),
            }
        )


def _details(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Errors in the published shape, ``{"detail": ...}``."""
    return {**error_answers(), **{code: json_content(_OBJECT, "Refused") for code in codes}}


def task_view(job: Job) -> dict[str, Any]:
    """A job in the fields of the published ``TaskStatus``; its message holds the id, as there."""
    said = job.message or (f"{job.stage} {job.done}/{job.total}" if job.status == "running" else job.status)
    return {
        "task_id": job.id,
        "status": _WORDS.get(job.status, job.status),
        "message": f"[{job.id}] {said}",
        "progress": fraction(job),
        "created_at": job.created,
        "started_at": job.started,
        "completed_at": job.finished,
        "export_dir": job.export_dir,
        "request": {"image_paths": list(job.images), "export_dir": job.export_dir, **job.options},
        "num_images": len(job.images),
        "export_format": _format_of(job),
        "process_res_method": job.options.get("process_res_method", "upper_bound_resize"),
        "video_path": job.images[0],
    }


def _format_of(job: Job) -> str:
    return str(job.options.get("export_format") or "mini_npz-glb")


def _first_worker(queue: JobQueue) -> dict[str, Any]:
    return next(iter(queue.store.workers().values()), {})


def _model_state(queue: JobQueue) -> dict[str, Any]:
    state = _first_worker(queue)
    loaded = state.get("loaded_at")
    return {
        "model_loaded": loaded is not None,
        "model_dir": queue.settings.model,
        "device": state.get("device", queue.settings.devices[0]),
        "load_time": state.get("load_time"),
        "last_used": state.get("last_used"),
        "uptime": None if loaded is None else time.time() - loaded,
        "gpu_memory": state.get("gpu_memory"),
    }
