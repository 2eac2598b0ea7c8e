"""The command line ``da3``: one thin file per command; heavy imports happen inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from depth_anything_3.cli import auto, backend, bench, models, synth, train

app = typer.Typer(
    name="da3",
    help="Depth Anything 3: consistent depth, cameras and point clouds from photos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("auto")(auto.auto)
app.command("synth")(synth.synth)
app.command("train")(train.train)
app.add_typer(backend.app, name="backend")
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")


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
