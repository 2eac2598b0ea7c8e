"""What all commands share: errors to exit codes, warnings, progress."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from depth_anything_3.errors import DA3Error, InputError

if TYPE_CHECKING:
    from depth_anything_3.types.progress import Progress, ProgressCallback

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_STAGES = {
    "decode": "Reading the video",
    "preprocess": "Reading images",
    "network": "Running the network",
    "refine": "Refining",
    "export": "Writing",
}

_OPTION = re.compile(r"export_kwargs\[(\w+)\](?:\.(\w+))?")


@contextmanager
def command_errors(*, as_json: bool = False, spelled: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn the package's errors into one line on stderr (or JSON on stdout) and an exit code; show warnings plainly.

    Args:
        as_json: errors as one JSON object on stdout.
        spelled: how the command line spells what Python calls otherwise (``export_dir``: ``--export-dir``); errors
            and warnings are told in these words.
    """
    words = spelled or {}
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(
            f"warning: {_one_line(_respelled(str(message), words))}", err=True
        )
        try:
            yield
        except InputError as error:
            _report(*_in_words(error, words), EXIT_USAGE, as_json)
        except (DA3Error, OSError) as error:  # also a full disk, a folder that must not be written to
            _report(_respelled(str(error), words), {"type": type(error).__name__}, EXIT_FAILED, as_json)
        except KeyboardInterrupt:
            _report("interrupted", {"type": "KeyboardInterrupt"}, EXIT_INTERRUPTED, as_json)


def _in_words(error: InputError, words: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    argument = words.get(error.argument, _respelled(error.argument, words))
    got, expected = _respelled(error.got, words), _respelled(error.expected, words)
    told = InputError(argument, got, expected, error.alternatives)
    parts = {"type": type(error).__name__, "argument": argument, "got": got, "expected": expected}
    return str(told), {**parts, "valid": list(error.alternatives)}


def _respelled(text: str, words: Mapping[str, str]) -> str:
    """A text with the names of Python as the command line spells them: those that no sentence could mean."""
    text = _OPTION.sub(lambda found: f"--export-kwargs {':'.join(filter(None, found.groups()))}", text)
    for name, flag in words.items():
        if "_" in name:
            text = re.sub(rf"(?<![\w/.-]){name}(?![\w/.-]|\[)", flag, text)
    return text


def _report(message: str, parts: Mapping[str, Any], code: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": {**parts, "message": message, "exit_code": code}}))
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
    """A callback that draws one bar per stage, and per exporter, on a terminal; None where nobody is watching."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _Painter(bars)


class _Painter:
    """Draws what it is told of."""

    def __init__(self, bars: Any) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in _STAGES:
            return
        label = _STAGES[progress.stage]
        if progress.stage == "export":
            label = f"{label} {progress.item or 'files'}"
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(label, total=progress.total)
        self.bars.update(self.tasks[label], completed=progress.done, total=progress.total)
