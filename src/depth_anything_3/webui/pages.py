"""HTML of the results: the viewer, videos, links. Everything in it is escaped; addresses are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote, urlencode

from depth_anything_3.gallery.scan import kind_of

NOTHING = "<p>Nothing yet.</p>"


def file_url(job: str, name: str) -> str:
    """Address of one result file."""
    return f"/results/{quote(job)}/{quote(name)}"


def viewer_html(job: str, names: Sequence[str], *, metric: bool) -> str:
    """The 3D viewer on the files that it can show."""
    models = sorted((name for name in names if kind_of(name) == "model"), key=lambda name: name != "scene.glb")
    if not models:
        return "<p>This model predicts no cameras: there is nothing to show in 3D.</p>"
    query = urlencode([*(("src", file_url(job, name)) for name in models), *([("unit", "metre")] if metric else [])])
    source = escape(f"/da3/static/viewer.html?{query}")
    return (
        f'<iframe src="{source}" title="3D view" allow="xr-spatial-tracking; fullscreen" class="da3-viewer"></iframe>'
    )


def videos_html(job: str, names: Sequence[str]) -> str:
    """All videos among the files."""
    videos = [name for name in names if kind_of(name) == "video"]
    tags = (f'<video controls preload="metadata" src="{escape(file_url(job, name))}"></video>' for name in videos)
    return "".join(tags) or "<p>No video among the results. Models with Gaussians render one.</p>"


def downloads_html(job: str, files: Sequence[tuple[str, int]]) -> str:
    """A link to every file, and one to all of them."""
    rows = "".join(
        f'<li><a href="{escape(file_url(job, name))}?download" download>{escape(name)}</a> ({_size(size)})</li>'
        for name, size in files
    )
    return f'<p><a href="/results/{quote(job)}.zip" download>Everything as a zip file</a></p><ul>{rows}</ul>'


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
