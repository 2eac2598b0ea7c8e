"""The command line ``da3``: one thin file per command; heavy imports happen inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from depth_anything_3.cli._help import SETTINGS
from depth_anything_3.cli._lazy import Entry, lazy_group

_FILES, _MODELS, _SERVERS, _MORE = "Pictures to files", "Models", "Servers and pages", "More"

COMMANDS = (
    Entry("auto", "auto:auto", "Reconstruct a photo, a folder of photos, a video or a COLMAP folder.", _FILES),
    Entry("image", "image:image", "Reconstruct one photo.", _FILES),
    Entry("images", "images:images", "Reconstruct a scene from a folder of photos.", _FILES),
    Entry("video", "video:video", "Reconstruct a scene from frames of a video.", _FILES),
    Entry("colmap", "colmap:colmap", "Reconstruct the photos of a COLMAP folder, with its cameras.", _FILES),
    Entry(
        "depth",
        "depth:depth",
        "Depth of photos that have nothing to do with each other, and steady depth of videos.",
        _FILES,
    ),
    Entry("panorama", "panorama:panorama", "Distances all around one place.", _FILES),
    Entry("stream", "stream:stream", "Reconstruct a long video or a large folder, frame by frame.", _FILES),
    Entry("batch", "batch:batch", "Reconstruct many scenes, here or on a Ray cluster; goes on where it was.", _FILES),
    Entry("convert", "convert:convert", "Write a saved result, or a file of cameras, in other formats.", _FILES),
    Entry("clean", "clean:clean", "Clean the point cloud and the mesh of a saved result.", _FILES),
    Entry("models", "models:app", "List, download, verify and remove models.", _MODELS),
    Entry("train", "train:train", "Train a model, or go on with a run that was stopped.", _MODELS),
    Entry("shard", "shard:shard", "Write a data set as a few large files for training.", _MODELS),
    Entry("bench", "bench:app", "Score models against scenes whose truth is known.", _MODELS),
    Entry("export", "export:app", "Write networks for other runtimes.", _MODELS),
    Entry("synth", "synth:synth", "Make scenes with exact depth, cameras, normals and masks.", _MODELS),
    Entry("backend", "backend:app", "Keep a model warm and run jobs over HTTP.", _SERVERS),
    Entry("gallery", "gallery:gallery", "Show results: pictures, 3D viewer, two side by side, downloads.", _SERVERS),
    Entry("view", "view:view", "Watch a video in 3D: depth and colour, also in stereo and in VR.", _SERVERS),
    Entry("gradio", "gradio:gradio", "Run the web UI: upload, reconstruct, look, measure, download.", _SERVERS),
    Entry("doctor", "doctor:doctor", "Say what is installed, what is missing, and what this machine has.", _MORE),
)
"""Every command, one line each; the file that it names is imported when it is run or explained."""

app = typer.Typer(
    name="da3",
    cls=lazy_group(COMMANDS),
    help="Depth Anything 3: consistent depth, cameras and point clouds from photos.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from depth_anything_3 import __version__

        typer.echo(f"da3 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    app()
