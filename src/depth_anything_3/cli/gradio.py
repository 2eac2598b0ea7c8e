"""``da3 gradio``: the web UI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._folders import GALLERY

PORT = 7860


def gradio(
    model_dir: Annotated[
        str | None,
        typer.Option(help="Model that is chosen at first. Default: a bundled one.", show_default=False),
    ] = None,
    workspace_dir: Annotated[Path, typer.Option(help="Folder for jobs and examples; made if needed.")] = Path(
        "workspace/gradio"
    ),
    gallery_dir: Annotated[Path, typer.Option(help="Folder in which results can be kept; made if needed.")] = GALLERY,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Precision of the transformer: auto, float32, bfloat16, float16.")
    ] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = PORT,
    open_browser: Annotated[bool, typer.Option(help="Open the page.")] = False,
) -> None:
    """Run the web UI: upload, reconstruct, look, measure, download."""
    with command_errors():
        # Before the library is imported: it asks its makers' server for news otherwise.
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        from depth_anything_3._optional import require

        require("gradio", extra="app")
        require("uvicorn", extra="serve")
        from depth_anything_3.web.run import run
        from depth_anything_3.webui.queues import ModelQueues
        from depth_anything_3.webui.site import make_site

        for folder in (workspace_dir, gallery_dir):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("GRADIO_TEMP_DIR", str((workspace_dir / "uploads").resolve()))
        queues = ModelQueues(workspace_dir / "jobs", device=device, dtype=dtype, gallery_dir=gallery_dir)
        with queues:
            run(
                make_site(queues, workspace=workspace_dir, gallery_dir=gallery_dir, model=model_dir),
                host=host,
                port=port,
                open_browser=open_browser,
                on_ready=lambda address: typer.echo(f"web UI: {address}  (Ctrl+C ends it)"),
            )
