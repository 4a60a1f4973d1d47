"""What is kept is what fits, and the last to come is the first to go."""

import threading

import numpy as np
import pytest

from brainalign.engine.kept import Kept, bytes_held, content_key
from brainalign.engine.parallel import side_by_side


def asked(kept, names):
    """Ask for 80 bytes by each name in turn; return the names that had to be made."""
    made = []
    for name in names:
        kept.get(name, lambda name=name: made.append(name) or np.zeros(10))
    return "".join(made)


def test_everything_is_made_once_where_it_fits():
    assert asked(Kept(240), "abcabcabc") == "abc"


def test_what_comes_first_stays_where_not_all_fits():
    kept = Kept(170)
    assert asked(kept, "abcd") == "abcd"
    assert asked(kept, "abcdabcd") == "cdcd"  # a and b are never made again: a half of the work is saved, not none


def test_what_grows_is_counted_when_the_next_is_asked_for():
    kept = Kept(200)
    kept.get("a", lambda: [np.zeros(10)])
    kept.get("b", lambda: [np.zeros(10)]).append(np.zeros(10))
    assert asked(kept, "a") == ""
    assert asked(kept, "b") == "b"


def test_those_who_ask_at_once_need_not_wait_for_one_another_and_share_what_the_first_has_made():
    kept, barrier = Kept(10**6), threading.Barrier(2, timeout=30)

    def ask(key):
        return kept.get(key, lambda: barrier.wait() or np.zeros(3))

    side_by_side(ask, "ab", 2)
    one, other = side_by_side(lambda key: kept.get(key, lambda: barrier.wait() or np.zeros(3)), "cc", 2)
    assert one is other


def test_bytes_are_those_of_arrays_wherever_they_are_and_each_counts_once():
    class Holder:
        def __init__(self, x):
            self.x, self.again, self.me, self.name = x, {"x": (x, None)}, self, "text"

    x = np.zeros((3, 5), dtype=np.float32)
    assert bytes_held(Holder(x), [x, np.zeros(2)]) == 60 + 16
    torch = pytest.importorskip("torch")
    assert bytes_held({"a": torch.zeros(4)}) == 16


@pytest.mark.parametrize(
    "other",
    [np.arange(6.0)[::-1], np.arange(6.0).reshape(2, 3), np.arange(6.0).astype("float32"), np.r_[np.arange(5.0), np.nan], None],
    ids=["order", "shape", "dtype", "nan", "none"],
)
def test_a_key_tells_contents_apart(other):
    x = np.arange(6.0)
    assert content_key(x) == content_key(np.arange(12.0)[::2] / 2)
    assert content_key(x) != content_key(other)
    assert content_key(x, other) != content_key(other, x)
