"""Commands that are imported when they are run or explained, not before."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from depth_anything_3.cli._help import SETTINGS, ExportingCommand, PlainCommand, write_sections


@dataclass(frozen=True)
class Entry:
    """A command as the list of all commands shows it.

    Attributes:
        name: as it is typed.
        target: ``module:attribute`` in this folder: a function, or a Typer app of several commands.
        summary: one line; the first of the target's own help.
        panel: the heading under which it is listed.
    """

    name: str
    target: str
    summary: str
    panel: str


def load(entry: Entry) -> Any:
    """The command itself."""
    module, _, attribute = entry.target.partition(":")
    found = getattr(import_module(f"{__package__}.{module}"), attribute)
    app = found
    if not isinstance(found, typer.Typer):
        exports = "export_format" in getattr(found, "__annotations__", {})
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(entry.name, cls=ExportingCommand if exports else PlainCommand, context_settings=SETTINGS)(found)
    command = typer.main.get_command(app)
    command.name = entry.name
    return command


def lazy_group(entries: tuple[Entry, ...]) -> type[TyperGroup]:
    """A class of groups with these commands, in this order."""
    known = {entry.name: entry for entry in entries}

    class Commands(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for entry in entries:
                self.commands[entry.name] = TyperCommand(entry.name, help=entry.summary, add_help_option=False)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(known)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, command, rest = super().resolve_command(ctx, args)
            return name, command if command is None else load(known[str(name)]), rest

        def format_options(self, ctx: Any, formatter: Any) -> None:
            for panel in dict.fromkeys(entry.panel for entry in entries):
                with formatter.section(panel):
                    formatter.write_dl([(entry.name, entry.summary) for entry in entries if entry.panel == panel])
            write_sections(self, ctx, formatter)

    return Commands
