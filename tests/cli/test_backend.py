"""``da3 backend``: its switches, the keys, and what other commands share to run on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from support.serving import png, running_server, settings_for, worker_environment
from typer.testing import CliRunner

from depth_anything_3.cli import app
from depth_anything_3.cli._remote import run_on_backend


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with worker_environment(), running_server(settings_for(tmp_path)) as address:
        yield address


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["backend", *arguments])


def test_switches_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from depth_anything_3.serve import app as server

    seen: list[Any] = []
    monkeypatch.setattr(server, "serve", seen.append)
    monkeypatch.chdir(tmp_path)
    devices = ["--device", "cpu", "--device", "cuda:0"]
    result = run("--model-dir", "bundled", *devices, "--limit", "images=7", "--allow-urls")
    assert result.exit_code == 0, result.output
    (settings,) = seen
    assert settings.model == "bundled" and settings.slots == {"0-cpu": "cpu", "1-cuda0": "cuda:0"}
    assert settings.limits.images == 7 and settings.allow_urls and settings.roots == (str(tmp_path),)
    assert run("--model-dir", "bundled", "--no-root").exit_code == 0 and seen[1].roots == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--keys FILE"),
        (["--keys", "missing.json"], "da3 backend keys add"),
        (["--limit", "image=3"], "NAME=NUMBER"),
        (["--limit", "images=many"], "NAME=NUMBER"),
        (["--limit", "images=-1"], "a positive number"),
        (["--no-root", "--root", "."], "one of the two"),
    ],
)
def test_wrong_switches(arguments: list[str], message: str) -> None:
    result = run("--model-dir", "bundled", *arguments)
    assert result.exit_code == 2 and message in result.output


def test_keys_are_made_listed_and_ended(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    key = run("keys", "add", "laptop", "--keys", file, "--days", "2").output.strip()
    listed = run("keys", "list", "--keys", file).output
    assert "laptop" in listed and "until" in listed and key not in listed
    assert run("keys", "revoke", key.split("_")[1], "--keys", file).exit_code == 0
    assert run("keys", "list", "--keys", file).output == ""
    assert run("keys", "revoke", "nobody", "--keys", file).exit_code == 2


def test_a_run_on_a_server_uploads_waits_and_fetches(url: str, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(png())
    steps: list[Any] = []
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1] = np.nan
    options = {"process_res": 56, "extrinsics": poses, "export_feat_layers": (1, 2)}
    result = run_on_backend(
        [photo, np.zeros((40, 50, 3), np.uint8)], options, url=url, export_dir=tmp_path / "out", progress=steps.append
    )
    assert sorted(f.name for f in result.files) == ["0000.jpg", "exports.json"] and steps[-1].done == 100
    assert '"export_feat_layers": [1, 2]' in (tmp_path / "out/exports.json").read_text()
    detached = run_on_backend([photo], {}, url=url, export_dir=tmp_path / "no", detach=True)
    assert detached.files == () and detached.job.id in detached.url and not (tmp_path / "no").exists()
