"""The gallery as a web application.

==============================  ====================================================================================
``/``                           the page; ``static/`` holds its scripts and the viewer
``/api/scenes``                 all results: what :func:`~depth_anything_3.gallery.scan.describe` knows
``/api/scenes/ID``              one result, with its files
``/files/PATH``                 one file of a result; with ``?download`` as an attachment
``/thumbnails/ID``              a small picture
``/archives/ID``                everything of one result as a zip file
``/manifest.json``,             the published manifests, whose addresses lead here
``/manifest/GROUP.json``
==============================  ====================================================================================

Everything only reads. Only files that are listed are sent, whatever their path says. Needs the extra ``serve``.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from depth_anything_3._files import path_inside
from depth_anything_3.errors import InputError
from depth_anything_3.gallery.archive import stream_zip
from depth_anything_3.gallery.scan import (
    Scene,
    describe,
    find_scene,
    find_scenes,
    is_result,
    kind_of,
    list_files,
    thumbnail_of,
)
from depth_anything_3.gallery.thumbnails import thumbnail
from depth_anything_3.web.pages import DATA_POLICY, static_routes

_TYPES = {".glb": "model/gltf-binary", ".webp": "image/webp", ".json": "application/json", ".txt": "text/plain"}
_NO_STORE = {"Cache-Control": "no-store", "Content-Security-Policy": DATA_POLICY}


def make_app(root: Path) -> Starlette:
    """The gallery of one folder; it can be mounted below any path of another application.

    Raises:
        InputError: ``root`` is no folder.
    """
    if not root.is_dir():
        raise InputError("gallery_dir", str(root), "a folder of results")
    handlers = _Handlers(root.resolve())
    return Starlette(
        routes=[
            *static_routes("gallery.html"),
            Route("/api/scenes", handlers.scenes),
            Route("/api/scenes/{id:path}", handlers.scene),
            Route("/files/{path:path}", handlers.file),
            Route("/thumbnails/{id:path}", handlers.thumbnail),
            Route("/archives/{id:path}", handlers.archive),
            Route("/manifest.json", handlers.groups),
            Route("/manifest/{group:path}.json", handlers.group),
        ]
    )


class _Handlers:
    """One method per route; plain functions, so that they run in threads and may wait for the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scenes(self, request: Request) -> Response:
        described = [
            {**describe(scene), "thumbnail": thumbnail_of(scene) is not None} for scene in find_scenes(self.root)
        ]
        return JSONResponse({"title": self.root.name, "scenes": described}, headers=_NO_STORE)

    def scene(self, request: Request) -> Response:
        scene = self._find(request)
        files = [
            {"path": scene.url_path(file.path), "name": file.path, "kind": file.kind, "size": file.size}
            for file in list_files(scene)
        ]
        return JSONResponse({**describe(scene), "files": files}, headers=_NO_STORE)

    def file(self, request: Request) -> Response:
        relative = request.path_params["path"]
        path = path_inside(self.root, relative)
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if path is None or hidden or not path.is_file() or kind_of(path.name) is None or not self._in_result(relative):
            raise HTTPException(404)
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": DATA_POLICY}
        kind = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        name = path.name if "download" in request.query_params else None
        return FileResponse(path, media_type=kind, filename=name, headers=headers)

    def thumbnail(self, request: Request) -> Response:
        scene = self._find(request)
        name = thumbnail_of(scene)
        path = path_inside(scene.folder, name) if name else None
        data = thumbnail(path) if path is not None else None
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-cache"})

    def archive(self, request: Request) -> Response:
        scene = self._find(request)
        found = ((file.path, path_inside(scene.folder, file.path)) for file in list_files(scene))
        members = ((name, path) for name, path in found if path is not None)  # None: gone since it was listed
        headers = {
            **_NO_STORE,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(scene.title, safe='')}.zip",
        }
        return StreamingResponse(stream_zip(members), media_type="application/zip", headers=headers)

    def groups(self, request: Request) -> Response:
        names = sorted({scene.group for scene in find_scenes(self.root)})
        groups = [{"id": name or ".", "title": name or self.root.name} for name in names]
        return JSONResponse({"groups": groups}, headers=_NO_STORE)

    def group(self, request: Request) -> Response:
        """A published manifest; ``.`` is the group of the results that lie directly in the root."""
        group = request.path_params["group"]
        if group != "." and ("/" in group or "\\" in group or group in ("", "..")):
            raise HTTPException(400, "a group is the name of one folder")
        wanted = "" if group == "." else group
        found = [scene for scene in find_scenes(self.root) if scene.group == wanted]
        if not found:
            raise HTTPException(404)
        items = [item for scene in found if (item := self._published(scene, request)) is not None]
        return JSONResponse({"group": group, "items": items}, headers=_NO_STORE)

    def _published(self, scene: Scene, request: Request) -> dict[str, Any] | None:
        files = list_files(scene)
        if not any(file.path == "scene.glb" for file in files):
            return None
        prefix = request.scope.get("root_path", "").rstrip("/")

        def address(name: str) -> str:
            return f"{prefix}/files/{quote(scene.url_path(name))}"

        pictures = [f.path for f in files if f.path.startswith("depth_vis/") and f.kind == "picture"]
        cover = thumbnail_of(scene)
        return {
            "id": scene.title,
            "title": scene.title,
            "model": address("scene.glb"),
            "thumbnail": address(cover) if cover else None,
            "depth_images": [address(name) for name in pictures],
        }

    def _find(self, request: Request) -> Scene:
        scene = find_scene(self.root, request.path_params["id"])
        if scene is None:
            raise HTTPException(404)
        return scene

    def _in_result(self, relative: str) -> bool:
        """Whether a path that lies in the root belongs to a result: no file beside them is sent."""
        parts = relative.split("/")
        if find_scene(self.root, parts[0]) or (len(parts) > 2 and find_scene(self.root, "/".join(parts[:2]))):
            return True
        return is_result(self.root) and kind_of(parts[-1]) is not None
