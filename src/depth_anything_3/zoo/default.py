"""Which checkpoint to take where none was named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from depth_anything_3.zoo.bundled import PREFIX
from depth_anything_3.zoo.cache import CONFIG, list_cached
from depth_anything_3.zoo.hub import hub_answers, hub_offline

DEFAULT_MODEL = "depth-anything/DA3-BASE"
"""Taken where it can be had: the largest published model for any views that anyone may use for anything."""

PATIENCE = 3.0
"""Seconds that the hub has to answer."""


@dataclass(frozen=True)
class DefaultModel:
    """The choice.

    Attributes:
        source: for ``from_pretrained``.
        cached: whether it is complete on this disk, so that nothing needs to be asked.
        note: why it is not :data:`DEFAULT_MODEL`, in one line; empty if it is.
    """

    source: str
    cached: bool
    note: str = ""


def default_model(*, ask: bool = True) -> DefaultModel:
    """:data:`DEFAULT_MODEL` from the cache; else from the hub, if that answers one request; else the bundled one.

    Args:
        ask: send that request; otherwise the hub counts as one that answers.
    """
    if any(model.hub_id == DEFAULT_MODEL and model.complete for model in list_cached()):
        return DefaultModel(DEFAULT_MODEL, cached=True)
    if hub_offline():
        return DefaultModel(PREFIX, cached=True, note=_note("HF_HUB_OFFLINE is set"))
    if ask and not _in_time(lambda: hub_answers(DEFAULT_MODEL, CONFIG, timeout=PATIENCE)):
        return DefaultModel(PREFIX, cached=True, note=_note(f"the hub did not answer within {PATIENCE:.0f} s"))
    return DefaultModel(DEFAULT_MODEL, cached=False)


def _note(reason: str) -> str:
    return (
        f"{DEFAULT_MODEL} is not in the cache and {reason}: '{PREFIX}' is used, a demonstration model trained on "
        "synthetic scenes; name another one with --model-dir"
    )


def _in_time(ask: Callable[[], bool]) -> bool:
    """The answer, False if there is none in time: looking up the host's name alone can take longer than any limit."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answers and answers[0])
