"""``da3 bench``: score models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._console import command_errors

if TYPE_CHECKING:
    from depth_anything_3.bench.evaluate import Run

app = typer.Typer(help="Score models against scenes whose truth is known.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Score models against scenes whose truth is known."""


@app.command("held-out")
def held_out(
    model: Annotated[list[str], typer.Option(help="Hub id, folder or file of a checkpoint; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    scenes: Annotated[int | None, typer.Option(help="Only so many of the 200 scenes, evenly spaced.")] = None,
    views: Annotated[list[int], typer.Option(help="Number of views; may be repeated.")] = [1, 2, 4, 8],  # noqa: B006
    process_res: Annotated[int, typer.Option(help="Longest side in pixels at which models run.")] = 504,
    ray_pose: Annotated[bool, typer.Option("--ray-pose", help="Cameras from the predicted rays.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score models on the held-out scenes of the procedural world, beside guesses that do not look."""
    with command_errors(as_json=as_json):
        from depth_anything_3.api import DepthAnything3
        from depth_anything_3.bench.evaluate import Predictor, evaluate
        from depth_anything_3.bench.held_out import ModelPredictor, held_out_scenes
        from depth_anything_3.bench.report import write_report
        from depth_anything_3.bench.trivial import trivial_predictors

        predictors: dict[str, Predictor] = {
            name: ModelPredictor(model=DepthAnything3.from_pretrained(name), process_res=process_res, ray_pose=ray_pose)
            for name in model
        }
        shown = list(held_out_scenes(scenes))
        predictors = {**trivial_predictors(shown), **predictors}
        runs = evaluate(predictors, shown, view_counts=views, on_run=_print_run)
        notes = {"process_res": str(process_res), "cameras from": "rays" if ray_pose else "decoder"}
        for path in write_report(out, runs, notes=notes):
            typer.echo(f"report: {path}")


def _print_run(run: Run) -> None:
    mode = "given cameras" if run.given_cameras else "no cameras"
    scores = run.error or "  ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    typer.echo(f"{run.scene}  {run.views} views  {mode:13s}  {run.predictor:20s}  {scores}")
