"""``da3 models`` against a hub on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import HubServer
from typer.testing import CliRunner, Result

from depth_anything_3.cli.models import app
from depth_anything_3.zoo.cards import CARDS

ID = "someone/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A running hub, which the client in this process uses with an empty cache."""
    with HubServer() as server:
        server.connect(monkeypatch, tmp_path / "hub")
        yield server


def files(name: str = "da3-small") -> dict[str, bytes]:
    """A checkpoint with a proper header and one tensor: enough for everything but building the network."""
    header = json.dumps({"model.x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    weights = len(header).to_bytes(8, "little") + header + bytes(4)
    return {"config.json": json.dumps({"model_name": name}).encode(), "model.safetensors": weights}


def invoke(*arguments: str, columns: int = 200, input: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)}, input=input)


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def one_line_error(result: Result, exit_code: int = 2) -> str:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


# --- the list ---


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_all_models_are_listed_with_everything_known_about_them(hub: HubServer, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0 and result.stderr == ""
    for card in CARDS:
        (line,) = (line for line in result.stdout.splitlines() if re.match(rf"{card.hub_id}\s", line))
        assert card.licence in line and card.preset in line
        assert re.search(r"\s(yes|no)\s", line)[1] == ("yes" if card.commercial_use else "no")  # type: ignore[index]
        assert ("deprecated -> use" in line) == card.deprecated
    for text in ("34 M", "135 M", "411 M", "1.36 B", "1.69 B", "metric depth", "Gaussians", "conditioning"):
        assert text in result.stdout
    assert hub.requests == []


def test_the_list_fits_a_terminal_of_eighty_columns(hub: HubServer) -> None:
    result = invoke(columns=80)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in result.stdout
    for card in CARDS:
        (line,) = (line for line in lines if re.match(rf"{card.name}\s+[\d.]+ [MB]", line))
        assert card.licence in line and ("yes" if card.commercial_use else "no") in line
        assert ("deprecated" in line) == card.deprecated
    nested = next(line for line in lines if line.startswith("DA3NESTED-GIANT-LARGE-1.1"))
    metric = next(line for line in lines if line.startswith("DA3METRIC"))
    assert "DPCGMS" in nested and "D---MS" in metric
    assert "  DA3-LARGE -> use DA3-LARGE-1.1" in lines


def test_the_list_as_json(hub: HubServer) -> None:
    listed = as_json(invoke("--json"))
    assert [entry["hub_id"] for entry in listed] == [card.hub_id for card in CARDS]
    by_id = {entry["hub_id"]: entry for entry in listed}
    giant = by_id["depth-anything/DA3-GIANT"]
    assert giant["parameters"] == 1_355_674_125 and giant["commercial_use"] is False
    assert giant["abilities"] == ["relative_depth", "pose_estimation", "pose_conditioning", "gaussians"]
    assert giant["status"] == "deprecated -> use depth-anything/DA3-GIANT-1.1"
    assert giant["downloaded"] is False and giant["recommended_process_res"] == 504
    assert as_json(invoke("list", "--json")) == listed


@pytest.mark.parametrize("arguments", [("--commercial",), ("list", "--commercial")])
def test_only_models_for_commercial_use(hub: HubServer, arguments: tuple[str, ...]) -> None:
    listed = as_json(invoke(*arguments, "--json"))
    assert {entry["preset"] for entry in listed} == {"da3-small", "da3-base", "da3metric-large", "da3mono-large"}
    for columns in (80, 200):
        text = invoke(*arguments, columns=columns).stdout
        assert "DA3-BASE" in text and "GIANT" not in text and "eprecated" not in text


def test_options_of_the_list_in_front_of_another_command_are_an_error(hub: HubServer) -> None:
    assert "in front of 'verify'" in one_line_error(invoke("--commercial", "verify", ID))
    result = invoke("--json", "verify", ID)
    assert result.exit_code == 2 and as_json(result)["error"]["type"] == "InputError"


def test_downloaded_models_are_marked(hub: HubServer) -> None:
    hub.add_model("depth-anything/DA3-SMALL", files())
    hub.add_model(ID, files())
    assert invoke("pull", "depth-anything/DA3-SMALL").exit_code == 0
    assert invoke("pull", ID).exit_code == 0
    for columns in (80, 200):
        lines = invoke(columns=columns).stdout.splitlines()
        marked = [line for line in lines if "downloaded" in line]
        assert len(marked) == 1 and "DA3-SMALL" in marked[0]
        assert any(line.startswith("Also in the cache: someone/tiny") for line in lines)
    entries = {entry["hub_id"]: entry for entry in as_json(invoke("--json"))}
    assert entries["depth-anything/DA3-SMALL"]["downloaded"] is True
    assert entries["depth-anything/DA3-BASE"]["downloaded"] is False


def test_listing_is_instant(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from depth_anything_3.cli.models import app\n"
        "assert CliRunner().invoke(app, []).exit_code == 0\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


# --- pull ---


def test_pull(hub: HubServer) -> None:
    commit = hub.add_model(ID, files())
    result = invoke("pull", ID)
    assert result.exit_code == 0 and result.stderr == ""
    assert re.search(r"downloaded\s+\d+ bytes\s+.*model\.safetensors", result.stdout)
    assert f"{ID} is complete: da3-small, commit {commit}" in result.stdout
    again = invoke("pull", ID)
    assert "cached" in again.stdout and "downloaded" not in again.stdout
    assert "downloaded" in invoke("pull", ID, "--force").stdout


def test_pull_as_json(hub: HubServer) -> None:
    commit = hub.add_model(ID, files())
    answer = as_json(invoke("pull", ID, "--json"))
    assert (answer["hub_id"], answer["commit"]) == (ID, commit)
    assert [(file["name"], file["downloaded"]) for file in answer["files"]] == [
        ("config.json", True),
        ("model.safetensors", True),
    ]
    assert all(Path(file["path"]).stat().st_size == file["size"] for file in answer["files"])


def test_pull_a_revision(hub: HubServer) -> None:
    old = hub.add_model(ID, files())
    hub.add_model(ID, files("da3-base"))
    result = invoke("pull", ID, "--revision", old)
    assert f"da3-small, commit {old}" in result.stdout


def test_pull_notes_the_licence(hub: HubServer) -> None:
    hub.add_model("depth-anything/DA3-LARGE", files("da3-large"))
    result = invoke("pull", "depth-anything/DA3-LARGE")
    assert result.exit_code == 0
    assert "CC BY-NC 4.0: no commercial use" in result.stderr
    assert "deprecated" in result.stderr and "depth-anything/DA3-LARGE-1.1" in result.stderr


@pytest.mark.parametrize("command", ["pull", "verify", "rm"])
def test_an_id_that_is_none(hub: HubServer, command: str) -> None:
    extra = ["--yes"] if command == "rm" else []
    assert "depth-anything/DA3-BASE" in one_line_error(invoke(command, "da3-base", *extra))
    error = as_json(result := invoke(command, "da3-base", *extra, "--json"))["error"]
    assert result.exit_code == error["exit_code"] == 2
    assert error["type"] == "InputError" and "organisation/name" in error["message"]


def test_a_model_that_the_hub_does_not_have(hub: HubServer) -> None:
    assert "no such repository" in one_line_error(invoke("pull", ID), 1)
    result = invoke("pull", ID, "--json")
    assert result.exit_code == 1
    assert as_json(result)["error"]["type"] == "HubError"
    assert ID in as_json(result)["error"]["message"]


def test_a_hub_that_cannot_be_reached(hub: HubServer) -> None:
    hub.close()
    assert "cannot be reached" in one_line_error(invoke("pull", ID), 1)


def test_pull_what_is_damaged_or_a_pickle(hub: HubServer) -> None:
    hub.add_model(ID, files())
    hub.damage("model.safetensors")
    assert "is damaged" in one_line_error(invoke("pull", ID), 1)
    hub.add_model("someone/pickle", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04"})
    assert "Only safetensors files are loaded" in one_line_error(invoke("pull", "someone/pickle"), 1)


def test_a_folder_of_that_name_is_not_pulled(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "someone" / "tiny"
    folder.mkdir(parents=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert "local path" in one_line_error(invoke("pull", ID))


# --- verify, rm ---


def test_verify(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model(ID, files())
    invoke("pull", ID)
    result = invoke("verify", ID)
    assert result.exit_code == 0 and result.stdout.count("  ok") == 2
    assert as_json(invoke("verify", ID, "--json"))["ok"] is True
    blob = next((tmp_path / "hub").glob("**/snapshots/*/model.safetensors")).resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"other")
    result = invoke("verify", ID)
    assert result.exit_code == 1
    assert "DAMAGED" in result.stdout
    assert (
        result.stderr == f"error: {ID}: damaged: model.safetensors; get it again with: da3 models pull {ID} --force\n"
    )
    answer = as_json(result := invoke("verify", ID, "--json"))
    assert result.exit_code == 1 and answer["ok"] is False
    assert {file["name"]: file["ok"] for file in answer["files"]} == {"config.json": True, "model.safetensors": False}
    assert invoke("pull", ID, "--force").exit_code == 0
    assert invoke("verify", ID).exit_code == 0


def test_verify_what_is_not_there(hub: HubServer) -> None:
    assert "someone/tiny is not in the cache" in one_line_error(invoke("verify", ID), 1)
    assert as_json(invoke("verify", ID, "--json"))["error"]["type"] == "HubError"


def test_rm_asks(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model(ID, files())
    invoke("pull", ID)
    folder = tmp_path / "hub" / "models--someone--tiny"
    refused = invoke("rm", ID, input="n\n")
    assert refused.exit_code == 1 and "bytes) from the cache?" in refused.stdout
    assert invoke("rm", ID, input="").exit_code == 1, "nobody is there to answer"
    assert folder.is_dir()
    assert invoke("rm", ID, input="y\n").exit_code == 0
    assert not folder.exists()


def test_rm_without_asking(hub: HubServer) -> None:
    hub.add_model(ID, files())
    invoke("pull", ID)
    size = sum(len(content) for content in files().values())
    assert "--yes" in as_json(invoke("rm", ID, "--json"))["error"]["message"]
    assert as_json(invoke("rm", ID, "--yes", "--json")) == {"hub_id": ID, "freed": size}
    assert "is not in the cache" in one_line_error(invoke("rm", ID, "--yes"), 1)
    assert "is not in the cache" in one_line_error(invoke("rm", ID), 1)
