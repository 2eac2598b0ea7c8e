"""``da3 bench``: score models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._help import SETTINGS
from depth_anything_3.cli._options import FLAGS

if TYPE_CHECKING:
    from depth_anything_3.bench.evaluate import Run
    from depth_anything_3.bench.results import Result
    from depth_anything_3.bench.task import Contender
    from depth_anything_3.datasets.benchmark.base import BenchDataset

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
    workers: Annotated[int, typer.Option(help="Processes to share the scenes out among.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    """Score models on small real scenes, beside COLMAP, matches of two views, and guesses that do not look."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.real_mini import run_real_mini
        from depth_anything_3.bench.report import write_scoreboard

        runs, notes = run_real_mini(data, models=model, scenes=scene, workers=workers, on_run=_print_run)
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


Data = Annotated[
    list[str],
    typer.Option(help="NAME or NAME=FOLDER of a data set; may be repeated. Without a folder: NAME below --root."),
]
Root = Annotated[Path | None, typer.Option(help="Folder that data sets lie in.", show_default=False)]
Scenes = Annotated[
    list[str] | None, typer.Option("--scene", help="Only this scene; may be repeated.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option(help="Only so many scenes of each data set, evenly spaced.", show_default=False)
]
Frames = Annotated[str, typer.Option(help="Frames of long scenes as in the released code, or in the paper.")]
MaxFrames = Annotated[
    int | None,
    typer.Option(help="Frames of a scene at most; 0 for all. Default: the data set's own number.", show_default=False),
]
LongestSide = Annotated[int, typer.Option(help="Larger pictures are scaled down to it; 0 leaves them.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn at random.")]
SurfacePoints = Annotated[int, typer.Option(help="Points that are sampled on a surface.")]
AllowPartial = Annotated[bool, typer.Option("--allow-partial", help="Give means also where scenes failed.")]
Force = Annotated[bool, typer.Option("--force", help="Compute also what is there already.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print errors as JSON.")]


@app.command("run")
def run(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for predictions, results and reports.")],
    model: Annotated[
        list[str],
        typer.Option(
            help="Checkpoint[,OPTION=VALUE...], npz=FOLDER, or a name from `da3 bench list`; may be repeated."
        ),
    ] = ["bundled"],  # noqa: B006
    mode: Annotated[
        list[str] | None,
        typer.Option(help="What to measure; may be repeated. Default: all modes of the data set.", show_default=False),
    ] = None,
    root: Root = None,
    scene: Scenes = None,
    limit: Limit = None,
    frames: Frames = "released",
    max_frames: MaxFrames = None,
    longest_side: LongestSide = 2048,
    seed: Seed = 42,
    surface_points: SurfacePoints = 1_000_000,
    allow_partial: AllowPartial = False,
    force: Force = False,
    engine: Annotated[str, typer.Option(help=FLAGS["engine"].help)] = "local",
    workers: Annotated[int | None, typer.Option(help=FLAGS["workers"].help, show_default=False)] = None,
    address: Annotated[str | None, typer.Option(help=FLAGS["address"].help, show_default=False)] = None,
    gpus: Annotated[float, typer.Option(help=FLAGS["gpus"].help)] = 0.0,
    attempts: Annotated[int, typer.Option(help=FLAGS["attempts"].help)] = 2,
    as_json: AsJson = False,
) -> None:
    """Score predictors; what is there already is not computed again. Exit code 1 where a scene failed."""
    with command_errors(as_json=as_json):
        from depth_anything_3.batch.engine import EngineOptions
        from depth_anything_3.bench.pages import write_pages
        from depth_anything_3.bench.run import run_bench
        from depth_anything_3.bench.task import BenchOptions

        reopen = partial(_opened, tuple(data), None if root is None else root.absolute(), tuple(model))
        results = run_bench(
            out.absolute(),
            *reopen(),
            modes=mode or (),
            options=BenchOptions(
                frames=frames,  # type: ignore[arg-type]
                max_frames=max_frames,
                longest_side=longest_side,
                seed=seed,
                surface_points=surface_points,
            ),
            scenes=scene or (),
            limit=limit,
            force=force,
            engine=EngineOptions(
                engine=engine,  # type: ignore[arg-type]
                workers=workers,
                address=address,
                gpus=gpus,
                attempts=attempts,
            ),
            reopen=reopen,
            on_result=_print_result,
        )
        for path in write_pages(out, partial=allow_partial)[0]:
            typer.echo(f"report: {path}")
    _exit_if(any(result.error is not None for result in results))


@app.command("report")
def report(
    out: Annotated[Path, typer.Argument(help="Folder of a run.")],
    allow_partial: AllowPartial = False,
    as_json: AsJson = False,
) -> None:
    """Write the reports of a run again. Exit code 1 where a scene failed or is missing."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.pages import write_pages

        paths, summaries = write_pages(out, partial=allow_partial)
        for path in paths:
            typer.echo(f"report: {path}")
    _exit_if(any(summary.failed for summary in summaries))


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Data sets, modes, predictors and published rows."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.contenders import PREDICTORS, REFERENCES
        from depth_anything_3.bench.modes.base import MODES
        from depth_anything_3.bench.published import published_models
        from depth_anything_3.datasets.benchmark.base import BENCH_DATASETS, PUBLISHED_ARCHIVES

        typer.echo("data sets:")
        for name in BENCH_DATASETS:
            kind = BENCH_DATASETS[name]
            fetched = "  (da3 bench fetch)" if name in PUBLISHED_ARCHIVES.files else ""
            typer.echo(f"  {name:19s}{kind.title}: {', '.join(m for m in kind.modes if m in MODES)}{fetched}")
        typer.echo("modes:")
        for name in MODES:
            typer.echo(f"  {name:19s}{MODES[name].about.partition('.')[0]}.")
        typer.echo(f"predictors: checkpoints, npz=FOLDER, {', '.join((*PREDICTORS, *REFERENCES))}")
        typer.echo(f"published rows: {', '.join(published_models())}")


@app.command("compare")
def compare_runs(
    first: Annotated[Path, typer.Argument(help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(help="Folder of another run.")],
    as_json: AsJson = False,
) -> None:
    """Print what the second run has more than the first."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.comparison import compare, differences_table

        typer.echo(differences_table(compare(first, second), first=str(first), second=str(second)))


@app.command("fetch")
def fetch(
    data: Annotated[list[str], typer.Argument(help="Data sets with published archives.")],
    root: Annotated[Path, typer.Option(help="Folder to unpack them in.")],
    hub_id: Annotated[
        str | None, typer.Option(help="Repository of data sets instead of the published one.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Download, check and unpack published archives; what broke off goes on where it was."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.fetching import fetch_dataset
        from depth_anything_3.cli._console import human_size

        for name in data:
            folder = fetch_dataset(
                name,
                root,
                hub_id=hub_id,
                revision=revision,
                on_file=lambda file: typer.echo(f"{file.name}: {human_size(file.size)}"),
            )
            typer.echo(f"{name}: {folder}")


@app.command("reproduce")
def reproduce(
    model: Annotated[str, typer.Option(help="Name of a published row, such as da3-giant.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions, results and reports.")],
    root: Root = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME=FOLDER. Default: all with a published row below --root.", show_default=False),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Instead of the one that the row is about.", show_default=False)
    ] = None,
    scene: Scenes = None,
    limit: Limit = None,
    frames: Frames = "released",
    max_frames: MaxFrames = None,
    as_json: AsJson = False,
) -> None:
    """Print the published row of a model beside ours. Exit code 1 where a scene failed."""
    with command_errors(as_json=as_json):
        from depth_anything_3.bench.comparison import differences_table, reproduction
        from depth_anything_3.bench.pages import write_pages
        from depth_anything_3.bench.reproducing import run_reproduction
        from depth_anything_3.bench.task import BenchOptions

        results = run_reproduction(
            model,
            out,
            lambda name: _dataset(name, root),
            root=root,
            data=data,
            checkpoint=checkpoint,
            scenes=scene or (),
            limit=limit,
            options=BenchOptions(frames=frames, max_frames=max_frames),  # type: ignore[arg-type]
            on_result=_print_result,
        )
        write_pages(out)
        typer.echo(differences_table(reproduction(out, model), first="published", second="ours"))
    _exit_if(any(result.error is not None for result in results))


def _opened(
    data: tuple[str, ...], root: Path | None, model: tuple[str, ...]
) -> tuple[list[BenchDataset], list[Contender]]:
    """Data sets and predictors by what was typed, here and in workers."""
    from depth_anything_3.bench.contenders import contenders

    return [_dataset(text, root) for text in data], contenders(model)


def _dataset(text: str, root: Path | None) -> BenchDataset:
    """A data set from NAME or NAME=FOLDER."""
    from depth_anything_3.datasets.benchmark.base import open_dataset

    name, sign, folder = text.partition("=")
    if sign:
        return open_dataset(name, Path(folder).absolute())  # workers may be elsewhere
    below = None if root is None else root / name
    return open_dataset(name, below if below is not None and below.is_dir() else root)


def _print_result(result: Result) -> None:
    shown = list(result.scores.items())[:4]
    scores = result.error or "  ".join(f"{name} {value:.3f}" for name, value in shown)
    typer.echo(f"{result.scene}  {result.mode:14s}{result.predictor:20s}  {scores}")


def _exit_if(failed: bool) -> None:
    if failed:
        raise typer.Exit(1)


def _print_run(run: Run) -> None:
    mode = "given cameras" if run.given_cameras else "no cameras"
    scores = run.error or "  ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    typer.echo(f"{run.scene}  {run.views} views  {mode:13s}  {run.predictor:20s}  {scores}")
