"""Time and memory by the number of views."""

from __future__ import annotations

import sys
from statistics import median

from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.task import Task

VIEW_COUNTS = (1, 2, 4, 8, 16, 32, 64)

_REPEATS = 3


def _score(task: Task) -> Scores:
    scores: Scores = {}
    fewest = 1 if "depth" in task.contender.gives else 2  # one view alone has no relative pose
    most = [count for count in VIEW_COUNTS if fewest <= count <= len(task.frames)]
    for count in most:
        views = list(range(count))
        task.predict(views, keep=False)  # the first call also sets things up
        peak = _PeakMemory()
        for _ in range(_REPEATS):
            task.predict(views, keep=False)
        seconds = median(task.spent[-_REPEATS:])
        scores[f"seconds@{count}"] = seconds
        scores[f"fps@{count}"] = count / seconds
        scores[f"memory@{count}"] = peak.gigabytes()
    last = max(most)
    return scores | {"views": float(last), "fps": scores[f"fps@{last}"], "memory": scores[f"memory@{last}"]}


class _PeakMemory:
    """Largest memory since it was made: of the GPU where there is one, else of the process since it began."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def gigabytes(self) -> float:
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated() / 1e9
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


MODE = Mode(
    name="speed",
    about="Wall-clock time from decoded pictures to a prediction, the median of three after one to warm up, for 1, 2, "
    "4, ... views of the scene; the columns show the largest number. Memory: peak of the GPU, or, without one, of the "
    "process since it began. It depends on the machine, which the notes name.",
    columns={
        "views": Column(title="views"),
        "fps": Column(title="views per second", better="higher"),
        "memory": Column(title="peak memory [GB]", better="lower"),
        **{f"fps@{count}": Column(title=f"views/s at {count}", better="higher") for count in VIEW_COUNTS},
    },
    score=_score,
    needs=frozenset({"depth", "poses", "pairs"}),
)
