"""Archives of data sets from a hub on the loopback interface: checked, resumed, unpacked once."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hub_server import HubServer

from depth_anything_3.bench.fetching import fetch_dataset
from depth_anything_3.datasets.benchmark.base import PUBLISHED_ARCHIVES
from depth_anything_3.errors import CheckpointError, HubError, InputError
from depth_anything_3.zoo.hub import HubFile

ID = PUBLISHED_ARCHIVES.hub_id


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with HubServer() as server:
        server.connect(monkeypatch, tmp_path / "home" / "hub")
        yield server


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        for name, content in files.items():
            writer.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
MINIATURE = archive(data__scene__cam_K=b"k", fused_pcd__scene=NOISE)


def test_an_archive_is_fetched_checked_and_unpacked_once(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model(ID, {"hiroom.zip": MINIATURE})
    seen: list[HubFile] = []
    folder = fetch_dataset("hiroom", tmp_path / "data", on_file=seen.append)
    assert folder == tmp_path / "data" / "hiroom"
    assert (folder / "fused_pcd" / "scene").read_bytes() == NOISE
    assert seen[0].downloaded and seen[0].size == len(MINIATURE)
    (folder / "data" / "scene" / "cam_K").unlink()
    fetch_dataset("hiroom", tmp_path / "data", on_file=seen.append)
    assert not seen[1].downloaded and not (folder / "data" / "scene" / "cam_K").exists(), "it was not unpacked again"


def test_a_download_that_broke_off_goes_on(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.add_model(ID, {"hiroom.zip": MINIATURE})
    hub.cut("hiroom.zip", *[60_000] + [0] * 20)
    with pytest.raises(HubError, match="goes on from there"):
        fetch_dataset("hiroom", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    hub.cut("hiroom.zip")
    fetch_dataset("hiroom", tmp_path / "data")
    assert any(request.range.startswith("bytes=60000") for request in hub.requests)


def test_damage_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    hub.add_model(ID, {"hiroom.zip": MINIATURE})
    hub.damage("hiroom.zip")
    with pytest.raises((CheckpointError, HubError)):
        fetch_dataset("hiroom", tmp_path / "data")
    hub.damage("hiroom.zip", False)
    assert fetch_dataset("hiroom", tmp_path / "data").is_dir()


def test_what_is_no_archive_of_a_data_set_is_refused(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hiroom"):
        fetch_dataset("kitti", tmp_path)
    with pytest.raises(HubError, match=r"hiroom\.zip"):
        fetch_dataset("hiroom", tmp_path)
    hub.add_model(ID, {"hiroom.zip": b"no zip"})
    with pytest.raises(HubError, match="not a zip"):
        fetch_dataset("hiroom", tmp_path)
    hub.add_model(ID, {"hiroom.zip": archive(**{"..__..__evil": b"x"})})
    with pytest.raises(HubError, match="outside"):
        fetch_dataset("hiroom", tmp_path)
    assert not (tmp_path.parent / "evil").exists()
