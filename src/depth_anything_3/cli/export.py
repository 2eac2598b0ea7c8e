"""``da3 export``: networks for other runtimes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._help import SETTINGS
from depth_anything_3.types.options import OnnxOptions

app = typer.Typer(
    help="Write networks for other runtimes.", no_args_is_help=True, rich_markup_mode=None, context_settings=SETTINGS
)


@app.callback()
def _root() -> None:
    pass


@app.command("onnx")
def onnx(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Graph to write; ends in .onnx.")],
    model: Annotated[str, typer.Option(help="Hub id, folder or file of a checkpoint, or 'bundled'.")],
    views: Annotated[int, typer.Option(help="Views of a scene; fixed.")] = OnnxOptions.views,
    height: Annotated[int, typer.Option(help="Height of the pictures, a multiple of 14.")] = OnnxOptions.height,
    width: Annotated[int, typer.Option(help="Width of the pictures, a multiple of 14.")] = OnnxOptions.width,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Height and width may be any multiple of 14.")] = False,
    rays: Annotated[bool, typer.Option("--rays", help="Return the predicted rays too.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write a second graph with 8-bit weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")] = False,
) -> None:
    """Write an ONNX graph, a JSON file that says how to use it, and how far it is from torch."""
    with command_errors(as_json=as_json):
        options = OnnxOptions(views=views, height=height, width=width, dynamic=dynamic, rays=rays, int8=int8)
        from depth_anything_3.api import DepthAnything3
        from depth_anything_3.deploy.onnx import export_onnx

        loaded = DepthAnything3.from_pretrained(model, device="cpu", dtype="float32")
        report = export_onnx(loaded, path, options)
    if as_json:
        typer.echo(json.dumps(asdict(report), default=str))
        return
    for file, parity in ((report.graph, report.parity), (report.quantised, report.parity_int8)):
        if file is not None:
            worst = max(d.largest for each in parity.values() for d in each)
            typer.echo(f"{file}  differs from torch by at most {worst:.1e} of an output's largest value")
    typer.echo(f"{report.side_car}  says how to use it")
