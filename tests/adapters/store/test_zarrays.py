import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.adapters.store.zarrays import (
    leading_chunks,
    open_array,
    open_dataset,
    response_chunks,
    write_array,
    write_dataset,
)
from brainalign.core.errors import SchemaError, StoreError

STRING = np.dtypes.StringDType()

VALUES = [
    np.float32([1, np.nan, -np.inf]), np.arange(5, dtype=">f8"), np.array([True, False]), np.int8([-1, 2]), np.array(7, dtype=np.uint16),
    np.array(["a", "", "ü"]), np.array(["a", "bc"], dtype=STRING), np.array(["x", "yz"], dtype=object), np.array("scalar"),
    np.array(["2020-01-01", "NaT"], dtype="M8[ns]"), np.array([5, 9], dtype="m8[s]"), np.complex64([1 + 2j]), np.zeros((0, 3)),
    np.zeros((3, 4), np.float16),
]  # fmt: skip


@pytest.mark.parametrize("values", VALUES, ids=lambda v: f"{v.dtype}-{v.shape}")
def test_array_round_trip(tmp_path, values):
    dims = ("a", "b")[: values.ndim]
    write_array(tmp_path / "x", values, dims, {"units": "V"})
    stored = open_array(tmp_path / "x")
    assert (stored.dims, stored.attrs, stored.dtype, stored.shape) == (dims, {"units": "V"}, values.dtype, values.shape)
    back = stored[...]
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


def test_lazy_values_are_written_part_by_part(tmp_path):
    values = np.arange(3_000_000, dtype=np.float32).reshape(3, 1_000_000)
    write_array(tmp_path / "x", da.from_array(values, chunks=(1, 500_000)), ("a", "b"))
    lazy = open_array(tmp_path / "x").lazy()
    assert lazy.chunks[0] == (1, 1, 1)
    np.testing.assert_array_equal(lazy.compute(), values)


def test_any_zarr_reader_can_read_it(tmp_path):
    write_array(tmp_path / "x", np.eye(3), ("a", "b"), {"units": "V"})
    array = zarr.open_array(tmp_path / "x", mode="r")
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("a", "b")
    assert array.attrs["units"] == "V"
    np.testing.assert_array_equal(array[:], np.eye(3))


def test_chunk_of_zeros_that_is_missing_is_told_from_zeros(tmp_path):
    write_array(tmp_path / "x", np.zeros((4, 4)), ("a", "b"))
    chunk = tmp_path / "x" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-3])
    with pytest.raises(StoreError, match=r"c/0/0 has \d+ bytes. Expected \d+: it is truncated"):
        open_array(tmp_path / "x")
    chunk.unlink()
    with pytest.raises(StoreError, match=r"c/0/0 is missing. Expected all 1 chunks"):
        open_array(tmp_path / "x")


def test_flipped_bit_is_found_when_read(tmp_path):
    write_array(tmp_path / "x", np.random.default_rng(0).normal(size=(40, 40)), ("a", "b"))
    chunk = tmp_path / "x" / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    lazy = open_array(tmp_path / "x").lazy()
    with pytest.raises(StoreError, match=r"damaged chunk.*checksum"):
        lazy.compute()


def test_unfinished_array_is_not_opened(tmp_path):
    write_array(tmp_path / "x", np.eye(3), ("a", "b"))
    meta = tmp_path / "x" / "zarr.json"
    meta.write_text(meta.read_text().replace("chunk_bytes", "other"))
    with pytest.raises(StoreError, match="lacks 'chunk_bytes'"):
        open_array(tmp_path / "x")


def test_dataset_round_trip(tmp_path):
    dataset = xr.Dataset(
        {
            "score": (("neuroid", "fold"), np.float32([[1, np.nan]]), {"units": "r"}),
            "note": ((), "text"),
            "mask": ("fold", [True, False]),
        },
        coords={
            "fold": np.array(["a", "b"], dtype=STRING),
            "layer": ("neuroid", np.array(["x"], dtype=STRING)),
            "time": ("fold", np.array([0.5, 1.5])),
            "system": "net",
        },
        attrs={"dropped": (1, 2)},
    )
    for written in (dataset, dataset.chunk(), dataset.set_xindex("time").drop_indexes("fold")):
        write_dataset(tmp_path / "d", written, {})
        back = open_dataset(tmp_path / "d")
        assert isinstance(back["score"].data, da.Array)
        xr.testing.assert_identical(back.compute(), written.compute())
        assert set(back.xindexes) == set(written.xindexes)
        assert {n: v.dtype for n, v in back.variables.items()} == {n: v.dtype for n, v in written.variables.items()}
        import shutil

        shutil.rmtree(tmp_path / "d")


def test_what_cannot_be_stored_is_named(tmp_path):
    with pytest.raises(SchemaError, match=r"MultiIndex on 'k'.*reset_index"):
        write_dataset(
            tmp_path / "a", xr.Dataset({"v": (("x", "y"), np.eye(2))}).assign_coords(x=[0, 1], y=[0, 1]).stack(k=("x", "y")), {}
        )
    with pytest.raises(SchemaError, match="object 3"):
        write_dataset(tmp_path / "b", xr.Dataset({"v": ("x", np.array(["a", 3], dtype=object))}), {})
    with pytest.raises(SchemaError, match="named 1"):
        write_dataset(tmp_path / "c", xr.Dataset({1: ("x", [1.0])}), {})


@given(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), st.sampled_from([(), (1,), (300,), (10**5,)]))
@settings(max_examples=30)
def test_chunks_are_at_most_4_mb_and_rows_do_not_depend_on_width(shape, time):
    chunks = response_chunks((*shape, *time))
    assert np.prod(chunks) <= 2**20
    assert chunks[0] == response_chunks((shape[0], 1, *time))[0]
    assert all(1 <= c <= n for c, n in zip(chunks, (*shape, *time), strict=True))
    assert np.prod(leading_chunks(shape)) <= 2**20
