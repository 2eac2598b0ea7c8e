"""What a mode is, and all modes by name.

Every module of this package whose name has no leading underscore, except this one, is one mode: its name is the name
of the mode, and it defines ``MODE``. Other packages add modes through the entry-point group
``depth_anything_3.bench_mode``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.benchmark.base import BenchDataset
from depth_anything_3.registry import Registry

Scores = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One score in tables.

    Attributes:
        title: above the column.
        better: ``"higher"``, ``"lower"``, or ``""`` where neither is.
    """

    title: str
    better: str = ""

    @property
    def heading(self) -> str:
        """The title with an arrow."""
        return self.title + {"higher": " ↑", "lower": " ↓", "": ""}[self.better]


def _every(dataset: BenchDataset, scene: str) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to measure.

    Attributes:
        name: as on the command line.
        about: what happens, in a sentence or two; goes into reports.
        columns: the scores that tables show; a scene may have others, which only its own file shows.
        score: gives the scores of a scene; ``"images"`` among them says how many images it counts for in the mean.
        needs: what a predictor has to give, any of these; see :attr:`~depth_anything_3.bench.task.Contender.gives`.
        given_cameras: whether a predictor has to take given cameras.
        suits: whether a scene of a data set can be scored; asked before anything runs.
    """

    name: str
    about: str
    columns: Mapping[str, Column]
    score: Callable[[Task], Scores]
    needs: frozenset[str] = frozenset({"depth"})
    given_cameras: bool = False
    suits: Callable[[BenchDataset, str], bool] = _every

    def misses(self, gives: frozenset[str], given_cameras: bool) -> str | None:
        """Why a predictor has no row in this mode, or None."""
        if not self.needs & gives:
            return f"gives no {' or '.join(sorted(self.needs))}"
        return "takes no given cameras" if self.given_cameras and not given_cameras else None


def _find_modes() -> Registry[Mode]:
    registry: Registry[Mode] = Registry("bench_mode")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "base" and not module.name.startswith("_"):
            registry.register_lazy(module.name, f"{__package__}.{module.name}:MODE")
    return registry


MODES: Registry[Mode] = _find_modes()
"""Modes by name, imported when first asked for."""
