"""``da3 gallery``: results in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._folders import GALLERY
from depth_anything_3.errors import InputError

PORT = 8007


def gallery(
    gallery_dir: Annotated[
        Path, typer.Option(help="Folder of results, of groups of results, or of one result.")
    ] = GALLERY,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = PORT,
    open_browser: Annotated[bool, typer.Option(help="Open the page.")] = False,
) -> None:
    """Show results: pictures, 3D viewer, two side by side, downloads."""
    with command_errors():
        if not gallery_dir.is_dir():
            raise InputError("--gallery-dir", str(gallery_dir), "a folder of results, as 'da3 auto' makes")
        from depth_anything_3._optional import require

        for module in ("starlette", "uvicorn"):
            require(module, extra="serve")
        from depth_anything_3.gallery.app import make_app
        from depth_anything_3.web.run import run

        run(
            make_app(gallery_dir),
            host=host,
            port=port,
            open_browser=open_browser,
            on_ready=lambda address: typer.echo(f"gallery of {gallery_dir}: {address}  (Ctrl+C ends it)"),
        )
