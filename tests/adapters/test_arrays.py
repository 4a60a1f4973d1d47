import h5py
import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.arrays import adapter, open_arrays
from brainalign.core.errors import FormatError, ParameterError, SchemaError

WHO = {"modality": "spikes", "system": "m1"}
VALUES = np.arange(12.0).reshape(3, 4)


def write_csv(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_csv_columns_are_labels_or_neuroids(tmp_path):
    file = write_csv(tmp_path / "t.csv", stimulus_id=["b", "a"], run=["01", "02"], onset_s=[1.5, 2.5], n1=[1, 2], n2=[3.5, 4.5])
    assert adapter.matches(file)
    x = open_arrays(file, **WHO, units="Hz")
    np.testing.assert_array_equal(x.values, [[1, 3.5], [2, 4.5]])
    assert list(x.stimulus_id.values) == ["b", "a"]
    assert list(x.neuroid_id.values) == ["n1", "n2"]
    assert list(x.run.values) == ["01", "02"]
    np.testing.assert_array_equal(x.onset_s, [1.5, 2.5])
    ba.validate(x, deep=True)


def test_csv_columns_can_be_chosen(tmp_path):
    file = write_csv(tmp_path / "t.csv", image=["b", "a"], animal=["cat", "dog"], n1=[1, 2], n2=[3, 4])
    x = open_arrays(file, **WHO, stimulus_column="image", presentation_columns=["animal"], neuroid_columns=["n2"])
    assert list(x.animal.values) == ["cat", "dog"]
    np.testing.assert_array_equal(x.values, [[3], [4]])
    with pytest.raises(FormatError, match=r"'cat' in row 0 of column 'animal'.*presentation_columns"):
        open_arrays(file, **WHO, stimulus_column="image")
    with pytest.raises(FormatError, match=r"no column 'stimulus_id'.*'image', 'animal', 'n1', 'n2'"):
        open_arrays(file, **WHO)
    with pytest.raises(ParameterError, match="stimulus_id= for the table"):
        open_arrays(file, **WHO, stimulus_id=["a", "b"])


def test_csv_without_a_value_or_an_id(tmp_path):
    (tmp_path / "t.csv").write_text("stimulus_id,n1\na,1\nb,\n")
    with pytest.raises(FormatError, match="first in row 1 of 'n1'"):
        open_arrays(tmp_path / "t.csv", **WHO)
    (tmp_path / "t.csv").write_text("stimulus_id,n1\na,1\n,2\n")
    with pytest.raises(SchemaError, match=r"'t.csv': responses has no `stimulus_id` at presentations 1"):
        open_arrays(tmp_path / "t.csv", **WHO)


def test_npy_needs_ids_for_rows_and_columns(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    assert adapter.matches(tmp_path / "x.npy")
    (tmp_path / "rows.txt").write_text("a\nb\na\n")
    x = open_arrays(tmp_path / "x.npy", **WHO, stimulus_id=tmp_path / "rows.txt", neuroid_id=[10, 11, 12, 13])
    np.testing.assert_array_equal(x.values, VALUES.astype(np.float32))
    assert list(x.stimulus_id.values) == ["a", "b", "a"]
    assert list(x.repetition.values) == [0, 0, 1]
    with pytest.raises(ParameterError, match=r"no stimulus_id .* positions are no names"):
        open_arrays(tmp_path / "x.npy", **WHO, neuroid_id=list("wxyz"))
    with pytest.raises(ParameterError, match="no neuroid_id"):
        open_arrays(tmp_path / "x.npy", **WHO, stimulus_id=list("abc"))
    with pytest.raises(ParameterError, match=r"'x.npy': .*`stimulus_id` of shape \(2,\).*3 values"):
        open_arrays(tmp_path / "x.npy", **WHO, stimulus_id=list("ab"), neuroid_id=list("wxyz"))
    with pytest.raises(ParameterError, match="neither a file nor one of the arrays"):
        open_arrays(tmp_path / "x.npy", **WHO, stimulus_id="row.txt", neuroid_id=list("wxyz"))


def test_hdf5_by_key_with_ids_beside_it(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layer1/features"] = VALUES
        file["layer2/features"] = VALUES
        file["stimulus_id"] = np.array(["a", "b", "a"], dtype=object)
        file["neuroid_id"] = np.arange(4)
    assert adapter.matches(tmp_path / "x.h5") == "HDF5 with stimulus_id and neuroid_id at its top"
    x = open_arrays(tmp_path / "x.h5", **WHO, key="layer2/features")
    np.testing.assert_array_equal(x.values, VALUES)
    assert x.stimulus_id.values.tolist() == ["a", "b", "a"]
    assert x.neuroid_id.values.tolist() == [0, 1, 2, 3]
    with pytest.raises(FormatError, match=r"holds 2 numeric arrays .*'layer1/features': \(3, 4\).*`key=`"):
        open_arrays(tmp_path / "x.h5", **WHO)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["features"] = VALUES
    assert not adapter.matches(tmp_path / "y.h5")
    x = open_arrays(tmp_path / "y.h5", **WHO, stimulus_id=list("abc"), neuroid_id=range(4))
    np.testing.assert_array_equal(x.values, VALUES)


def test_only_what_is_asked_for_is_read(tmp_path, bytes_read):
    values = np.zeros((2000, 500))
    np.save(tmp_path / "x.npy", values)
    ids = {"stimulus_id": np.arange(2000), "neuroid_id": np.arange(500)}
    x = open_arrays(tmp_path / "x.npy", **WHO, **ids)
    assert x.dtype == np.float32
    assert bytes_read(open_arrays, tmp_path / "x.npy", **WHO, **ids) < 40_000
    assert bytes_read(x[100:110].compute) < 10 * 500 * 8 + 10_000
    assert bytes_read(x[:, 7:9].compute) < 2000 * 2 * 8 + 10_000


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5"])
def test_damage(tmp_path, survives_damage, name):
    noise = np.random.default_rng(0).normal(size=(5, 4))
    if name == "x.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("noise", data=noise, compression="gzip")
    else:
        np.save(tmp_path / name, noise) if name == "x.npy" else np.savez_compressed(tmp_path / name, noise=noise)
    ids = {"stimulus_id": np.arange(5), "neuroid_id": np.arange(4)}
    assert survives_damage(tmp_path / name, lambda: open_arrays(tmp_path / name, **WHO, **ids).compute(), header=400)


def test_axes_are_named_and_moved(tmp_path):
    np.save(tmp_path / "x.npy", VALUES.T)
    ids = {"stimulus_id": list("abc"), "neuroid_id": list("wxyz")}
    x = open_arrays(tmp_path / "x.npy", **WHO, **ids, dims=("neuroid", "presentation"))
    np.testing.assert_array_equal(x.values, VALUES)
    with pytest.raises(ParameterError, match="shape"):
        open_arrays(tmp_path / "x.npy", **WHO, **ids, dims=("presentation", "presentation"))


def test_npz_carries_its_own_ids_and_time(tmp_path):
    counts = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    np.savez(
        tmp_path / "x.npz", counts=counts, stimulus_id=np.array(["a", "b"]), names=np.array(["u", "v", "w"]), t=np.arange(4) * 0.1
    )
    x = open_arrays(tmp_path / "x.npz", **WHO, neuroid_id="names", time="t")
    np.testing.assert_array_equal(x.values, counts)
    assert x.dtype.kind == "i"
    np.testing.assert_allclose(x.time, [0, 0.1, 0.2, 0.3])
    with pytest.raises(ParameterError, match="time=None for three dims"):
        open_arrays(tmp_path / "x.npz", **WHO, neuroid_id="names")
    with pytest.raises(FormatError, match="no array 'count'"):
        open_arrays(tmp_path / "x.npz", **WHO, key="count", neuroid_id="names", time="t")
    with pytest.raises(SchemaError, match=r"0.3 s is followed by 0.2 s"):
        open_arrays(tmp_path / "x.npz", **WHO, neuroid_id="names", time=[0.0, 0.3, 0.2, 0.4])
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(FormatError, match="holds 2 numeric arrays"):
        open_arrays(tmp_path / "two.npz", **WHO, stimulus_id=list("abc"), neuroid_id=list("wxyz"))
    with pytest.raises(ParameterError, match="two dims, none of them time"):
        open_arrays(tmp_path / "two.npz", **WHO, key="a", stimulus_id=list("abc"), neuroid_id=list("wxyz"), time=[0.0])


def test_sidecar_tables_label_rows_and_columns(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    rows = write_csv(tmp_path / "rows.csv", stimulus_id=["1", "2", "3"], run=["01", "01", "02"], contrast=[0.5, 1, 1])
    cells = pd.DataFrame({"neuroid_id": list("wxyz"), "region": ["V1", "V1", "V4", "V4"]})
    x = open_arrays(tmp_path / "x.npy", **WHO, presentation=rows, neuroid=cells)
    assert list(x.stimulus_id.values) == ["1", "2", "3"]
    assert list(x.run.values) == ["01", "01", "02"]
    np.testing.assert_array_equal(x.contrast, [0.5, 1, 1])
    assert list(x.region.values) == ["V1", "V1", "V4", "V4"]
    assert "neuroid_id" in cells  # the caller's table is not changed


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", data=np.array([{"a": 1}], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(FormatError, match=rf"{name}(:data.npy)?' holds pickled Python objects"):
            open_arrays(tmp_path / name, **WHO)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_named(tmp_path, name, share):
    noise = np.random.default_rng(0).normal(size=(30, 40))
    np.save(tmp_path / name, noise) if name.endswith("npy") else np.savez(tmp_path / name, noise=noise)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    said = "bytes; its header promises" if name.endswith("npy") else "could not be read"
    with pytest.raises(FormatError, match=rf"{name}' .*{said}"):
        open_arrays(tmp_path / name, **WHO, stimulus_id=["a"], neuroid_id=["b"])


def test_a_table_of_labels_alone_and_files_of_pickles(tmp_path):
    (tmp_path / "a.csv").write_text("stimulus_id,run\na,1\nb,1\n")
    with pytest.raises(FormatError, match=r"has the columns 'stimulus_id', 'run', none of them a neuroid"):
        ba.open_responses(tmp_path / "a.csv", modality="ann", system="net")
    np.savez(tmp_path / "steinmetz_part1.npz", dat=np.array([{"spks": np.zeros((2, 3, 250))}], dtype=object))  # as of Neuromatch
    with pytest.raises(FormatError, match=r"part1.npz:dat.npy' holds pickled Python objects, which can run code"):
        ba.open_responses(tmp_path / "steinmetz_part1.npz", modality="spikes", system="m")


def test_a_table_that_was_cut_is_recognised_and_its_row_named(tmp_path):
    (tmp_path / "a.csv").write_text("stimulus_id,n1\na,1\nb")
    with pytest.raises(FormatError, match=r"a.csv' has 1 cells in row 2 \('b'\). Expected 2"):
        ba.open_responses(tmp_path / "a.csv", modality="ann", system="net")


def test_nan_must_be_declared_and_names_must_be_unique(tmp_path):
    values = VALUES.copy()
    values[2, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    ids = {"stimulus_id": list("abc"), "neuroid_id": list("wxyz")}
    with pytest.raises(FormatError, match=r"1 values that are NaN .* neuroid 1"):
        open_arrays(tmp_path / "x.npy", **WHO, **ids).compute()
    assert open_arrays(tmp_path / "x.npy", **WHO, **ids, allow_nan=True).attrs["allow_nan"]
    with pytest.raises(SchemaError, match=r"'x.npy': responses has 1 repeated `neuroid_id`"):
        open_arrays(tmp_path / "x.npy", **WHO, stimulus_id=list("abc"), neuroid_id=list("wxyw"), allow_nan=True)


@pytest.mark.real
def test_other_tables_are_not_taken(shared_data):
    assert not adapter.matches(shared_data("alice-fmri-roi") / "10mm/s18-timecourses.txt")
    assert not adapter.matches(shared_data("mouse-v1-gratings") / "README.md")
