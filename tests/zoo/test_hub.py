"""Obtaining files with the real hub client from a hub on the loopback interface, with and without faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hub_server import HubServer, git_sha1

from depth_anything_3.errors import CheckpointError, HubError
from depth_anything_3.zoo import hub as hub_module
from depth_anything_3.zoo.checkpoints import build_network, resolve
from depth_anything_3.zoo.hub import HubFile, HubUnreachableError, fetch, list_cached, remove_cached, verify_cached

ID = "someone/tiny"
WEIGHTS = os.urandom(300_000)
FILES = {"config.json": b'{"model_name": "da3-small"}', "model.safetensors": WEIGHTS}
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits between its own retries."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


def blobs(cache: Path) -> list[str]:
    """Names of all content in the cache, finished or not."""
    return sorted(path.name for path in cache.glob("models--*/blobs/*"))


def check_message(error: pytest.ExceptionInfo[HubError], *words: str) -> None:
    """The message names the model, what happened, and the ways out, on one line."""
    message = str(error.value)
    assert "\n" not in message
    for word in (ID, *words, "a local folder", "a cached model", "HF_ENDPOINT"):
        assert word in message, message


# --- the normal course ---


def test_download(hub: HubServer, cache: Path) -> None:
    commit = hub.add_model(ID, FILES)
    seen: list[HubFile] = []
    files = fetch(ID, on_file=seen.append)
    assert files.commit == commit and files.hub_id == ID
    assert files.config == files.folder / "config.json" and files.weights == (files.folder / "model.safetensors",)
    assert files.weights[0].read_bytes() == WEIGHTS
    assert [(f.name, f.size, f.downloaded) for f in seen] == [
        ("config.json", len(FILES["config.json"]), True),
        ("model.safetensors", len(WEIGHTS), True),
    ]
    assert files.folder.is_relative_to(cache)
    assert hub.asked("GET") == 2
    assert blobs(cache) == sorted([git_sha1(FILES["config.json"]), SHA256])


def test_a_cached_branch_costs_one_small_request(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    first = fetch(ID)
    hub.requests.clear()
    seen: list[HubFile] = []
    assert fetch(ID, on_file=seen.append) == first
    assert [r.method for r in hub.requests] == ["HEAD"]
    assert [file.downloaded for file in seen] == [False, False]


def test_a_cached_commit_costs_nothing(hub: HubServer) -> None:
    commit = hub.add_model(ID, FILES)
    first = fetch(ID)
    hub.requests.clear()
    assert fetch(ID, revision=commit) == first
    assert hub.requests == []


def test_another_cache_folder(hub: HubServer, cache: Path, tmp_path: Path) -> None:
    hub.add_model(ID, FILES)
    assert fetch(ID, cache_dir=tmp_path / "other").folder.is_relative_to(tmp_path / "other")
    assert not cache.exists()


def test_a_branch_that_moved_is_followed_and_a_pinned_commit_is_not(hub: HubServer) -> None:
    old = hub.add_model(ID, FILES)
    assert fetch(ID).commit == old
    new = hub.add_model(ID, {**FILES, "model.safetensors": b"new" * 1000})
    hub.requests.clear()
    files = fetch(ID)
    assert files.commit == new and files.weights[0].read_bytes() == b"new" * 1000
    assert hub.asked("GET", "config.json") == 0, "the configuration did not change and need not be sent again"
    assert fetch(ID, revision=old).weights[0].read_bytes() == WEIGHTS


def test_branches(hub: HubServer) -> None:
    main = hub.add_model(ID, FILES)
    other = hub.add_model(ID, {**FILES, "model.safetensors": b"other"}, branch="v2")
    assert fetch(ID, revision="v2").commit == other
    assert fetch(ID).commit == main
    assert fetch(ID, revision="v2", local_files_only=True).commit == other


def test_forcing_downloads_again(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    fetch(ID)
    hub.requests.clear()
    seen: list[HubFile] = []
    fetch(ID, force_download=True, on_file=seen.append)
    assert hub.asked("GET") == 2 and all(file.downloaded for file in seen)


def test_shards(hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}})
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": index,
        "m-1.safetensors": b"1",
        "m-2.safetensors": b"2",
    }
    commit = hub.add_model(ID, files)
    first = fetch(ID)
    assert [path.name for path in first.weights] == ["m-1.safetensors", "m-2.safetensors"]
    hub.requests.clear()
    assert fetch(ID, revision=commit) == first
    assert hub.requests == [], "that there is no model.safetensors is remembered"
    hub.add_model(ID, {key: value for key, value in files.items() if key != "m-2.safetensors"})
    with pytest.raises(HubError, match=r"lists m-2\.safetensors, which is not in commit"):
        fetch(ID)


def test_no_configuration(hub: HubServer) -> None:
    hub.add_model(ID, {"model.safetensors": WEIGHTS})
    files = fetch(ID)
    assert files.config is None and files.weights[0].parent == files.folder
    assert fetch(ID, local_files_only=True) == files


def test_parts_need_no_weights(hub: HubServer) -> None:
    hub.add_model(ID, {"config.json": '{"parts": {"da3": "a/b"}}'})
    assert fetch(ID).weights == ()
    hub.add_model(ID, {"config.json": '{"config": {"parts": {"da3": "a/b"}}}'})
    assert fetch(ID).weights == ()


# --- as a user would: environment variables, another process ---

SCRIPT = """
import sys
from depth_anything_3.zoo.checkpoints import resolve
checkpoint = resolve(sys.argv[1])
print(checkpoint.revision, checkpoint.model_name, [file.path.name for file in checkpoint.weights])
"""


def run(hub: HubServer, home: Path, *, offline: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **hub.environment(home, offline=offline)}
    command = [sys.executable, "-c", SCRIPT, ID]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_environment_variables_of_the_client_count(tmp_path: Path, tiny_files: dict[str, bytes]) -> None:
    with HubServer() as hub:
        commit = hub.add_model(ID, {**tiny_files, "config.json": FILES["config.json"]})
        offline = run(hub, tmp_path / "home", offline=True)
        assert offline.returncode != 0 and "HF_HUB_OFFLINE is set" in offline.stderr
        assert hub.requests == []
        online = run(hub, tmp_path / "home")
        assert online.stdout == f"{commit} da3-small ['model.safetensors']\n", online.stderr
        assert (tmp_path / "home" / "hub" / "models--someone--tiny").is_dir()
        hub.requests.clear()
        assert run(hub, tmp_path / "home", offline=True).stdout == online.stdout
        assert hub.requests == []


# --- offline ---


def test_offline_without_cache(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    with pytest.raises(HubError) as error:
        fetch(ID, local_files_only=True)
    check_message(error, "not in the cache", "'main'", "local_files_only=True")
    assert hub.requests == []


@pytest.mark.parametrize("how", ["argument", "environment", "client"])
def test_offline_with_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    commit = hub.add_model(ID, FILES)
    first = fetch(ID)
    hub.requests.clear()
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if how == "client":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch(ID, local_files_only=how == "argument") == first
    assert fetch(ID, revision=commit, local_files_only=how == "argument") == first
    with pytest.raises(HubError, match="not in the cache at revision 'v2'"):
        fetch(ID, revision="v2", local_files_only=how == "argument")
    with pytest.raises(HubError, match="force_download=True cannot work"):
        fetch(ID, force_download=True, local_files_only=how == "argument")
    assert hub.requests == []


def test_offline_with_a_partial_cache(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    next(path for path in fetch(ID).weights).unlink()
    with pytest.raises(HubError) as error:
        fetch(ID, local_files_only=True)
    check_message(error, "its weights are not in the cache")


# --- what the hub does not have ---


def test_no_such_repository(hub: HubServer) -> None:
    with pytest.raises(HubError) as error:
        fetch(ID)
    check_message(error, hub.url, "no such repository")


def test_no_such_revision(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    with pytest.raises(HubError) as error:
        fetch(ID, revision="v9")
    check_message(error, "no revision 'v9'")
    with pytest.raises(HubError, match="no revision 'ffff"):
        fetch(ID, revision="f" * 40)


def test_no_weights(hub: HubServer) -> None:
    hub.add_model(ID, {"config.json": b"{}", "README.md": b""})
    with pytest.raises(CheckpointError, match=r"someone/tiny has no weights: neither model\.safetensors nor"):
        fetch(ID)


def test_nothing_of_a_model(hub: HubServer) -> None:
    hub.add_model(ID, {"README.md": b""})
    with pytest.raises(CheckpointError, match="has no weights"):
        fetch(ID)


@pytest.mark.parametrize("config", [{"config.json": b"{}"}, {}])
def test_only_a_pickle_is_refused_and_never_downloaded(hub: HubServer, cache: Path, config: dict[str, bytes]) -> None:
    hub.add_model(ID, {**config, "pytorch_model.bin": b"\x80\x04"})
    with pytest.raises(CheckpointError, match="Only safetensors files are loaded"):
        fetch(ID)
    assert hub.asked("GET", ".bin") == 0
    assert not any(path.name.endswith(".bin") for path in cache.rglob("*") if ".no_exist" not in path.parts)


def test_a_gated_repository(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    hub.gated.add(ID)
    with pytest.raises(HubError) as error:
        fetch(ID)
    check_message(error, "accepted its terms", "token")


def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    with pytest.raises(HubError, match="HF_ENDPOINT: got 'not an address'"):
        fetch(ID)


# --- a hub that cannot be reached ---


def test_connection_refused(hub: HubServer) -> None:
    hub.close()
    with pytest.raises(HubUnreachableError) as error:
        fetch(ID)
    check_message(error, hub.url, "cannot be reached")


def test_connection_refused_with_a_cache_uses_it_and_warns(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    first = fetch(ID)
    hub.close()
    with pytest.warns(UserWarning, match=f"cannot be reached, so the cached commit {first.commit} is used"):
        assert fetch(ID) == first
    with pytest.raises(HubUnreachableError):
        fetch(ID, force_download=True)


@pytest.mark.parametrize(("status", "text"), [(503, "cannot be reached (HTTP status 503)"), (403, "HTTP status 403")])
def test_a_hub_that_refuses(hub: HubServer, status: int, text: str) -> None:
    hub.add_model(ID, FILES)
    hub.status = status
    with pytest.raises(HubError) as error:
        fetch(ID)
    check_message(error, text)


# --- transfers that go wrong ---


def test_a_download_that_is_cut_once_goes_on_where_it_stopped(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.add_model(ID, FILES)
    hub.cut("model.safetensors", 100_000)
    with contextlib.suppress(HubError):  # old clients go on at the next call
        fetch(ID)
    assert fetch(ID).weights[0].read_bytes() == WEIGHTS
    ranges = [r.range for r in hub.requests if r.method == "GET" and r.path.endswith("model.safetensors")]
    assert ranges == ["", "bytes=100000-"]


def test_a_download_that_stays_cut_is_an_error_and_works_later(hub: HubServer, cache: Path) -> None:
    hub.add_model(ID, FILES)
    hub.cut("model.safetensors", 100_000, *[0] * 50)
    with pytest.raises(HubError) as error:
        fetch(ID)
    check_message(error, "the download of model.safetensors stopped", "nothing incomplete is used")
    assert SHA256 not in blobs(cache)
    with pytest.raises(HubError, match="its weights are not in the cache"):
        fetch(ID, local_files_only=True)
    hub.cut("model.safetensors")
    assert fetch(ID).weights[0].read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_content_than_announced_is_removed(hub: HubServer, cache: Path, name: str) -> None:
    hub.add_model(ID, FILES)
    hub.damage(name)
    sent = bytes(byte ^ 0x55 for byte in FILES[name])
    announced, arrived = (
        (SHA256, hashlib.sha256(sent).hexdigest())
        if name == "model.safetensors"
        else (git_sha1(FILES[name]), git_sha1(sent))
    )
    with pytest.raises(CheckpointError, match="is damaged") as error:
        fetch(ID)
    assert ID in str(error.value) and announced in str(error.value) and arrived in str(error.value)
    assert announced not in blobs(cache)
    assert not list(cache.glob(f"**/snapshots/*/{name}"))
    with pytest.raises((HubError, CheckpointError)):
        fetch(ID, local_files_only=True)
    hub.damage(name, False)
    assert fetch(ID).weights[0].read_bytes() == WEIGHTS


def test_hashes_are_compared_where_the_cache_has_no_links(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the snapshot holds the file itself, so that its announced hash is not on record."""
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *_: False)
    hub.add_model(ID, FILES)
    hub.damage("model.safetensors")
    with pytest.raises(CheckpointError, match=SHA256):
        fetch(ID)
    hub.damage("model.safetensors", False)
    path = fetch(ID).weights[0]
    assert not path.is_symlink() and path.read_bytes() == WEIGHTS
    check = {check.name: check for check in verify_cached(ID)}["model.safetensors"]
    assert check.ok is None and check.actual == SHA256


