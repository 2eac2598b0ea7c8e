"""Jobs that have nothing to do with each other, done by an engine: this process, or the workers of a Ray cluster.

An engine says nothing about what a job is. Work is made once in every process that does some of it, so that a model is
loaded once there. A job that fails is tried again, and one that keeps failing is a result like any other: it ends
nothing. Ray schedules; there is no scheduler here.
"""

from __future__ import annotations

import secrets
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from depth_anything_3._optional import require
from depth_anything_3.errors import Cancelled, DA3Error, InputError
from depth_anything_3.types.options import check_choice, check_count

J = TypeVar("J")
R = TypeVar("R")

Engine = Literal["local", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Who does the jobs.

    Attributes:
        engine: ``local``, this process, one job after the other; or ``ray``.
        workers: of Ray, jobs at a time at most; None for as many as the cluster has room for.
        address: of a Ray cluster that runs already; None starts one on this machine, and ends it again.
        gpus: of a Ray worker; a part of one lets workers share it.
        attempts: how often a job is tried. An error that says what is wrong with the input is not tried again.
    """

    engine: Engine = "local"
    workers: int | None = None
    address: str | None = None
    gpus: float = 0.0
    attempts: int = 2

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_count("workers", self.workers, optional=True)
        check_count("attempts", self.attempts)
        if self.gpus < 0:
            raise InputError("gpus", repr(self.gpus), "at least 0")
        if self.engine == "local":
            given = {"workers": self.workers is not None, "address": self.address is not None, "gpus": self.gpus > 0}
            if unused := [f"--{name}" for name, there in given.items() if there]:
                warnings.warn(f"{', '.join(unused)}: no effect without --engine ray", stacklevel=3)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[R]):
    """What came of a job.

    Attributes:
        value: what the work gave; None after an error.
        error: why there is none, or None.
        attempts: how often it was tried.
    """

    value: R | None
    error: str | None = None
    attempts: int = 1


def run_jobs(
    make: Callable[[], Callable[[J], R]],
    jobs: Sequence[J],
    *,
    options: EngineOptions | None = None,
    on_outcome: Callable[[int, Outcome[R]], None] | None = None,
) -> list[Outcome[R]]:
    """Do all jobs.

    Args:
        make: called once in every process that works; gives the function that does a job. For Ray it, the jobs and what
            comes of them travel between processes.
        jobs: in the order in which they are begun.
        options: who does them.
        on_outcome: called in this process with the number of a job and what came of it, as they end.

    Returns:
        One outcome per job, in their order.

    Raises:
        Cancelled: a job asks to stop.
        MissingExtraError: Ray is wanted and not installed.
        InputError: there is no Ray cluster at the address.
    """
    chosen = options or EngineOptions()
    outcomes: dict[int, Outcome[R]] = {}

    def ended(index: int, outcome: Outcome[R]) -> None:
        outcomes[index] = outcome
        if on_outcome is not None:
            on_outcome(index, outcome)

    if jobs:
        (_locally if chosen.engine == "local" else _on_ray)(make, jobs, chosen, ended)
    return [outcomes[index] for index in range(len(jobs))]


@dataclass(frozen=True)
class _Failure:
    """An error as it travels between processes: exceptions of other packages need not survive that."""

    text: str
    again: bool = True


def _tried(work: Callable[[J], R], job: J) -> R | _Failure:
    try:
        return work(job)
    except Cancelled:
        raise
    except Exception as error:  # a job must not end the others
        return _Failure(f"{type(error).__name__}: {error}", again=not isinstance(error, DA3Error))


def _locally(
    make: Callable[[], Callable[[J], R]],
    jobs: Sequence[J],
    options: EngineOptions,
    ended: Callable[[int, Outcome[R]], None],
) -> None:
    work = make()
    for index, job in enumerate(jobs):
        for attempt in range(1, options.attempts + 1):
            found = _tried(work, job)
            if not isinstance(found, _Failure):
                ended(index, Outcome(value=found, attempts=attempt))
                break
            if attempt == options.attempts or not found.again:
                ended(index, Outcome(value=None, error=found.text, attempts=attempt))
                break


# --- Ray -------------------------------------------------------------------------------------------------------------

_made: dict[str, Callable[[Any], Any]] = {}
"""In a worker: what does the jobs of a run, by a key that the run has for itself."""


def _in_worker(key: str, make: Callable[[], Callable[[Any], Any]], job: Any) -> Any:
    if key not in _made:
        _made.clear()  # of an earlier run: its model would stay in memory
        _made[key] = make()
    return _tried(_made[key], job)


def _on_ray(
    make: Callable[[], Callable[[J], R]],
    jobs: Sequence[J],
    options: EngineOptions,
    ended: Callable[[int, Outcome[R]], None],
) -> None:
    ray = require("ray", extra="ray")
    started = not ray.is_initialized()
    if started:
        _connect(ray, options)
    try:
        _spread(ray, ray.put(make), jobs, options, ended)
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, options: EngineOptions) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    if options.address is None:
        ray.init(address="local", num_cpus=options.workers, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=options.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError("address", f"{options.address} ({error})", "a running Ray cluster, or none") from error


def _spread(
    ray: Any, make: Any, jobs: Sequence[J], options: EngineOptions, ended: Callable[[int, Outcome[R]], None]
) -> None:
    """Keep the cluster busy until every job has ended."""
    key = secrets.token_hex(8)
    # Ray's own retries are off: they would not be counted.
    task = ray.remote(num_cpus=1, num_gpus=options.gpus, max_retries=0)(_in_worker)
    todo = deque((index, 1) for index in range(len(jobs)))
    running: dict[Any, tuple[int, int]] = {}
    most = options.workers or len(jobs)
    while todo or running:
        while todo and len(running) < most:
            index, attempt = todo.popleft()
            running[task.remote(key, make, jobs[index])] = (index, attempt)
        done, _ = ray.wait(list(running), num_returns=1)
        index, attempt = running.pop(done[0])
        found = _fetched(ray, done[0])
        if not isinstance(found, _Failure):
            ended(index, Outcome(value=found, attempts=attempt))
        elif found.again and attempt < options.attempts:
            todo.append((index, attempt + 1))
        else:
            ended(index, Outcome(value=None, error=found.text, attempts=attempt))


def _fetched(ray: Any, reference: Any) -> Any:
    """What a worker gave, or a failure where the worker is gone or could not begin."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Cancelled):
            raise error.cause from error
        return _Failure(f"{type(error.cause).__name__}: {error.cause}", again=not isinstance(error.cause, DA3Error))
    except ray.exceptions.RayError as error:
        return _Failure(f"{type(error).__name__}: {str(error).splitlines()[0]}")
