"""The whole site: the page at ``/``, result files, the viewer at ``/da3``, the gallery at ``/gallery``."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

import fastapi
import gradio
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount

from depth_anything_3.gallery.app import make_app as make_gallery
from depth_anything_3.gallery.archive import stream_zip
from depth_anything_3.web.pages import DATA_POLICY, static_routes
from depth_anything_3.webui.app import build_page, look
from depth_anything_3.webui.choices import model_choices
from depth_anything_3.webui.desk import Desk
from depth_anything_3.webui.examples import Examples
from depth_anything_3.webui.queues import ModelQueues

_MOST_WAITING = 64
_LARGEST_UPLOAD = "512mb"
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' "
    "'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
"""Of the page. Gradio's own page needs inline scripts; nothing comes from other servers."""


def make_site(queues: ModelQueues, *, workspace: Path, gallery_dir: Path | None, model: str | None) -> fastapi.FastAPI:
    """The application.

    Args:
        queues: where jobs run; the caller opens and closes them.
        workspace: holds ``examples/``.
        gallery_dir: where results may be kept and are shown; None for none.
        model: chosen at first; None for the first bundled one.
    """
    choices = model_choices(model)
    if model is not None:
        choices.sort(key=lambda choice: choice.source != model)
    desk = Desk(queues, choices, gallery_dir)
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_with_policy)
    app.add_api_route("/results/{job}.zip", lambda job: _archive(desk, job))
    app.add_api_route("/results/{job}/{name:path}", lambda job, name, download=None: _file(desk, job, name, download))
    app.router.routes.append(Mount("/da3", routes=static_routes("viewer.html")))
    if gallery_dir is not None:
        app.mount("/gallery", make_gallery(gallery_dir))
    examples = Examples(workspace / "examples", workspace / "cache" / "made-up room")
    page = build_page(desk, choices, examples, gallery=gallery_dir is not None)
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=8, api_open=False)
    return gradio.mount_gradio_app(
        app, page, path="/", allowed_paths=[str(workspace.resolve())], max_file_size=_LARGEST_UPLOAD, show_error=False,
        ssr_mode=False, enable_monitoring=False, footer_links=[], **look(),
    )  # fmt: skip


async def _with_policy(request: fastapi.Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    return response


def _file(desk: Desk, job: str, name: str, download: str | None = None) -> Response:
    queue = desk.queue_of(job)
    names = {file.name for file in queue.get(job).files} if queue else set()
    if queue is None or name not in names:
        raise HTTPException(404)
    path = queue.result(job, name)
    kind = "model/gltf-binary" if path.suffix == ".glb" else mimetypes.guess_type(path.name)[0]
    return FileResponse(
        path,
        media_type=kind or "application/octet-stream",
        filename=path.name if download is not None else None,
        headers={"Content-Security-Policy": DATA_POLICY, "Cache-Control": "private, no-cache"},
    )


def _archive(desk: Desk, job: str) -> Response:
    queue = desk.queue_of(job)
    if queue is None or not (files := queue.get(job).files):
        raise HTTPException(404)
    members = [(file.name, queue.result(job, file.name)) for file in files]
    headers = {"Content-Disposition": f'attachment; filename="{job[:8]}.zip"', "Content-Security-Policy": DATA_POLICY}
    return StreamingResponse(stream_zip(members), media_type="application/zip", headers=headers)
