"""Key tables of the published checkpoints, small checkpoints, and a hub on the loopback interface."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import HubServer
from support.tiny import files_of, nested_config, save_tiny

from depth_anything_3.zoo.weights import Shapes


@pytest.fixture(scope="session")
def key_tables() -> dict[str, Any]:
    """Preset -> ``tensors`` (key in a module that wraps the network as ``model`` -> shape), ``alias_of_level0``."""
    return {**_tables("keys.json.gz"), **_tables("own_keys.json.gz")}


def _tables(name: str) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress((Path(__file__).parent / "reference" / name).read_bytes())))


@pytest.fixture(scope="session")
def published_shapes(key_tables: dict[str, Any]) -> dict[str, Shapes]:
    """Preset -> network key -> shape, of what the published files hold, and ours."""
    return {
        preset: {
            key.removeprefix("model."): tuple(shape)
            for key, shape in table["tensors"].items()
            if key not in table["alias_of_level0"]
        }
        for preset, table in key_tables.items()
    }


@pytest.fixture(scope="session")
def tiny_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small any-view checkpoint; do not write into it."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "any_view")


@pytest.fixture(scope="session")
def tiny_nested_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small nested checkpoint; do not write into it."""
    folder = tmp_path_factory.mktemp("tiny") / "nested"
    return save_tiny(folder, nested_config(), model_name="da3nested-giant-large")


@pytest.fixture(scope="session")
def tiny_files(tiny_saved: Path) -> dict[str, bytes]:
    """The content of :func:`tiny_saved` by file name."""
    return files_of(tiny_saved)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder for the hub client."""
    return tmp_path / "home" / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[HubServer]:
    """A running hub without models, which the client in this process uses."""
    with HubServer() as server:
        server.connect(monkeypatch, cache)
        yield server
