"""Work in threads, and products of matrices meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from depth_anything_3.refine.threads import in_threads


def blas_threads() -> set[int]:
    """Of every library for products of matrices that is loaded."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    if not blas_threads():
        pytest.skip("the library for products of matrices has no number of threads to set")
    with threadpool_limits(3, user_api="blas"):
        yield
        assert blas_threads() == {3}


def test_results_come_in_order_and_products_take_one_thread_meanwhile() -> None:
    assert in_threads(lambda item: (item, blas_threads()), range(20)) == [(item, {1}) for item in range(20)]


def test_an_error_gives_the_threads_back() -> None:
    def fail(item: int) -> int:
        raise ValueError(str(item))

    with pytest.raises(ValueError, match="0"):
        in_threads(fail, range(3))


def test_pools_beside_each_other_give_the_threads_back() -> None:
    """The first to begin ends first, while the other still works."""
    begun, first_done = threading.Event(), threading.Event()

    def wait(_: int) -> bool:
        begun.set()
        return first_done.wait(30)

    done: list[bool] = []
    other = threading.Thread(target=lambda: done.extend(in_threads(wait, range(1))))

    def start(_: int) -> bool:
        other.start()
        return begun.wait(30)

    assert in_threads(start, range(1)) == [True]
    first_done.set()
    other.join(30)
    assert done == [True]
