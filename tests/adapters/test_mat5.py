import struct

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from brainalign.adapters.mat5 import check_mat5
from brainalign.adapters.matfile import read_mat
from brainalign.core.errors import FormatError

KINDS = {
    "numbers": np.arange(24.0).reshape(2, 3, 4), "small": np.arange(4, dtype=np.int8), "one": 3.5, "complex": np.array([1 + 2j, 3]),
    "flag": np.array([True, False]), "text": "hello", "empty_text": "", "texts": np.array(["ab", "cd"]), "none": np.zeros((0, 0)),
    "cells": np.array(["a", np.arange(3), None], dtype=object), "sparse": csc_matrix(np.eye(3)), "unicode": "\u00b5V",
    "struct": {"a": 1.0, "b": {"c": "deep"}, "long_name_of_a_field": np.arange(5)}, "wide": np.arange(3, dtype=np.int64),
    "structs": np.array([[(1.0, "x"), (2.0, "y")]], dtype=[("n", object), ("t", object)]),
}  # fmt: skip
KINDS["cells"][2] = np.zeros((0, 0))


@pytest.mark.parametrize("compressed", [True, False])
def test_whole_files_of_every_class_pass(tmp_path, compressed):
    savemat(tmp_path / "a.mat", KINDS, do_compression=compressed)
    check_mat5(tmp_path / "a.mat")
    assert set(read_mat(tmp_path / "a.mat")) == set(KINDS)


def test_a_type_that_there_is_not_is_refused_before_scipy_follows_it(tmp_path):
    """scipy 1.17 looks such a code up outside its table, which ends the process."""
    file = tmp_path / "a.mat"
    savemat(file, {"x": np.arange(24.0)})
    whole = file.read_bytes()
    tag = struct.pack("<II", 9, 24 * 8)
    assert whole.count(tag) == 1
    file.write_bytes(whole.replace(tag, struct.pack("<II", 200, 24 * 8)))
    with pytest.raises(FormatError, match=r"damaged in its variable 0 \(an element of type 200 and 192 bytes where one of"):
        read_mat(file)
    file.write_bytes(whole.replace(tag, struct.pack("<II", 9, 23 * 8)))
    with pytest.raises(FormatError, match=r"184 bytes of type 9 for an array of size \(1, 24\)"):
        read_mat(file)


@pytest.mark.parametrize("compressed", [True, False])
def test_truncation_is_named(tmp_path, compressed):
    file = tmp_path / "a.mat"
    savemat(file, KINDS, do_compression=compressed)
    whole = file.read_bytes()
    for cut in (1, 9, 100, len(whole) // 2):
        file.write_bytes(whole[:-cut])
        with pytest.raises(FormatError, match=r"a\.mat'"):
            check_mat5(file)


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_survived(tmp_path, survives_damage, compressed):
    file = tmp_path / "a.mat"
    savemat(file, KINDS, do_compression=compressed)
    assert survives_damage(file, lambda: read_mat(file), header=400, examples=300)


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "name"),
    [("mouse-v1-gratings", "230809_mrcuts28_fov4_grat-000_data.mat"), ("eeg-visual-attention", "eeglab_data.set")],
)
def test_real_files_pass(shared_data, folder, name):
    check_mat5(shared_data(folder) / name)
