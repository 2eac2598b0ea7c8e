"""``da3 models``: the published checkpoints, and those in the cache. Listing them imports neither torch nor numpy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3.cli._console import EXIT_FAILED, command_errors, human_size
from depth_anything_3.cli._help import SETTINGS
from depth_anything_3.errors import HubError, InputError
from depth_anything_3.zoo.bundled import PREFIX, bundled_names
from depth_anything_3.zoo.cards import CARDS, ModelCard, describe_licence, describe_replacement, find_card, preferred

if TYPE_CHECKING:
    from rich.table import Table

    from depth_anything_3.zoo.hub import CachedModel, FileCheck, HubFile

app = typer.Typer(
    help="List, download, verify and remove models.",
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")]
Commercial = Annotated[bool, typer.Option("--commercial", help="Only models whose licence allows commercial use.")]
HubId = Annotated[str, typer.Argument(metavar="ID", help="Hub id, such as depth-anything/DA3-SMALL.")]

_WIDE = 150
_SHORT = {
    "relative_depth": "depth",
    "pose_estimation": "pose",
    "pose_conditioning": "conditioning",
    "gaussians": "Gaussians",
    "metric_depth": "metric depth",
    "sky_segmentation": "sky",
}
_ORGANISATION = "depth-anything/"


@dataclass(frozen=True)
class _Row:
    """A published model and whether it is in the cache."""

    card: ModelCard
    downloaded: bool

    @property
    def status(self) -> str:
        """``deprecated -> use X``, ``downloaded``, both, or nothing."""
        use = f"deprecated -> use {self.card.replaced_by}" if self.card.replaced_by else ""
        return ", ".join(filter(None, (use, "downloaded" if self.downloaded else "")))

    def as_dict(self) -> dict[str, object]:
        """The card's fields, with abilities as one list, and the state of this machine."""
        plain = {key: value for key, value in self.card.as_dict().items() if key not in _SHORT}
        return {**plain, "abilities": list(self.card.abilities), "downloaded": self.downloaded, "status": self.status}


@app.callback()
def models(context: typer.Context, commercial: Commercial = False, as_json: Json = False) -> None:
    """List, download, verify and remove models."""
    command = context.invoked_subcommand
    if command is None:
        list_models(commercial, as_json)
    elif commercial or as_json:
        with command_errors(as_json=as_json):
            raise InputError("options", f"list options in front of {command!r}", f"da3 models {command} [OPTIONS]")


@app.command("list")
def list_models(commercial: Commercial = False, as_json: Json = False) -> None:
    """List the published models: size, licence, abilities, whether they are downloaded."""
    with command_errors(as_json=as_json):
        cached = _cached()
        complete = {model.hub_id.lower() for model in cached if model.complete}
        cards = [card for card in CARDS if card.commercial_use or not commercial]
        rows = [_Row(card, card.hub_id.lower() in complete) for card in cards]
        if as_json:
            _print_json([row.as_dict() for row in rows])
        else:
            _print_list(rows, [model for model in cached if find_card(model.hub_id) is None])


