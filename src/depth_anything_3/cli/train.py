"""``da3 train``: run a recipe."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from depth_anything_3.cli._console import command_errors, human_size
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from depth_anything_3.train.config import TrainConfig
    from depth_anything_3.train.plan import Plan


def train(
    recipe: Annotated[str, typer.Argument(metavar="[RECIPE]", help="Name of a recipe; --list shows them.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the log and the trained weights.")] = Path("run"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the recipe, or a field such as seed=3."),
    ] = None,
    variant: Annotated[str, typer.Option(help="An ablation of the paper's tables 6 and 7.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    until: Annotated[int | None, typer.Option(help="Stop after this step; the same command goes on.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one process on the CPU.")] = None,
    fill_cache: Annotated[
        int | None, typer.Option(metavar="N", help="Render the first N scenes into the cache, and do nothing else.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the recipes and the variants.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what the run would take.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")] = False,
) -> None:
    """Train a model, or go on with a run that was stopped.

    A run is stopped by Ctrl-C or SIGTERM, which write a checkpoint first; the same command goes on. With several
    processes, start it by torchrun: torchrun --nproc-per-node 8 --no-python da3 train RECIPE.
    """
    with command_errors(as_json=as_json):
        if show_list:
            _show_list(as_json)
            return
        config = _configured(recipe, settings or [], variant)
        if dry_run:
            _show_plan(config, as_json)
        elif fill_cache is not None:
            _fill_cache(config, fill_cache)
        else:
            _run(config, out, device, until, threads, as_json)


def _configured(recipe: str, settings: list[str], variant: str) -> TrainConfig:
    from depth_anything_3.train.ablations import ABLATIONS
    from depth_anything_3.train.overrides import fitted, override, parse
    from depth_anything_3.train.recipes import RECIPES

    if not recipe:
        raise InputError("RECIPE", "nothing", "the name of a recipe", RECIPES.names())
    make = RECIPES[recipe]
    if variant and variant not in ABLATIONS:
        raise InputError("variant", repr(variant), "an ablation", tuple(ABLATIONS))
    values = dict(parse(text) for text in settings)
    known = get_type_hints(make)
    known.pop("return", None)
    arguments = {name: fitted(known[name], value, name) for name, value in values.items() if name in known}
    config = make(**arguments)
    config = ABLATIONS[variant](config) if variant else config
    return override(config, {name: value for name, value in values.items() if name not in known})


def _run(config: TrainConfig, out: Path, device: str, until: int | None, threads: int | None, as_json: bool) -> None:
    import torch

    from depth_anything_3.train.distributed import world
    from depth_anything_3.train.trainer import Trainer

    if threads is not None:
        torch.set_num_threads(threads)
    with world(device) as here:
        trainer = Trainer(config, out, here=here, logger=_print_json if as_json else _print_line)
        trainer.run(until)
        if trainer.step == config.steps:
            text = f"trained weights: {trainer.export(out / 'trained')}"
        else:
            text = f"stopped after step {trainer.step} of {config.steps}; the same command goes on"
        if here.first:
            for reason, count in trainer.skipped().most_common(5):
                typer.echo(f"skipped {count} times: {reason}", err=True)
            typer.echo(text, err=as_json)


def _print_json(numbers: dict[str, float]) -> None:
    typer.echo(json.dumps(numbers))


def _print_line(numbers: dict[str, float]) -> None:
    shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name not in ("step", "labels"))
    typer.echo(f"{int(numbers['step']):7d}  {shown}")


def _fill_cache(config: TrainConfig, count: int) -> None:
    from depth_anything_3.datasets.procedural import fill_cache
    from depth_anything_3.train.data import ProceduralSource

    sources = [s for s, _ in config.sources if isinstance(s, ProceduralSource) and s.cache is not None]
    if not sources:
        raise InputError("fill-cache", str(count), "a recipe on the procedural world, with --set cache=FOLDER")
    for source in sources:
        assert source.cache is not None
        fill_cache(source.cache, range(source.first, source.first + count))


def _show_list(as_json: bool) -> None:
    from depth_anything_3.train.ablations import ABLATIONS
    from depth_anything_3.train.recipes import RECIPES

    recipes = {name: (inspect.getdoc(RECIPES[name]) or "").partition("\n\n")[0] for name in RECIPES}
    if as_json:
        typer.echo(json.dumps({"recipes": recipes, "variants": list(ABLATIONS)}))
        return
    for name, text in recipes.items():
        typer.echo(f"{name:18s} {' '.join(text.split())}")
    typer.echo(f"\nvariants: {', '.join(ABLATIONS)}")


def _show_plan(config: TrainConfig, as_json: bool) -> None:
    from dataclasses import asdict

    from depth_anything_3.train.plan import plan

    made: Plan = plan(config)
    if as_json:
        typer.echo(json.dumps({"recipe": config.name, "preset": config.preset, **asdict(made)}))
        return
    typer.echo(f"{config.name}: {config.preset}, {made.steps} steps")
    typer.echo(f"parameters       {made.parameters:,} ({made.trained:,} trained)")
    typer.echo(f"tokens per step  {made.tokens_per_step:,} in each process")
    typer.echo(f"memory           {human_size(made.state_bytes)} of state, ~{human_size(made.activation_bytes)} more")
