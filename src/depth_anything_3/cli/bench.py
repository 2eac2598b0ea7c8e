"""``da3 bench``: score models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._help import SETTINGS

if TYPE_CHECKING:
    from depth_anything_3.bench.evaluate import Run
    from depth_anything_3.bench.novel_views import NovelViewRun

app = typer.Typer(
    help="Score models against scenes whose truth is known.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)


@app.callback()
def _bench() -> None:
    """Score models against scenes whose truth is known."""


@app.command("held-out")
def held_out(
    model: Annotated[list[str], typer.Option(help="Hub id, folder or file of a checkpoint; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    scenes: Annotated[int | None, typer.Option(help="Only so many of the 200 scenes, evenly spaced.")] = None,
    views: Annotated[list[int], typer.Option(help="Number of views; may be repeated.")] = [1, 2, 4, 8],  # noqa: B006
    process_res: Annotated[
        int | None,
        typer.Option(help="Longest side in pixels at which models run. Default: the model's own.", show_default=False),
    ] = None,
    cameras: Annotated[
        list[str], typer.Option(help="Cameras from the decoder, the rays or matches; may be repeated.")
    ] = ["decoder"],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Processes to share the scenes out among.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score models on the held-out scenes of the procedural world, beside guesses that do not look."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.evaluate import evaluate, evaluate_in_parallel
        from depth_anything_3.bench.held_out import CAMERA_SOURCES, held_out_scenes, model_predictors
        from depth_anything_3.bench.report import write_report
        from depth_anything_3.bench.trivial import trivial_predictors
        from depth_anything_3.types.options import check_choice

        for source in cameras:
            check_choice("--cameras", source, CAMERA_SOURCES)
        shown = list(held_out_scenes(scenes))
        make = partial(model_predictors, model, cameras, process_res=process_res, others=trivial_predictors(shown))  # type: ignore[arg-type]
        if workers == 1:
            runs = evaluate(make(), shown, view_counts=views, on_run=_print_run)
        else:
            runs = evaluate_in_parallel(make, shown, workers=workers, view_counts=views, on_run=_print_run)
        notes = {"process_res": "the model's own" if process_res is None else str(process_res)}
        for path in write_report(out, runs, notes=notes):
            typer.echo(f"report: {path}")


@app.command("real-mini")
def real_mini(
    data: Annotated[Path, typer.Option(help="Folder with the seven scene folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    model: Annotated[list[str], typer.Option(help="Hub id, folder or file of a checkpoint; may be repeated.")] = [  # noqa: B006
        "bundled"
    ],
    scene: Annotated[
        list[str] | None, typer.Option(help="Only this scene; may be repeated.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score models on small real scenes, beside COLMAP, matches of two views, and guesses that do not look."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.real_mini import run_real_mini
        from depth_anything_3.bench.report import write_scoreboard

        runs, notes = run_real_mini(data, models=model, scenes=scene, on_run=_print_run)
        for name, text in notes.items():
            typer.echo(f"{name}: {text}")
        for path in write_scoreboard(out, runs, notes=notes):
            typer.echo(f"report: {path}")


@app.command("refinement")
def refinement(
    out: Annotated[Path, typer.Option(help="Folder for the report, refinement.md.")],
    scenes: Annotated[int, typer.Option(help="Scenes of each kind.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score refinement by itself, on procedural scenes: the truth with known errors stands in for a network."""
    with command_errors(as_json=as_json):
        from depth_anything_3._files import atomic_path
        from depth_anything_3.bench.refinement import markdown, refinement_outcomes

        outcomes = []
        for outcome in refinement_outcomes(scenes=scenes):
            outcomes.append(outcome)
            typer.echo(f"{outcome.kind} {outcome.seed}: {outcome.before} -> {outcome.after}")
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(out / "refinement.md") as temporary:
            temporary.write_text(markdown(outcomes), encoding="utf-8")
        typer.echo(f"report: {out / 'refinement.md'}")


@app.command("novel-views")
def novel_views(
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    model: Annotated[list[str], typer.Option(help="Hub id, folder or file of a checkpoint; may be repeated.")] = [  # noqa: B006
        "bundled"
    ],
    scenes: Annotated[
        int | None, typer.Option(help="Only so many of the held-out scenes, evenly spaced.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="dl3dv, tanks_and_temples or megadepth below --data, instead of the held-out scenes.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.", show_default=False)] = None,
    process_res: Annotated[
        int | None,
        typer.Option(help="Longest side in pixels at which models run. Default: the model's own.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score pictures of views that models have not seen, beside the nearest view and plain splats."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench import novel_views as nv

        splits = nv.splits_of(dataset, data, scenes)
        painters = nv.model_painters(model, process_res=process_res, depth=dataset is None)
        lpips, notes = nv.lpips_or_note()
        runs = nv.novel_views(painters, splits, lpips=lpips, on_run=_print_novel_views)
        for path in nv.write_novel_views(out, runs, notes=notes):
            typer.echo(f"report: {path}")


def _print_novel_views(run: NovelViewRun) -> None:
    scores = run.error or "  ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    typer.echo(f"{run.scene}  {len(run.targets)} targets  {run.painter:28s}  {scores}")


def _print_run(run: Run) -> None:
    mode = "given cameras" if run.given_cameras else "no cameras"
    scores = run.error or "  ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    typer.echo(f"{run.scene}  {run.views} views  {mode:13s}  {run.predictor:20s}  {scores}")
