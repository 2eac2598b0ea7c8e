"""What all tests of the server need."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

if missing := [name for name in ("fastapi", "httpx") if importlib.util.find_spec(name) is None]:
    collect_ignore_glob = ["test_*.py"]  # the extra `serve` is not installed
else:
    from support.serving import worker_environment

    @pytest.fixture(autouse=True, scope="session")
    def _workers_find_the_tests() -> Iterator[None]:
        with worker_environment():
            yield