@app.command("pull")
def pull(
    hub_id: HubId,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the main branch if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Download again what is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Download a model into the cache, and compare its hashes with the announced ones."""
    from depth_anything_3.zoo.checkpoints import resolve

    files: list[HubFile] = []
    with command_errors(as_json=as_json):
        _check_id(hub_id)
        checkpoint = resolve(hub_id, revision=revision, force_download=force, on_file=files.append)
        if checkpoint.revision is None:
            raise InputError("ID", f"{hub_id!r}, which is a local path", "a hub id; go to another folder to pull it")
    if checkpoint.card is not None:
        for note in filter(None, (describe_licence(checkpoint.card), describe_replacement(checkpoint.card))):
            typer.echo(f"note: {note}", err=True)
    if as_json:
        _print_json({"hub_id": hub_id, "commit": checkpoint.revision, "files": [_file_dict(file) for file in files]})
        return
    for file in files:
        state = "downloaded" if file.downloaded else "cached    "
        typer.echo(f"{state}  {human_size(file.size):>9}  {file.path}")
    typer.echo(f"{hub_id} is complete: {checkpoint.model_name}, commit {checkpoint.revision}")


@app.command("verify")
def verify(hub_id: HubId, as_json: Json = False) -> None:
    """Read a downloaded model again and compare its hashes; the exit code is 1 if a file is damaged."""
    from depth_anything_3.zoo.hub import verify_cached

    with command_errors(as_json=as_json):
        _check_id(hub_id)
        checks = verify_cached(hub_id)
    damaged = [check.name for check in checks if check.ok is False]
    if as_json:
        _print_json({"hub_id": hub_id, "ok": not damaged, "files": [_check_dict(check) for check in checks]})
    else:
        for check in checks:
            typer.echo(_check_line(check))
    if damaged:
        advice = f"get it again with: da3 models pull {hub_id} --force"
        typer.echo(f"error: {hub_id}: damaged: {', '.join(damaged)}; {advice}", err=True)
        raise typer.Exit(EXIT_FAILED)


@app.command("rm")
def remove(
    hub_id: HubId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a downloaded model, all revisions of it, from the cache."""
    from depth_anything_3.zoo.hub import remove_cached

    with command_errors(as_json=as_json):
        _check_id(hub_id)
        if as_json and not yes:
            raise InputError("--json", "no --yes", "--yes, because a program cannot answer the question")
        if not yes:
            typer.confirm(f"Remove {hub_id} ({_cached_size(hub_id)}) from the cache?", abort=True)
        freed = remove_cached(hub_id)
    if as_json:
        _print_json({"hub_id": hub_id, "freed": freed})
    else:
        typer.echo(f"Removed {hub_id}: {human_size(freed)} freed")


def _check_id(hub_id: str) -> None:
    from depth_anything_3.zoo.hub import HUB_ID

    if not HUB_ID.fullmatch(hub_id):
        similar = [card.hub_id for card in CARDS if hub_id.lower() in (card.name.lower(), card.preset)]
        raise InputError("ID", repr(hub_id), "organisation/name", similar or [card.hub_id for card in CARDS])


def _cached() -> tuple[CachedModel, ...]:
    from depth_anything_3.zoo.hub import list_cached

    return list_cached()


def _cached_size(hub_id: str) -> str:
    for model in _cached():
        if model.hub_id.lower() == hub_id.lower():
            return human_size(model.size)
    raise HubError(f"{hub_id} is not in the cache")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _file_dict(file: HubFile) -> dict[str, object]:
    return {"name": file.name, "path": str(file.path), "size": file.size, "downloaded": file.downloaded}


def _check_dict(check: FileCheck) -> dict[str, object]:
    return {
        "name": check.name,
        "commit": check.commit,
        "path": str(check.path),
        "expected": check.expected,
        "actual": check.actual,
        "ok": check.ok,
    }


def _check_line(check: FileCheck) -> str:
    state = {True: "ok", False: f"DAMAGED, expected {check.expected}", None: "no hash recorded"}[check.ok]
    return f"{check.name}  {check.actual}  {state}"


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def _print_list(rows: Sequence[_Row], others: Sequence[CachedModel]) -> None:
    from rich.console import Console

    console = Console()
    wide = console.width >= _WIDE
    console.print(_wide_table(rows) if wide else _narrow_table(rows))
    for line in [] if wide else _narrow_notes(rows):
        console.print(line, highlight=False)
    if names := bundled_names():
        console.print("With the package, demonstration models trained on synthetic scenes (Apache-2.0):")
        console.print(f"  {', '.join(f'{PREFIX}/{name}' for name in names)}", highlight=False)
    if presets := [point.name for point in entry_points(group="depth_anything_3.model")]:
        console.print(f"Architectures from other packages: {', '.join(presets)}")
    if others:
        console.print("Also in the cache: " + ", ".join(f"{m.hub_id} ({human_size(m.size)})" for m in others))


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, justify="right" if column == "Params" else "left")
    return table


def _wide_table(rows: Sequence[_Row]) -> Table:
    table = _table("Id", "Params", "Licence", "Commercial\nuse", "Abilities", "Preset", "Status")
    for row in rows:
        card = row.card
        table.add_row(
            card.hub_id,
            _parameters(card.parameters),
            card.licence,
            "yes" if card.commercial_use else "no",
            ", ".join(_SHORT[name] for name in card.abilities),
            card.preset,
            row.status.replace(_ORGANISATION, ""),
        )
    return table


def _narrow_table(rows: Sequence[_Row]) -> Table:
    table = _table("Model", "Params", "Licence", "Commercial", "Can do", "Status")
    for row in rows:
        card = row.card
        table.add_row(
            card.name,
            _parameters(card.parameters),
            card.licence,
            "yes" if card.commercial_use else "no",
            "".join(_SHORT[name][0].upper() if name in card.abilities else "-" for name in _SHORT),
            "deprecated" if card.deprecated else "downloaded" if row.downloaded else "",
        )
    return table


def _narrow_notes(rows: Sequence[_Row]) -> list[str]:
    letters = ", ".join(f"{word[0].upper()} {word}" for word in _SHORT.values())
    notes = [
        f"Hub id: {_ORGANISATION}<model>. Preset: the model in lower case, without -1.1.",
        f"Can do: {letters}.",
    ]
    replaced = [row for row in rows if row.card.deprecated]
    if replaced:
        notes.append("Deprecated, because they were trained with a bug:")
    for row in replaced:
        here = " (downloaded)" if row.downloaded else ""
        notes.append(f"  {row.card.name}{here} -> use {preferred(row.card).name}")
    return notes
