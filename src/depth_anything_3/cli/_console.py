"""What all commands share: errors to exit codes, warnings, progress."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from depth_anything_3.errors import DA3Error, InputError

if TYPE_CHECKING:
    from depth_anything_3.types.progress import Progress, ProgressCallback

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_STAGES = {
    "preprocess": "Reading images",
    "network": "Running the network",
    "refine": "Refining",
    "export": "Writing files",
}


@contextmanager
def command_errors(*, as_json: bool = False) -> Iterator[None]:
    """Turn the package's errors into one line on stderr (or JSON on stdout) and an exit code; show warnings plainly."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {_one_line(message)}", err=True)
        try:
            yield
        except DA3Error as error:
            code = EXIT_USAGE if isinstance(error, InputError) else EXIT_FAILED
            _report(str(error), type(error).__name__, code, as_json)
        except OSError as error:  # a full disk, a folder that must not be written to
            _report(str(error), type(error).__name__, EXIT_FAILED, as_json)
        except KeyboardInterrupt:
            _report("interrupted", "KeyboardInterrupt", EXIT_INTERRUPTED, as_json)


def _report(message: str, kind: str, code: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}))
    else:
        typer.echo(f"error: {_one_line(message)}", err=True)
    raise typer.Exit(code)


def human_size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[ProgressCallback | None]:
    """A callback that draws one bar per stage on a terminal; None where nobody is watching."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in _STAGES:
                return
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(_STAGES[progress.stage], total=progress.total)
            bars.update(tasks[progress.stage], completed=progress.done)  # type: ignore[arg-type]

        yield show
