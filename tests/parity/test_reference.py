"""The project's own copy of published numbers: a plain clone proves parity with it."""

from __future__ import annotations

import pytest
from support.reference import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_reference(name: str) -> None:
    CHECKS[name]()


def test_there_are_enough_cases() -> None:
    assert len(CHECKS) >= 12
