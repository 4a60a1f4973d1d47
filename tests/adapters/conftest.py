"""What the tests of every reader share: damage, from which a reader must come back with responses or a typed error."""

import gc
import re
import shutil
import signal
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import dask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainalign.core.errors import BrainAlignError


@contextmanager
def within(seconds: int):
    """Fail where the body takes longer: a reader may refuse a damaged file, but never hang on it."""

    def late(*_):
        pytest.fail(f"not back after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def survives_damage():
    """Return a check: whatever is cut off a file, or written over its bytes, reading gives a result or a typed error.

    ``survives_damage(file, read)`` damages the file in place and puts it back; ``read()`` opens what holds it, and computes.
    ``header`` is how many bytes at the start are overwritten more often than the rest. The damages are the same in every run. Returns
    how many of them were refused.
    """
    return _damaged


@pytest.fixture
def hdf5_survives_damage():
    """Return the same check for HDF5, where a hang or an abort is out of reach of signals: it runs in a process of its own.

    The heads of heaps, trees and groups are overwritten more often than the rest. A damage that does not come back in time, or ends
    the process, is named.
    """

    def check(file, read, *, examples=200, seconds=20):
        whole = file.read_bytes()
        heads = [found.start() for found in re.finditer(b"GCOL|TREE|SNOD|HEAP|OHDR|OCHK|FRHP|BTHD", whole)]
        fork = get_context("fork")
        here, there = fork.Pipe(duplex=False)

        def run():
            gc.freeze()  # what earlier tests left must not be finalised here: its threads stayed behind
            with dask.config.set(scheduler="synchronous"):  # the threads of its pool stay behind
                try:
                    n_refused = _damaged(file, read, heads=heads, examples=examples, seconds=seconds, tell=there.send)
                    there.send(n_refused)
                except BaseException:
                    there.send(traceback.format_exc())

        other = fork.Process(target=run, daemon=True)
        other.start()
        there.close()
        told, news = None, None
        try:
            while not isinstance(news, (int, str)):
                told = news
                if not here.poll(2 * seconds):
                    pytest.fail(f"not back after {2 * seconds} s from {told}")
                news = here.recv()
        except EOFError:
            other.join()
            pytest.fail(f"the process ended ({other.exitcode}) at {told}")
        finally:
            other.kill()
            file.write_bytes(whole)
        if isinstance(news, str):
            pytest.fail(news)
        return news

    return check


def _damaged(file, read, *, header=4096, heads=(), examples=40, seconds=20, tell=lambda _: None):
    whole = file.read_bytes()
    places = st.one_of(st.integers(0, min(header, len(whole)) - 1), st.integers(0, len(whole) - 1))
    if heads:
        places = st.one_of(
            places, st.tuples(st.sampled_from(heads), st.integers(0, 63)).map(lambda at: min(sum(at), len(whole) - 1))
        )
    cuts = st.tuples(st.just("cut"), st.integers(0, len(whole) - 1), st.just(b""))
    overwritten = st.tuples(st.just("overwrite"), places, st.binary(min_size=1, max_size=8))

    refused = []

    @settings(max_examples=examples, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(cuts, *[overwritten] * (4 if heads else 1)))  # a cut is much like another
    def attempt(damage):
        how, at, new = damage
        tell(damage)
        file.write_bytes(whole[:at] if how == "cut" else whole[:at] + new + whole[at + len(new) :])
        with within(seconds):
            try:
                read()
            except BrainAlignError as error:
                refused.append(error)

    try:
        for head in heads:  # an empty object at the start of a heap: without a check, HDF5 never gets past it
            attempt.hypothesis.inner_test(("overwrite", head + 16, bytes(16)))
        attempt()
    finally:
        file.write_bytes(whole)
    return len(refused)


@pytest.fixture(scope="module")
def worker():
    """Return one other process, which knows nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def link_tree():
    """Return a function that makes a folder anew out of links to files of other names, as DataLad keeps them."""

    def link(folder, into):
        (into / "objects").mkdir()
        for number, file in enumerate(file for file in sorted(folder.rglob("*")) if file.is_file()):
            made, kept = into / file.relative_to(folder.parent), into / "objects" / f"MD5E-{number}"
            made.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, kept)
            made.symlink_to(kept)

    return link
