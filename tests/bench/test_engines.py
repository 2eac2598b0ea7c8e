"""A run of the benchmark on a Ray cluster: the scores of a run in one process, a dead worker, and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support.batch_jobs import let_workers_find_tests
from support.walls import reopened

from depth_anything_3.batch.engine import EngineOptions
from depth_anything_3.bench.results import Result
from depth_anything_3.bench.run import run_bench
from depth_anything_3.errors import InputError

MODES = ["pose", "metric"]


def scores(results: list[Result]) -> list[tuple[str, str, dict[str, float], str | None]]:
    return [(r.scene, r.mode, dict(r.scores), r.error) for r in results]


@pytest.mark.peers
@pytest.mark.slow
def test_two_workers_one_of_which_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    let_workers_find_tests(monkeypatch)
    here = run_bench(tmp_path / "here", *reopened(4, "walls/3", None), modes=MODES)
    assert [r.error is None for r in here] == [True] * 3 + [False] + [True] * 3 + [False]
    on_ray = EngineOptions(engine="ray", workers=2)
    reopen = partial(reopened, 4, "walls/3", tmp_path / "died")
    told: list[Result] = []
    there = run_bench(tmp_path / "there", *reopen(), modes=MODES, engine=on_ray, reopen=reopen, on_result=told.append)
    assert scores(there) == scores(here)
    assert (tmp_path / "died").exists() and len(told) == 8
    again = run_bench(tmp_path / "there", *reopened(4, "walls/3", None), modes=MODES, force=False)
    assert scores(again) == scores(here) and again[0].seconds == there[0].seconds


def test_another_process_needs_to_know_how_to_open_things(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reopen"):
        run_bench(tmp_path, *reopened(1, "", None), engine=EngineOptions(engine="ray"))
