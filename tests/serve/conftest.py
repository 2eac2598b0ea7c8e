"""What all tests of the server need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from support.serving import worker_environment


@pytest.fixture(autouse=True, scope="session")
def _workers_find_the_tests() -> Iterator[None]:
    with worker_environment():
        yield
