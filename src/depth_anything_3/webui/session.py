"""What one visitor's page is about, kept on the server: a page holds neither paths nor the ids of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

Pixel = tuple[int, int, int]
"""View, column and row of a depth map."""


@dataclass(frozen=True)
class Session:
    """The state of one page.

    Attributes:
        model: source of the model of the last job; "" before the first.
        job: id of that job.
        view: which view is looked at.
        clicks: pixels of the distance being measured: none, one or two.
    """

    model: str = ""
    job: str = ""
    view: int = 0
    clicks: tuple[Pixel, ...] = field(default=())
