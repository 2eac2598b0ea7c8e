"""Help pages that read well in a narrow window: plain text in sections, no name ever cut off."""

from __future__ import annotations

import dataclasses
from typing import Any

from typer.core import TyperCommand

WIDEST = 120
"""Columns that help takes at most."""

SETTINGS = {"max_content_width": WIDEST, "help_option_names": ["--help", "-h"]}
"""Of every command."""


def write_sections(command: Any, ctx: Any, formatter: Any) -> None:
    """Arguments and options under their headings, in the order in which the command has them."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            is_argument = parameter.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            sections.setdefault(heading, []).append(record)
    last = {name: sections.pop(name) for name in ("Options",) if name in sections}
    for heading, records in {**sections, **last}.items():
        with formatter.section(heading):
            formatter.write_dl(records)


class PlainCommand(TyperCommand):
    """A command with its options in sections."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_sections(self, ctx, formatter)


class ExportingCommand(PlainCommand):
    """One whose help ends with every format and its options, those of other packages included."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        from depth_anything_3.export.base import EXPORTERS

        with formatter.section("Formats, and their options for --export-kwargs"):
            names = {name: [field.name for field in dataclasses.fields(EXPORTERS[name].options)] for name in EXPORTERS}
            formatter.write_dl([(name, ", ".join(options) or "-") for name, options in names.items()])
