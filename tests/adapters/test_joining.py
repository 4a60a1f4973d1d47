import pickle

import numpy as np
import pytest

from brainalign.adapters.joining import joined
from brainalign.adapters.lazy import open_npy

VALUES = [np.random.default_rng(n).normal(size=(n, 40, 3)).astype(np.float32) for n in (500, 300, 1)]


@pytest.mark.parametrize("axis", [0, 1])
def test_any_slice_is_that_of_the_whole(tmp_path, axis):
    for i, values in enumerate(VALUES):
        np.save(tmp_path / f"{i}.npy", np.moveaxis(values, 0, axis))
    x = joined([open_npy(tmp_path / f"{i}.npy") for i in range(3)], axis)
    whole = np.moveaxis(np.concatenate(VALUES), 0, axis)
    assert (x.shape, x.dtype) == (whole.shape, whole.dtype)
    for key in (slice(None), slice(490, 510), slice(799, 801), slice(600, 601), slice(5, 5), [0, 800]):
        at = (slice(None),) * axis + (key,)
        np.testing.assert_array_equal(x[at].compute(), whole[at])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(x)).compute(), whole)


def test_a_slice_reads_its_own_bytes(tmp_path, bytes_read):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.zeros((1000, 500), np.float32))  # 2 MB
    x = joined([open_npy(tmp_path / f"{i}.npy") for i in range(2)])
    assert bytes_read(x[1500:1510].compute) < 10 * 500 * 4 + 10_000
    assert bytes_read(x[:, 7:9].compute) < 2000 * 2 * 4 + 10_000


def test_one_array_is_itself(tmp_path):
    np.save(tmp_path / "a.npy", VALUES[0])
    x = open_npy(tmp_path / "a.npy")
    assert joined([x]) is x
