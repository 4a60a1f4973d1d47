"""Pieces of work side by side on a processor, one thread each.

Products that share all threads leave them idle in between; and numpy and scipy, which have threads of their own, get into each other's
way for a tenth of a second after every product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from threading import local
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from brainalign.engine.backend import Array, is_torch, namespace

Piece = TypeVar("Piece")
Done = TypeVar("Done")

_MOST = 8  # with more, pieces that fit into the same memory are too small for quick products

_here = local()  # how many workers this thread is one of


def n_workers(x: Array) -> int:
    """Return how many pieces of work on an array go side by side: as many as a product of its rows would take threads.

    Parameters
    ----------
    x : ndarray or Tensor

    Returns
    -------
    int
        1 for tensors, where the threads cannot be told, and within a piece. Whatever limits the threads of products, as the variable
        ``OMP_NUM_THREADS`` or ``threadpoolctl.threadpool_limits`` do, limits this.
    """
    libraries = [] if is_torch(x) else _products().lib_controllers
    return min((_MOST, *(library.num_threads for library in libraries))) if libraries else 1


def side_by_side(
    work: Callable[[Piece], Done], pieces: Iterable[Piece], workers: int, shown: Callable[[Any], Any] = iter
) -> list[Done]:
    """Return what some work makes of each piece.

    Parameters
    ----------
    work : callable
        Its products take one thread each, if there is more than one worker. What it writes must not overlap.
    pieces : iterable
    workers : int
        With 1 the pieces are taken in turn, and products share all threads.
    shown : callable
        From a list to what goes along it with a bar.

    Returns
    -------
    list
        In the order of the pieces. The first error is raised, and pieces that were not begun are dropped.
    """
    pieces = list(pieces)
    workers = min(workers, len(pieces))
    if workers <= 1:
        return [work(piece) for piece in shown(pieces)]
    with one_thread_each(workers), ThreadPoolExecutor(workers, initializer=_begin, initargs=(workers,)) as pool:
        done = pool.map(work, pieces)
        return [next(done) for _ in shown(pieces)]


def one_thread_each(workers: int) -> AbstractContextManager[object]:
    """Return a context in which products take one thread, if there is more than one worker.

    Parameters
    ----------
    workers : int

    Returns
    -------
    context manager
    """
    return _products().limit(limits=1) if workers > 1 else nullcontext()


def working_memory(x: Array, limit: float | None = None) -> float:
    """Return the bytes that may be worked with beside ``x``; those who work side by side share them.

    Parameters
    ----------
    x : ndarray or Tensor
    limit : float, optional
        Default: 512 MB, or a quarter of what is free on a CUDA device.

    Returns
    -------
    float
    """
    if limit is None and is_torch(x) and x.device.type == "cuda":
        limit = float(namespace(x).cuda.mem_get_info(x.device)[0]) / 4
    return (2.0**29 if limit is None else limit) / getattr(_here, "workers", 1)


def _begin(workers: int) -> None:
    """Make a thread one of some workers."""
    _here.workers = workers
    one_thread_each(workers)  # again: where products are run by OpenMP the limit is a thread's own


@cache
def _products() -> ThreadpoolController:
    """Return what sets the threads of the libraries that numpy and scipy multiply with."""
    return ThreadpoolController().select(user_api="blas")
