import zipfile

import h5py
import numpy as np
import pytest

from brainalign.adapters.containers import headers, kind_of, load, open_array
from brainalign.core.errors import FormatError

VALUES = np.arange(12, dtype=np.float64).reshape(3, 4)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "a.npz", x=VALUES, names=np.array(["a", "b"]))
    np.savez_compressed(tmp_path / "b.npz", x=VALUES)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/x"] = VALUES
        file["names"] = np.array(["a", "ß"], dtype=object)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "key", "kind"), [("a.npy", "", "npy"), ("a.npz", "x", "npz"), ("b.npz", "x", "npz"), ("a.h5", "group/x", "hdf5")]
)
def test_headers_say_what_is_there_and_values_come_when_wanted(files, name, key, kind):
    file = files / name
    assert kind_of(file) == kind
    assert headers(file)[key] == ((3, 4), np.float64)
    np.testing.assert_array_equal(load(file, key), VALUES)
    array = open_array(file, key, dtype=np.float32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[1:, 2].compute(), VALUES[1:, 2])


def test_labels_are_strings(files):
    assert load(files / "a.npz", "names").tolist() == ["a", "b"]
    assert load(files / "a.h5", "names").tolist() == ["a", "ß"]


def test_what_is_not_finite_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.where(VALUES == 6, np.inf, VALUES))
    with pytest.raises(FormatError, match=r"\(1, 2\): neuroid 2"):
        open_array(tmp_path / "a.npz", "x", finite_axis=1).compute()


def test_headers_of_large_files_are_cheap(tmp_path, bytes_read):
    np.savez(tmp_path / "a.npz", x=np.zeros((1000, 1000)))
    assert bytes_read(headers, tmp_path / "a.npz") < 30_000


def test_other_files(tmp_path):
    (tmp_path / "a.txt").write_text("no array")
    with pytest.raises(FormatError, match=r"a.txt' starts with b'no array'. Expected an npy, npz or HDF5 file"):
        headers(tmp_path / "a.txt")
    assert (kind_of(tmp_path / "a.txt"), kind_of(tmp_path), kind_of(3)) == ("", "", "")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("word/document.xml", "x")
    with pytest.raises(FormatError, match=r"a zip file that holds 'word/document.xml'"):
        headers(tmp_path / "a.zip")
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match=r"a.npz:x.npy' holds pickled"):
        headers(tmp_path / "a.npz")


def test_a_zip_that_promises_more_than_it_can_hold(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(100))
    whole = (tmp_path / "a.npz").read_bytes()
    at = whole.index(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    (tmp_path / "a.npz").write_bytes(whole[:at] + (2**31).to_bytes(4, "little") + whole[at + 4 :])
    with pytest.raises(FormatError, match=r"promises 2147483648 bytes of 'x.npy' in \d+"):
        headers(tmp_path / "a.npz")
