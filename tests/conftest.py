"""What every test gets: checked array shapes, and the folder of reference data where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import support.typecheck  # noqa: F401 (the hook looks it up by name)
from jaxtyping import config, install_import_hook

REPOSITORY = Path(__file__).resolve().parents[1]

_ROOMS = ("geometry", "model", "infer", "synth", "splat", "metrics", "datasets", "stream", "train")
CHECKED_PACKAGES = tuple(f"depth_anything_3.{room}" for room in _ROOMS)
"""Packages whose annotations hold at every call while the tests run; elsewhere, and for users, they cost nothing."""

_loaded = [name for name in sys.modules if name.startswith(CHECKED_PACKAGES)]
assert not _loaded, f"imported before their shapes could be checked: {_loaded}"
install_import_hook(list(CHECKED_PACKAGES), "support.typecheck.check")

# The first call of a function also pays for its import; no test is a timed test.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# No test may reach a hub by accident; those that mean to are marked `network` and only talk to package registries.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; the test is skipped where there is none."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("no reference data: there is no folder 'shared' beside the repository")
    return folder


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """No shape is checked while the test runs, so that a wrong one meets the package's own error, as it does for users.

    Use it for tests that pass wrong shapes on purpose: ``@pytest.mark.usefixtures("unchecked_shapes")``.
    """
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
