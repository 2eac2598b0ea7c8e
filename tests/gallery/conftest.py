"""A folder of results as commands leave it, and the gallery of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.results import small_prediction, write_result

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from starlette.testclient import TestClient


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One result directly in the root, two in a group; do not write into it."""
    folder = tmp_path_factory.mktemp("work") / "gallery"
    write_result(folder / "bench", "glb-mini_npz", small_prediction(metric=True))
    write_result(folder / "group" / "one", "glb", small_prediction())
    write_result(folder / "group" / "two", "ply-depth_vis", small_prediction())
    (folder / "secret.txt").write_text("not of a result")
    return folder


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    from depth_anything_3.gallery.app import make_app
    from depth_anything_3.web.guard import Guard

    with TestClient(Guard(make_app(root)), base_url="http://127.0.0.1:8007") as opened:
        yield opened