def test_a_truncated_transfer_is_never_loaded(hub: HubServer, tiny_files: dict[str, bytes]) -> None:
    hub.add_model(ID, tiny_files)
    hub.cut("model.safetensors", len(tiny_files["model.safetensors"]) // 2, *[0] * 50)
    with pytest.raises(HubError):
        resolve(ID)
    hub.cut("model.safetensors")
    assert build_network(resolve(ID))


# --- the cache ---


def test_the_cache_is_listed(hub: HubServer, cache: Path) -> None:
    assert list_cached() == ()
    commit = hub.add_model(ID, FILES)
    fetch(ID)
    hub.add_model("depth-anything/DA3-SMALL", {"config.json": b"{}", "model.safetensors": b"123"})
    fetch("depth-anything/DA3-SMALL")
    hub.add_model("other/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"1"})
    fetch("other/bert")
    card, ours = list_cached()
    assert (card.hub_id, ours.hub_id) == ("depth-anything/DA3-SMALL", ID)
    assert ours.commits == (commit,) and ours.complete
    assert ours.size == sum(len(content) for content in FILES.values())
    assert ours.folder == cache / "models--someone--tiny"


def test_incomplete_models_are_listed_as_such(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    hub.cut("model.safetensors", *[0] * 50)
    with pytest.raises(HubError) as error:
        fetch(ID)
    assert "a cached model (none)" in str(error.value)
    assert [model.complete for model in list_cached()] == [False]
    index = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})
    shards = {"m-1.safetensors": b"1", "m-2.safetensors": b"2"}
    hub.add_model("a/b", {"config.json": FILES["config.json"], "model.safetensors.index.json": index, **shards})
    files = fetch("a/b")
    assert [model.complete for model in list_cached()] == [True, False]
    files.weights[1].unlink()
    assert [model.complete for model in list_cached()] == [False, False]


def test_errors_name_the_cached_models(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    fetch(ID)
    with pytest.raises(HubError, match=r"a cached model \(someone/tiny\)"):
        fetch("someone/else")


def test_verifying_reads_the_bytes_again(hub: HubServer) -> None:
    commit = hub.add_model(ID, FILES)
    files = fetch(ID)
    checks = {check.name: check for check in verify_cached("Someone/Tiny")}
    assert set(checks) == set(FILES)
    assert all(check.ok and check.commit == commit for check in checks.values())
    assert checks["model.safetensors"].expected == SHA256
    blob = files.weights[0].resolve()
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(bytes([WEIGHTS[0] ^ 1]))
    checks = {check.name: check for check in verify_cached(ID)}
    assert checks["model.safetensors"].ok is False and checks["config.json"].ok is True
    with pytest.raises(HubError, match="nobody/nothing is not in the cache"):
        verify_cached("nobody/nothing")


def test_removing(hub: HubServer) -> None:
    hub.add_model(ID, FILES)
    files = fetch(ID)
    hub.add_model(ID, {**FILES, "model.safetensors": b"new"})
    fetch(ID)
    hub.add_model("someone/kept", FILES)
    fetch("someone/kept")
    assert remove_cached(ID) == sum(len(content) for content in FILES.values()) + 3
    assert not files.folder.parent.parent.exists()
    assert [model.hub_id for model in list_cached()] == ["someone/kept"]
    with pytest.raises(HubError, match="someone/kept"):
        remove_cached(ID)


def test_the_module_names_what_it_offers() -> None:
    assert all(hasattr(hub_module, name) for name in hub_module.__all__)
