"""Which checkpoint is taken where none was named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.hub_server import HubServer

from depth_anything_3.zoo.default import DEFAULT_MODEL, PATIENCE, DefaultModel, default_model
from depth_anything_3.zoo.hub import fetch


def test_the_cache_comes_first(hub: HubServer, tiny_files: dict[str, bytes]) -> None:
    hub.add_model(DEFAULT_MODEL, tiny_files)
    fetch(DEFAULT_MODEL)
    hub.requests.clear()
    assert default_model() == DefaultModel(DEFAULT_MODEL, cached=True)
    assert not hub.requests


def test_a_partial_cache_is_none(hub: HubServer, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_model(DEFAULT_MODEL, {"config.json": tiny_files["config.json"]})
    with pytest.raises(Exception, match="no weights"):
        fetch(DEFAULT_MODEL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert default_model().source == "bundled"


def test_a_hub_that_answers_is_asked_once(hub: HubServer, tiny_files: dict[str, bytes]) -> None:
    hub.add_model(DEFAULT_MODEL, tiny_files)
    assert default_model() == DefaultModel(DEFAULT_MODEL, cached=False)
    assert [request.method for request in hub.requests] == ["HEAD"]


def test_offline_asks_nothing(hub: HubServer, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_model(DEFAULT_MODEL, tiny_files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    choice = default_model()
    assert (choice.source, choice.cached) == ("bundled", True)
    assert "HF_HUB_OFFLINE" in choice.note
    assert not hub.requests


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_does_not_have_it_is_asked_once(hub: HubServer, status: int) -> None:
    hub.status = None if status == 404 else status
    choice = default_model()
    assert choice.source == "bundled"
    assert len(hub.requests) == 1


def test_the_note_is_one_line_that_calls_the_model_what_it_is(hub: HubServer) -> None:
    hub.close()
    note = default_model().note
    assert "\n" not in note
    for word in (DEFAULT_MODEL, "'bundled'", "demonstration model", "synthetic scenes", "--model-dir"):
        assert word in note


@pytest.fixture
def silent_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield
        for connection in held:
            connection.close()


def test_patience_ends(silent_hub: None) -> None:
    before = time.monotonic()
    assert default_model().source == "bundled"
    assert time.monotonic() - before < PATIENCE + 5  # not the ten seconds and the further tries of the client
