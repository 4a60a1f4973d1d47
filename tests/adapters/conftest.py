"""What the tests of every reader share: damage, from which a reader must come back with responses or a typed error."""

import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

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
    ``header`` is how many bytes at the start are overwritten more often than the rest. The damages are the same in every run: HDF5
    can hang on some, where no signal reaches. Returns how many of them were refused.
    """

    def check(file, read, *, header=4096, examples=40, seconds=20):
        whole = file.read_bytes()
        places = st.one_of(st.integers(0, min(header, len(whole)) - 1), st.integers(0, len(whole) - 1))
        cuts = st.tuples(st.just("cut"), st.integers(0, len(whole) - 1), st.just(b""))
        overwritten = st.tuples(st.just("overwrite"), places, st.binary(min_size=1, max_size=8))

        refused = []

        @settings(max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(st.one_of(cuts, overwritten))
        def attempt(damage):
            how, at, new = damage
            file.write_bytes(whole[:at] if how == "cut" else whole[:at] + new + whole[at + len(new) :])
            with within(seconds):
                try:
                    read()
                except BrainAlignError as error:
                    refused.append(error)

        try:
            attempt()
        finally:
            file.write_bytes(whole)
        return len(refused)

    return check


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
