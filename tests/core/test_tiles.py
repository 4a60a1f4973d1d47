import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.core.errors import ParameterError
from brainalign.core.tiles import chunk_bytes, compact, n_of, n_readers, part_of, plan_tiles, read_tiles


class Counting:
    """An array that counts the chunks that are read from it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim, self.n_reads = values, values.shape, values.dtype, values.ndim, 0

    def __getitem__(self, key):
        self.n_reads += 1
        return self.values[key]


def lazy(values, chunks):
    source = Counting(values)
    return source, da.from_array(source, chunks=chunks, asarray=False, meta=np.empty((0,) * values.ndim, values.dtype))


def spans(n, width):
    return [slice(start, min(n, start + width)) for start in range(0, n, width)]


def assembled(data, tiles, step):
    out = np.full(data.shape, -1, dtype=data.dtype)
    for rows, band, block in read_tiles(data, tiles, n_workers=2):
        assert rows.start % step == 0
        assert rows.stop % step == 0 or rows.stop == data.shape[0]
        assert block.shape == (rows.stop - rows.start, n_of(tiles.columns[band]), *data.shape[2:])
        assert (out[rows, tiles.columns[band]] == -1).all()
        out[rows, tiles.columns[band]] = block
    return out


@given(st.data())
@settings(max_examples=40)
def test_any_chunks_and_any_units_are_read_whole_within_the_bound(data):
    n_rows, n_columns = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 40))
    times = data.draw(st.sampled_from([(), (3,)]))
    values = np.arange(n_rows * n_columns * int(np.prod(times)), dtype="f4").reshape(n_rows, n_columns, *times)
    chunks = (data.draw(st.integers(1, n_rows)), data.draw(st.integers(1, n_columns)), *times)
    step, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    order = np.arange(n_columns)
    if data.draw(st.booleans()):  # two regions, interleaved
        units = [half[part] for half in (order[::2], order[1::2]) for part in spans(half.size, width)]
    else:
        units = spans(n_columns, width)
    least = min(step, n_rows) * max(map(n_of, units)) * int(np.prod(times)) * 4
    budget = data.draw(st.integers(least, least + values.nbytes))
    source, array = lazy(values, chunks)
    tiles = plan_tiles(array, units, step=step, budget=budget, owner="f")
    np.testing.assert_array_equal(assembled(array, tiles, step), values)
    assert tiles.depth * max(map(n_of, tiles.columns)) * int(np.prod(times)) * 4 <= budget
    assert source.n_reads == tiles.n_reads
    np.testing.assert_array_equal(assembled(values, plan_tiles(values, units, step=step, budget=budget, owner="f"), step), values)


@pytest.mark.parametrize(
    ("what", "chunks", "budget"),
    [
        ("by volume, as NIfTI", (1, 256), 64 * 256 * 4),
        ("by voxel, as NSD", (300, 4), 300 * 32 * 4),
        ("rows of sessions that end between those of the store", (75, 256), (64 + 75) * 256 * 4),
        ("as the store has it", (64, 32), 64 * 32 * 4),
        ("in one piece", (300, 256), 300 * 256 * 4),
    ],
)
def test_each_chunk_is_read_once_where_memory_allows(what, chunks, budget):
    source, array = lazy(np.random.default_rng(0).normal(size=(300, 256)).astype("f4"), chunks)
    tiles = plan_tiles(array, spans(256, 32), step=64, budget=budget, owner="f")
    assembled(array, tiles, 64)
    assert source.n_reads == tiles.n_reads == array.npartitions, what


def test_a_tight_bound_reads_again_as_little_as_it_can():
    values = np.zeros((300, 256), "f4")
    array = lazy(values, (1, 256))[1]
    assert plan_tiles(array, spans(256, 32), step=64, budget=64 * 128 * 4, owner="f").n_reads == 600  # two bands
    assert plan_tiles(array, spans(256, 32), step=64, budget=64 * 32 * 4, owner="f").n_reads == 2400  # eight
    array = lazy(values, (300, 64))[1]  # two units of 32 end with a chunk, three would not
    assert plan_tiles(array, spans(256, 32), step=64, budget=300 * 100 * 4, owner="f").n_reads == 4


def test_a_bound_that_holds_nothing_is_refused_with_the_least():
    with pytest.raises(
        ParameterError, match=r"'max_memory' parameter of save leaves 100 bytes.*at least 8,192, for 64 presentations of 32"
    ):
        plan_tiles(np.zeros((300, 256), "f4"), spans(256, 32), step=64, budget=100, owner="save")


def test_positions():
    assert compact(np.array([3, 4, 5])) == slice(3, 6)
    np.testing.assert_array_equal(compact(np.array([3, 5])), [3, 5])
    assert part_of(slice(4, 9), slice(1, 3)) == slice(5, 7)
    assert (n_of(slice(4, 9)), n_of(np.array([1, 7]))) == (5, 2)


def test_readers_are_as_many_as_fit():
    array = da.zeros((100, 100), chunks=(10, 50), dtype="f4")
    assert (chunk_bytes(array), chunk_bytes(np.zeros(3))) == (2000, 0)
    assert n_readers(array, 6000) == n_readers(array, 0) == 1
    assert n_readers(array, 10**9) >= 1
