"""``da3 backend``: the server, and the API keys that it accepts."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depth_anything_3._optional import require
from depth_anything_3.cli._console import command_errors
from depth_anything_3.cli._folders import GALLERY
from depth_anything_3.cli._help import SETTINGS
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from depth_anything_3.serve.settings import Limits

app = typer.Typer(
    help="Keep a model warm and run jobs over HTTP.",
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)
keys = typer.Typer(
    help="API keys, for servers that other machines reach.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)
app.add_typer(keys, name="keys")

KeysOption = Annotated[Path, typer.Option("--keys", metavar="FILE", help="File of hashed API keys.")]


@app.callback()
def backend(
    context: typer.Context,
    model_dir: Annotated[
        str | None,
        typer.Option(help="Hub id, folder or file of the model, or 'bundled'. Default: as for 'da3 auto'."),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="auto, cpu, cuda:0, ...; give it again for a worker on another device.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision: auto, float32, bfloat16, float16.")] = "auto",
    host: Annotated[str, typer.Option(help="Where to listen; other than the loopback needs --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 lets the system choose.", min=0, max=65535)] = 8008,
    data_dir: Annotated[Path, typer.Option(help="Folder of the queue and of all jobs.")] = Path("workspace/backend"),
    gallery_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of results to show below /gallery. Default: workspace/gallery; with --keys, none."),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder under which paths of clients may lie; may be repeated. Default: here."),
    ] = None,
    no_root: Annotated[bool, typer.Option("--no-root", help="Serve no paths of clients; they upload.")] = False,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Accept only the API keys of this file.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which this server is reached; may be repeated.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may use the server (CORS); may be repeated.")
    ] = None,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch images from public URLs.")] = False,
    preload: Annotated[bool, typer.Option(help="Load the model at once rather than with the first job.")] = True,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Change a limit, see docs/server.md.")
    ] = None,
) -> None:
    """Run the server until it is interrupted."""
    if context.invoked_subcommand is not None:
        return
    with command_errors():
        from depth_anything_3.serve.settings import ServerSettings

        if no_root and root:
            raise InputError("--no-root", "it with --root", "one of the two")
        settings = ServerSettings(
            data_dir=str(data_dir.absolute()),
            model=model_dir or _default_model(),
            devices=tuple(device or ["auto"]),
            dtype=dtype,
            preload=preload,
            host=host,
            port=port,
            roots=() if no_root else tuple(str(folder.absolute()) for folder in root or [Path()]),
            hosts=tuple(allow_host or ()),
            keys_file=None if keys_file is None else str(_existing(keys_file)),
            origins=tuple(allow_origin or ()),
            allow_urls=allow_urls,
            limits=limits_from(limit or ()),
        )
        for module in ("fastapi", "uvicorn", "python_multipart"):
            require(module, extra="serve")
        from depth_anything_3.serve.app import serve

        typer.echo(f"da3 backend: {settings.model} on {', '.join(settings.devices)}, http://{host}:{port}", err=True)
        serve(settings, pages=_pages(gallery_dir, with_keys=keys_file is not None))


def limits_from(entries: Sequence[str]) -> Limits:
    """Limits from entries such as ``images=20``."""
    from depth_anything_3.serve.settings import Limits
    from depth_anything_3.types.option_values import build_options

    values: dict[str, Any] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        try:
            values[name] = json.loads(text)
        except ValueError:
            equals = ""
        if not equals or name not in {field.name for field in dataclasses.fields(Limits)}:
            known = [field.name for field in dataclasses.fields(Limits)]
            raise InputError("--limit", repr(entry), "NAME=NUMBER", known)
    return build_options(Limits, {"--limit ": values})


def _pages(gallery_dir: Path | None, *, with_keys: bool) -> dict[str, ASGIApp]:
    """What is shown beside the server's own pages. All who have a key see all of it, so that with keys it is asked for
    by name."""
    from depth_anything_3.gallery.app import make_app

    if gallery_dir is None and with_keys:
        return {}
    if gallery_dir is None:
        GALLERY.mkdir(parents=True, exist_ok=True)  # results may come while the server runs
    elif not gallery_dir.is_dir():
        raise InputError("--gallery-dir", str(gallery_dir), "a folder of results, as 'da3 auto' makes")
    return {"/gallery": make_app(gallery_dir or GALLERY)}


def _default_model() -> str:
    from depth_anything_3.zoo.default import default_model

    choice = default_model()
    if choice.note:
        typer.echo(f"warning: {choice.note}", err=True)
    return choice.source


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError("--keys", f"{path}, which is not there", "a file made by 'da3 backend keys add NAME'")
    return path.absolute()


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    keys_file: KeysOption = Path("keys.json"),
    days: Annotated[float | None, typer.Option(help="Days that it is valid. Default: for ever.")] = None,
    high_priority: Annotated[
        bool, typer.Option("--high-priority", help="Let its jobs ask to be begun before those of others.")
    ] = False,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    with command_errors():
        from depth_anything_3.serve.keys import KeyFile

        typer.echo(KeyFile(keys_file).add(name, days=days, high_priority=high_priority))


@keys.command("list")
def list_keys(keys_file: KeysOption = Path("keys.json")) -> None:
    """List ids, names and dates of the keys."""
    with command_errors():
        from depth_anything_3.serve.keys import KeyFile

        for key in KeyFile(_existing(keys_file)).keys().values():
            end = "" if key.expires is None else f"  until {_day(key.expires)}"
            typer.echo(f"{key.id}  {key.name}  since {_day(key.created)}{end}")


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From 'da3 backend keys list'.")],
    keys_file: KeysOption = Path("keys.json"),
) -> None:
    """End a key; running servers refuse it from now on."""
    with command_errors():
        from depth_anything_3.serve.keys import KeyFile

        KeyFile(_existing(keys_file)).revoke(key_id)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
