"""``da3 shard``: a data set as WebDataset shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from depth_anything_3.cli._console import EXIT_FAILED, command_errors


def shard(
    dataset: Annotated[str, typer.Argument(help="Name of the data set's adapter, such as tartanair or rgbd_folder.")],
    root: Annotated[Path, typer.Argument(help="Where it lies.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    megabytes: Annotated[int, typer.Option(help="A shard is closed when it has grown to this.")] = 1024,
    jpeg_quality: Annotated[
        int | None, typer.Option(help="Pictures as JPEG of this quality. Default: exactly, as PNG.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")] = False,
) -> None:
    """Write a data set as a few large files for training.

    Training reads them with da3 train RECIPE --set sources.0.0.dataset=shards --set sources.0.0.root=FOLDER. Frames
    that are damaged are left out and counted; if any were, the exit status says so.
    """
    with command_errors(as_json=as_json):
        from depth_anything_3.datasets.base import DATASETS
        from depth_anything_3.datasets.shards import write_shards

        opened = DATASETS[dataset](root)  # type: ignore[call-arg]
        written, skipped = write_shards(
            opened, out, shard_bytes=megabytes * 2**20, jpeg_quality=jpeg_quality, overwrite=overwrite
        )
        left_out = {**opened.skipped(), **skipped}
        if as_json:
            typer.echo(json.dumps({"frames": written, "skipped": left_out}))
        else:
            typer.echo(f"{written} frames in {len(list(out.glob('*.tar')))} shards in {out}")
            for reason, count in left_out.items():
                if count:
                    typer.echo(f"skipped {count} times: {reason}", err=True)
        if skipped:
            raise typer.Exit(EXIT_FAILED)
