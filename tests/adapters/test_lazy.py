import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.adapters.hdf5 import open_hdf5
from brainalign.adapters.lazy import lazy_array, leading, open_npy
from brainalign.core.errors import FormatError

VALUES = np.arange(6 * 50 * 40, dtype=np.float32).reshape(6, 50, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lazy")
    np.save(folder / "c.npy", VALUES)
    np.save(folder / "f.npy", np.asfortranarray(VALUES))
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/betas"] = VALUES
        file.create_dataset("chunked", data=VALUES, chunks=(1, 25, 40))
    return folder


def arrays(folder):
    return [
        open_npy(folder / "c.npy"), open_npy(folder / "f.npy"),
        open_hdf5(folder / "a.h5", "group/betas"), open_hdf5(folder / "a.h5", "chunked"),
    ]  # fmt: skip


index = st.one_of(
    st.slices(6), st.integers(-6, 5), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.just(slice(None, None, -2))
)


@given(first=index, second=st.slices(50), third=st.one_of(st.slices(40), st.integers(0, 39)))
def test_any_index_gives_what_numpy_gives(folder, first, second, third):
    for array in arrays(folder):
        np.testing.assert_array_equal(array[first][..., second, third].compute(), VALUES[first][..., second, third])


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), fortran=st.booleans())
def test_every_shape_and_order_of_npy(tmp_path_factory, shape, fortran):
    values = np.arange(np.prod(shape)).reshape(shape)
    file = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(file, np.asfortranarray(values) if fortran else values)
    np.testing.assert_array_equal(open_npy(file).compute(), values)


def test_a_block_reads_its_own_bytes_and_little_more(tmp_path, bytes_read):
    values = np.zeros((2000, 500), dtype=np.float32)  # 4 MB
    np.save(tmp_path / "a.npy", values)
    array = open_npy(tmp_path / "a.npy")
    assert bytes_read(open_npy, tmp_path / "a.npy") < 10_000
    assert bytes_read(array[100:110].compute) < 10 * 500 * 4 + 10_000
    assert bytes_read(array[:, 7:9].compute) < 2000 * 2 * 4 + 10_000


def test_a_file_that_changed_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    array = open_npy(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", VALUES[:3])
    with pytest.raises(FormatError, match=r"a\.npy' changed"):
        array.compute()
    (tmp_path / "a.npy").unlink()
    with pytest.raises(FormatError, match="no file"):
        array.compute()


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_not_finite_is_refused_where_it_is_read(tmp_path, order):
    values = np.zeros((6, 5), dtype=np.float32)
    values[4, 3] = np.nan
    np.save(tmp_path / "a.npy", np.asarray(values, order=order))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
    for array in (open_npy(tmp_path / "a.npy", finite_axis=1), open_hdf5(tmp_path / "a.h5", "x", finite_axis=1)):
        np.testing.assert_array_equal(array[:, :3].compute(), values[:, :3])
        with pytest.raises(FormatError, match=r"1 values that are NaN .* neuroid 3, counted from 0.*allow_nan=True"):
            array[2:].compute()
    assert np.isnan(open_npy(tmp_path / "a.npy").compute()).any()


def test_values_become_the_dtype_that_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", VALUES.astype(np.float64))
    array = open_npy(tmp_path / "a.npy", dtype=np.float32)
    assert (array.dtype, array[:2].compute().dtype) == (np.float32, np.float32)
    np.save(tmp_path / "b.npy", VALUES * 1j)
    with pytest.raises(FormatError, match=r"b.npy' could not be read as numpy .*Cannot cast"):
        open_npy(tmp_path / "b.npy", dtype=np.float32).compute()


def test_of_several_files_the_array_is_named_with_the_place(tmp_path):
    files = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for file in files:
        file.touch()
    array = lazy_array(_block, (3, 2), np.float32, files=files, what="bytes", finite_axis=1)
    with pytest.raises(FormatError, match=r"the array of '.*a.bin' and 1 more files holds 1 values .* the first at \(2, 1\)"):
        array.compute()


def _block(spans):
    return np.array([[1, 2], [3, 4], [5, np.nan]], dtype=np.float32)[spans]


@pytest.mark.parametrize("cut", [0, 5, 40, 200, 5000])
def test_truncated_files(tmp_path, folder, cut):
    for name, read in (("c.npy", open_npy), ("a.h5", lambda path: open_hdf5(path, "chunked").compute())):
        whole = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=name):
            read(tmp_path / name)


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="pickled"):
        open_npy(tmp_path / "objects.npy")


def test_a_lazy_array_travels_to_another_process(folder):
    for array in arrays(folder):
        np.testing.assert_array_equal(array.compute(scheduler="processes", num_workers=1), VALUES)


def test_chunks_cut_the_first_dims():
    assert leading((4, 5), 4) == (4, 5)
