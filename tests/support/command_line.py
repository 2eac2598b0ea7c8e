"""The command line in this process: what a command says, and how it ends."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from depth_anything_3.cli import app


def invoke(*arguments: object) -> Result:
    """Run ``da3`` in a window of 200 columns; what is no clean end is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def report(*arguments: object) -> dict[str, Any]:
    """What a command that must succeed says as JSON."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def error(*arguments: object, code: int = 2) -> str:
    """The one line that a command that must fail says."""
    result = invoke(*arguments)
    assert result.exit_code == code and result.stdout == "", result.output
    return result.stderr.splitlines()[-1].removeprefix("error: ")
