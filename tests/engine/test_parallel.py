import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from brainalign.engine.parallel import n_workers, one_thread_each, side_by_side, working_memory

X = np.ones((2, 2))


@pytest.mark.parametrize("workers", [1, 3])
def test_pieces_come_back_in_their_order(workers):
    assert side_by_side(lambda i: i**2, range(7), workers) == [0, 1, 4, 9, 16, 25, 36]
    assert side_by_side(abs, [], workers) == []


def test_pieces_run_side_by_side():
    barrier = threading.Barrier(3, timeout=30)  # is broken where one waits for the others to come after it
    assert len({side_by_side(lambda _: barrier.wait(), range(3), 3).index(i) for i in range(3)}) == 3


def test_within_a_piece_products_take_one_thread_and_all_of_them_afterwards():
    with threadpool_limits(3, user_api="blas"):
        before = n_workers(X)
        assert side_by_side(lambda _: n_workers(X), range(4), 2) == [1] * 4
        with one_thread_each(2):
            assert n_workers(X) == 1
        with one_thread_each(1):
            assert n_workers(X) == before
        assert n_workers(X) == before


def test_limits_of_threads_are_limits_of_workers():
    with threadpool_limits(1, user_api="blas"):
        assert n_workers(X) == 1
    assert n_workers(pytest.importorskip("torch").ones(2)) == 1


def test_an_error_is_raised_and_what_was_not_begun_is_dropped():
    begun = []

    def work(i):
        begun.append(i)
        if i == 0:
            raise ValueError("piece 0")
        threading.Event().wait(0.05)

    with pytest.raises(ValueError, match="piece 0"):
        side_by_side(work, range(200), 2)
    assert len(begun) < 200


def test_those_who_work_side_by_side_share_memory():
    assert working_memory(X) == 2**29
    assert working_memory(X, 100) == 100
    assert side_by_side(lambda _: (working_memory(X), working_memory(X, 100)), range(4), 2) == [(2**28, 50)] * 4
    assert working_memory(X) == 2**29
