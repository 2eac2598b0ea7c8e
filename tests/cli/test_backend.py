"""``da3 backend``: its switches, the keys, and what other commands share to run on a server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from support.serving import png, running_server, settings_for, worker_environment
from support.videos import write_video
from typer.testing import CliRunner

from depth_anything_3.cli import app
from depth_anything_3.cli._options import FileOptions
from depth_anything_3.cli._remote import run_on_backend
from depth_anything_3.serve.client import Client
from depth_anything_3.types.options import InferOptions, PreprocessOptions


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with worker_environment(), running_server(settings_for(tmp_path)) as address:
        yield address


def reconstruct(*arguments: object) -> Any:
    """A command with its output parsed as JSON."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def sent(folder: Path) -> dict[str, Any]:
    """The options that the server got."""
    options: dict[str, Any] = json.loads((folder / "exports.json").read_text())["options"]
    return options


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["backend", *arguments])


def test_switches_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from depth_anything_3.serve import app as server

    seen: list[Any] = []
    mounted: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda settings, pages: (seen.append(settings), mounted.append(pages)))
    monkeypatch.chdir(tmp_path)
    devices = ["--device", "cpu", "--device", "cuda:0"]
    result = run("--model-dir", "bundled", *devices, "--limit", "images=7", "--allow-urls")
    assert result.exit_code == 0, result.output
    (settings,) = seen
    assert settings.model == "bundled" and settings.slots == {"0-cpu": "cpu", "1-cuda0": "cuda:0"}
    assert settings.limits.images == 7 and settings.allow_urls and settings.roots == (str(tmp_path),)
    assert run("--model-dir", "bundled", "--no-root").exit_code == 0 and seen[1].roots == ()
    (tmp_path / "keys.json").write_text("{}")
    assert run("--model-dir", "bundled", "--keys", "keys.json").exit_code == 0
    assert [list(pages) for pages in mounted] == [["/gallery"], ["/gallery"], []]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--keys FILE"),
        (["--keys", "missing.json"], "da3 backend keys add"),
        (["--limit", "image=3"], "NAME=NUMBER"),
        (["--limit", "images=many"], "NAME=NUMBER"),
        (["--limit", "images=-1"], "a positive number"),
        (["--no-root", "--root", "."], "one of the two"),
        (["--gallery-dir", "missing"], "a folder of results"),
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
        [photo, np.zeros((40, 50, 3), np.uint8)],
        options,
        masks=[None, np.eye(40, 50, dtype=bool)],
        url=url,
        export_dir=tmp_path / "out",
        progress=steps.append,
    )
    assert sorted(f.name for f in result.files) == ["0000.jpg", "exports.json"] and steps[-1].done == 100
    said = (tmp_path / "out/exports.json").read_text()
    assert '"export_feat_layers": [1, 2]' in said and '"masks": ["mask_0000.png", "mask_0001.png"]' in said
    detached = run_on_backend([photo], {}, url=url, export_dir=tmp_path / "no", detach=True)
    assert detached.files == () and detached.job.id in detached.url and not (tmp_path / "no").exists()


def test_all_that_was_typed_reaches_the_server(url: str, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for index in range(2):
        (photos / f"{index}.png").write_bytes(png(seed=index))
    (tmp_path / "lens.txt").write_text("70 70 40 30\n")
    typed = ["--process-res", 56, "--alpha", "drop", "--use-ray-pose", "--clean", "strict", "--feat-vis-fps", 7.5,
             "--export-format", "glb-mesh", "--export-kwargs", "glb:camera_size:0.1", "--no-refine-depth", "--refine",
             "--export-feat", "1,2", "--no-show-cameras", "--intrinsics", tmp_path / "lens.txt"]  # fmt: skip
    done = reconstruct("images", photos, "--use-backend", "--backend-url", url, "--export-dir", out, *typed)
    assert done["status"] == "completed" and done["views"] == 2 and len(done["files"]) == 2
    options = sent(out)
    expected = {
        "process_res": 56, "alpha": "drop", "use_ray_pose": True, "clean": "strict", "feat_vis_fps": 7.5,
        "export_format": "glb-mesh", "export_kwargs": {"glb": {"camera_size": 0.1}}, "refine": "poses",
        "export_feat_layers": [1, 2], "show_cameras": False, "intrinsics": [[[70, 0, 40], [0, 70, 30], [0, 0, 1]]] * 2,
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected
    general = set(FileOptions().general) | {
        "extrinsics",
        "export_format",
        "export_kwargs",
        "intrinsics",
        "intrinsics_origin",
    }
    fields = {field.name for cls in (PreprocessOptions, InferOptions) for field in dataclasses.fields(cls)}
    assert set(options) == fields | general


def test_videos_and_choices_of_the_model(url: str, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "film.avi", count=6, fps=3), tmp_path / "out"
    done = reconstruct("auto", video, "--use-backend", "--backend-url", url, "--export-dir", out, "--fps", 3)
    assert done["views"] == len(list((out / "input_images").iterdir())) == 6
    assert sent(out)["process_res"] is None and sent(out)["refine"] is None


def test_detached_jobs_leave_nothing_here(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png())
    result = CliRunner().invoke(app, ["image", "a.png", "--use-backend", "--backend-url", url, "--detach", "-q"])
    with Client(url) as client:
        assert client.wait(result.output.strip()).images == ("a.png",)
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--use-backend", "--model-dir", "bundled", "--dtype", "float32"], "--model-dir, --dtype"),
        (["--use-backend", "--dry-run"], "--dry-run"),
        (["--use-backend", "--detach", "--export-dir", "out", "--overwrite"], "--export-dir, --overwrite"),
        (["--use-backend", "--backend-url", "localhost:8008"], "a URL such as"),
        (["--use-backend", "--backend-url", "http://127.0.0.1:1"], "does not answer"),
        (["--detach", "--dry-run", "--model-dir", "bundled"], "no effect without --use-backend"),
    ],
)
def test_what_cannot_be_asked_of_a_server(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("depth_anything_3.serve.client._TRIES", 1)  # each further one waits longer
    (tmp_path / "a.png").write_bytes(png())
    result = CliRunner().invoke(app, ["image", "a.png", *arguments])
    assert message in " ".join(result.output.split()) and (result.exit_code == 0) == ("no effect" in message)
