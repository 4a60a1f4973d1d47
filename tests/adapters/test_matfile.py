import numpy as np
import pytest
from scipy.io import savemat

from brainalign.adapters.matfile import find_fields, is_mat, read_mat
from brainalign.core.errors import FormatError, OptionalDependencyError

CONTENT = {
    "x": np.arange(6.0).reshape(2, 3),
    "name": "hIT",
    "s": {"a": np.array([1.0, 2.0]), "inner": {"b": "text"}},
    "cells": np.array([np.array([1.0, 2.0]), "word"], dtype=object),
}


def test_structs_are_dicts_and_cells_are_lists(tmp_path):
    savemat(tmp_path / "a.mat", CONTENT)
    read = read_mat(tmp_path / "a.mat")
    assert is_mat(tmp_path / "a.mat")
    assert sorted(read) == ["cells", "name", "s", "x"]
    np.testing.assert_array_equal(read["x"], CONTENT["x"])
    assert read["name"] == "hIT"
    assert read["s"]["inner"] == {"b": "text"}
    assert read["cells"][1] == "word"
    np.testing.assert_array_equal(np.ravel(read["cells"][0]), [1, 2])


def test_an_array_of_structs_is_a_list_in_the_order_of_matlab(tmp_path):
    grid = np.empty((2, 2), dtype=[("name", object)])
    for i, j in np.ndindex(2, 2):
        grid[i, j]["name"] = f"s{i}r{j}"
    savemat(tmp_path / "a.mat", {"RDMs": grid})
    assert [item["name"] for item in read_mat(tmp_path / "a.mat")["RDMs"]] == ["s0r0", "s1r0", "s0r1", "s1r1"]


@pytest.fixture
def version_7_3(tmp_path):
    """Return a file of version 7.3 with numbers, text, a struct, a cell array and an array of structs, as MATLAB lays them out."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:

        def put(place, name, value, kind):
            place.create_dataset(name, data=value).attrs["MATLAB_class"] = np.bytes_(kind)

        text = np.array([[ord(letter)] for letter in "hIT"], dtype=np.uint16)
        put(file, "x", CONTENT["x"].T, "double")
        put(file, "name", text, "char")
        struct = file.create_group("s")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        put(struct, "a", np.array([[1.0], [2.0]]), "double")
        fields = np.empty(1, dtype=object)  # a list of names, each of single letters: values of no fixed size
        fields[0] = np.array([b"a"], dtype="S1")
        struct.attrs.create("MATLAB_fields", fields, dtype=h5py.vlen_dtype(np.dtype("S1")))
        refs = file.create_group("#refs#")
        put(refs, "a", np.array([[5.0], [6.0]]), "double")
        put(refs, "b", text, "char")
        put(file, "cells", np.array([[refs["a"].ref], [refs["b"].ref]], dtype=h5py.ref_dtype), "cell")
        put(file, "RDMs/name", np.array([[refs["b"].ref], [refs["b"].ref]], dtype=h5py.ref_dtype), "x")
        del file["RDMs/name"].attrs["MATLAB_class"]
    with (tmp_path / "a.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return tmp_path / "a.mat"


def test_version_7_3_equals_version_5(version_7_3):
    assert is_mat(version_7_3)
    read = read_mat(version_7_3)
    np.testing.assert_array_equal(read["x"], CONTENT["x"])
    assert read["name"] == "hIT"
    np.testing.assert_array_equal(read["s"]["a"], [[1.0, 2.0]])
    assert read["cells"][1] == "hIT"
    np.testing.assert_array_equal(read["cells"][0], [[5.0, 6.0]])
    assert read["RDMs"] == [{"name": "hIT"}, {"name": "hIT"}]


def test_damage_of_version_7_3(version_7_3, hdf5_survives_damage):
    assert hdf5_survives_damage(version_7_3, lambda: read_mat(version_7_3)) > 50


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(OptionalDependencyError, match=r"MATLAB 7.3 files needs h5py.*brainalign\[spikes\]"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_truncated_files_are_named(tmp_path, share, compress):
    savemat(tmp_path / "a.mat", {"x": np.random.default_rng(0).normal(size=(50, 40))}, do_compression=compress)
    whole = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError, match=r"a.mat' (could not be read as MATLAB|is damaged in its variable)"):
        read_mat(tmp_path / "a.mat")


def test_a_file_cut_between_variables_is_named_too(tmp_path):
    savemat(tmp_path / "one.mat", {"x": np.ones((5, 4))})
    savemat(tmp_path / "two.mat", {"x": np.ones((5, 4)), "y": np.ones((50, 4))})
    one, two = (tmp_path / "one.mat").read_bytes(), (tmp_path / "two.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(two[: len(one) + 4])
    with pytest.raises(FormatError, match=r"cut.mat"):
        read_mat(tmp_path / "cut.mat")


def test_other_files_are_named(tmp_path):
    (tmp_path / "a.mat").write_text("no matlab")
    assert not is_mat(tmp_path / "a.mat")
    with pytest.raises(FormatError, match="Expected a MATLAB file"):
        read_mat(tmp_path / "a.mat")


def test_fields_are_found_by_dots_and_patterns():
    variables = {"D": {"neuron2": 1, "neuron10": 2, "speed": 3}, "t": 4}
    assert find_fields(variables, "D.neuron*", "a.mat") == {"neuron2": 1, "neuron10": 2}
    assert find_fields(variables, "t", "a.mat") == {"t": 4}
    with pytest.raises(
        FormatError, match=r"struct 'D' of 'a.mat' has no field 'neuro'. Its fields are 'neuron2', 'neuron10', 'speed'"
    ):
        find_fields(variables, "D.neuro", "a.mat")
    with pytest.raises(FormatError, match=r"'a.mat' has no field 'E'"):
        find_fields(variables, "E.x", "a.mat")
    with pytest.raises(FormatError, match="It is a int, not a struct"):
        find_fields(variables, "t.x", "a.mat")
