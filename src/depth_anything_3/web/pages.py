"""The pages and scripts in ``static/``, and the headers that keep them safe.

Pages load nothing from elsewhere and run no inline script but their import map, whose hash the content security policy
names. Needs the extra ``serve``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).resolve().parents[1] / "static"
"""Folder of the pages, styles and scripts."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer."""

DATA_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Content security policy of files that are data: opened in a tab of their own they can do nothing."""

_INLINE_SCRIPT = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)


def content_security_policy(html: str) -> str:
    """The policy of one page: its own server's scripts, styles, pictures, data and frames, and its import maps."""
    digests = (hashlib.sha256(text.encode()).digest() for text in _INLINE_SCRIPT.findall(html))
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self' data: blob:; worker-src 'self'; frame-src 'self'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    )


@cache
def _page(name: str) -> tuple[str, str]:
    html = (STATIC / name).read_text(encoding="utf-8")
    return html, content_security_policy(html)


def page(name: str) -> HTMLResponse:
    """The answer that holds a page of ``static/``, such as ``viewer.html``, with its policy."""
    html, policy = _page(name)
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


class _Static(StaticFiles):
    """Scripts and styles; pages get their policy."""

    async def get_response(self, path: str, scope: object) -> Response:
        if path.endswith(".html") and (STATIC / path).is_file():
            return page(path)
        response = await super().get_response(path, scope)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def static_routes(start: str) -> list[Mount | Route]:
    """Routes ``/`` (the page ``start``) and ``/static``; pages refer to everything relative to where they are."""

    async def root(request: Request) -> Response:
        return page(start)

    return [Route("/", root), Mount("/static", _Static(directory=STATIC))]
