"""A published row again: the same checkpoint on the same data sets in the same modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from depth_anything_3.bench.comparison import CHECKPOINTS, published_places
from depth_anything_3.bench.contenders import contenders
from depth_anything_3.bench.modes.base import MODES
from depth_anything_3.bench.published import known_model
from depth_anything_3.bench.results import Result
from depth_anything_3.bench.run import run_bench
from depth_anything_3.bench.task import BenchOptions
from depth_anything_3.datasets.benchmark.base import BENCH_DATASETS, BenchDataset
from depth_anything_3.errors import InputError


def run_reproduction(
    model: str,
    out: Path,
    open_one: Callable[[str], BenchDataset],
    *,
    root: Path | None = None,
    data: Sequence[str] | None = None,
    checkpoint: str | None = None,
    scenes: Sequence[str] = (),
    limit: int | None = None,
    options: BenchOptions | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run what a published row has numbers for, as far as the data is there.

    Args:
        model: name of the row, in whatever case.
        out: folder of the run.
        open_one: gives a data set from ``NAME`` or ``NAME=FOLDER``.
        root: folder in which data sets lie by name.
        data: what to open; None for every data set of the row that has a folder below ``root``.
        checkpoint: instead of the one that the row is about.
        scenes, limit, options, on_result: see :func:`~depth_anything_3.bench.run.run_bench`.

    Raises:
        InputError: nothing is published under the name, no checkpoint belongs to the row, or there is no data.
    """
    name = known_model(model)
    weights = checkpoint or CHECKPOINTS.get(name)
    if weights is None:
        raise InputError("model", repr(name), "a row of this network, or --checkpoint", CHECKPOINTS)
    places = [
        (dataset, mode) for dataset, mode in published_places(name) if mode in MODES and dataset in BENCH_DATASETS
    ]
    wanted = data if data is not None else _below(root, [dataset for dataset, _ in places])
    if not wanted:
        known = list(dict.fromkeys(dataset for dataset, _ in places))
        raise InputError("root", str(root), f"a folder with data sets that {name} has numbers for", known)
    under_test = contenders([weights])
    results = []
    for text in wanted:
        dataset = open_one(text)
        modes = [mode for place, mode in places if place == dataset.name]
        if not modes:
            raise InputError("data", dataset.name, f"a data set that {name} has numbers for", [p for p, _ in places])
        results += run_bench(
            out,
            [dataset],
            under_test,
            modes=modes,
            options=options,
            scenes=scenes,
            limit=limit,
            on_result=on_result,
        )
    return results


def _below(root: Path | None, names: Sequence[str]) -> list[str]:
    if root is None:
        return []
    return [name for name in dict.fromkeys(names) if (root / name).is_dir()]
