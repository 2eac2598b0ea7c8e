"""Jobs in this process and on a Ray cluster: the same results, failures tried again and reported, workers that die."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.batch_jobs import deadly, let_workers_find_tests, maker

from depth_anything_3.batch.engine import EngineOptions, Outcome, run_jobs
from depth_anything_3.errors import Cancelled, InputError


@pytest.fixture(scope="module")
def cluster() -> Iterator[EngineOptions]:
    """Two workers on this machine, for all tests."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        let_workers_find_tests(patch)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield EngineOptions(engine="ray", workers=2)
        ray.shutdown()


def check_outcomes(found: list[Outcome[tuple[int, int]]]) -> None:
    values = [outcome.value and outcome.value[0] for outcome in found]
    assert values == [0, 1, None, None, 16]
    assert [outcome.attempts for outcome in found] == [1, 2, 2, 1, 1]
    assert found[2].error == "RuntimeError: no 2" and "job: got 3" in str(found[3].error)


def test_here(tmp_path: Path) -> None:
    told: list[int] = []
    found = run_jobs(partial(maker, tmp_path), range(5), on_outcome=lambda index, _: told.append(index))
    check_outcomes(found)
    assert told == [0, 1, 2, 3, 4]
    assert run_jobs(partial(maker, tmp_path), []) == []


@pytest.mark.peers
def test_on_ray_it_is_the_same(tmp_path: Path, cluster: EngineOptions) -> None:
    found = run_jobs(partial(maker, tmp_path), range(5), options=cluster)
    check_outcomes(found)
    assert os.getpid() not in {outcome.value[1] for outcome in found if outcome.value}


def test_a_worker_is_killed_in_the_middle(tmp_path: Path, cluster: EngineOptions) -> None:
    found = run_jobs(partial(deadly, tmp_path), range(10), options=cluster)
    assert [outcome.value and outcome.value[0] for outcome in found] == [0, 1, 4, 9, 16, 25, 36, None, 64, 81]
    assert found[5].attempts == 2
    assert found[7].attempts == 2 and "WorkerCrashed" in str(found[7].error)


def test_who_wants_to_stop_is_heard(tmp_path: Path) -> None:
    def work(job: int) -> int:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        run_jobs(lambda: work, [1])


def test_wrong_options() -> None:
    for name, value in (("engine", "slurm"), ("workers", 0), ("gpus", -1.0), ("attempts", 0)):
        with pytest.raises(InputError, match=name):
            EngineOptions(**{"engine": "ray", name: value})  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="--workers, --gpus: no effect"):
        EngineOptions(workers=2, gpus=1)
