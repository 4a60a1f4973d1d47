import re
import resource
from pathlib import Path
from threading import Thread

import h5py
import numpy as np
import pytest

import brainalign.adapters as adapters_package
from brainalign.adapters.hdf5 import _Checked, attributes, check_stored, hdf5_file, members, open_hdf5, whole_chunks
from brainalign.core.errors import FormatError

VALUES = np.arange(6 * 50 * 40, dtype=np.float32).reshape(6, 50, 40)


def test_a_block_reads_its_own_chunks(tmp_path, bytes_read):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((2000, 500), dtype=np.float32), chunks=(100, 50))
    stored = open_hdf5(tmp_path / "a.h5", "x")
    assert bytes_read(stored[:, 7:9].compute) < 2000 * 50 * 4 + 60_000


def test_what_is_no_array_of_numbers(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/betas"] = VALUES
        file["text"] = "no numbers"
    for key, said in (("group", "a group"), ("beta", "nothing"), ("text", "numbers")):
        with pytest.raises(FormatError, match=said):
            open_hdf5(tmp_path / "a.h5", key)


def test_chunks_are_whole_chunks_of_the_file():
    assert whole_chunks((1000, 700), (10, 70), 4) == (1000, 700)
    assert whole_chunks((10**6, 10**4), (100, 10), 4) == (400, 10**4)
    assert whole_chunks((10, 10), None, 4) == (10, 10)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_dataset_that_was_never_written_is_refused(tmp_path, compression):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(10**7, 10**6), chunks=(100, 100), dtype=np.float32, compression=compression)
    with pytest.raises(FormatError, match=r"holds 0 bytes at '/x'; its header promises 40000000000000"):
        open_hdf5(tmp_path / "a.h5", "x")


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = VALUES
    layout = h5py.VirtualLayout(shape=VALUES.shape, dtype=VALUES.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", shape=VALUES.shape)
    (tmp_path / "raw.bin").write_bytes(bytes(24))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(tmp_path / "other.h5", "x")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", shape=(3,), dtype=np.float64, external=[(str(tmp_path / "raw.bin"), 0, 24)])
    for key in ("link", "virtual", "raw"):
        with pytest.raises(FormatError, match=r"a.h5' (keeps the values of .* in|links to) another file"):
            open_hdf5(tmp_path / "a.h5", key)


def strings(path):
    with h5py.File(path, "w") as file:
        file["names"] = [f"neuron {number}" for number in range(300)]
        file["names"].attrs["note"] = "x" * 9000
    return path


def test_heaps_of_strings_are_walked_before_hdf5_sees_them(tmp_path):
    whole = strings(tmp_path / "a.h5").read_bytes()
    heap = whole.index(b"GCOL")
    assert int.from_bytes(whole[heap + 8 : heap + 16], "little") > 4096  # of a large heap, HDF5 reads as much first
    for damage, says in (
        (bytes(16), "an object of 0 bytes in a heap with"),
        (b"\1" + bytes(7) + b"\xf8" + b"\xff" * 7, "an object of 18446744073709551608 bytes in"),
    ):
        (tmp_path / "a.h5").write_bytes(whole[: heap + 16] + damage + whole[heap + 32 :])
        with _Checked(tmp_path / "a.h5") as file:
            file.seek(heap)
            with pytest.raises(FormatError, match=rf"strings: at byte {heap + 16}, {says}"):
                file.readinto(bytearray(4096))


def test_damaged_strings_and_groups_never_hang(tmp_path, hdf5_survives_damage):
    file = strings(tmp_path / "ä.h5")

    def read():
        with hdf5_file(file) as opened:
            for name in opened:
                check_stored(opened[name], file)
                opened[name].asstr()[()]
                dict(attributes(opened[name]))

    assert hdf5_survives_damage(file, read) > 50


@pytest.mark.parametrize("chunks", [None, (7,)])
def test_a_string_longer_than_its_file_is_refused_before_memory_is_set_aside(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        text = file.create_dataset("names", data=["neuron"] * 20, dtype=h5py.string_dtype(), chunks=chunks)
        file["references"] = np.array([text.ref] * 20, dtype=h5py.ref_dtype)
    whole = (tmp_path / "a.h5").read_bytes()
    heap = whole.index(b"GCOL") - 512
    lengths = whole.index((6).to_bytes(4, "little") + heap.to_bytes(8, "little"))
    for damaged in (False, True):
        if damaged:
            (tmp_path / "a.h5").write_bytes(whole[: lengths + 3] + b"\xd6" + whole[lengths + 4 :])
        with hdf5_file(tmp_path / "a.h5") as file:
            check_stored(file["references"], tmp_path / "a.h5")
            if damaged:
                with pytest.raises(FormatError, match=r"holds a string of 3590324230 bytes at '/names'"):
                    check_stored(file["names"], tmp_path / "a.h5")
            else:
                check_stored(file["names"], tmp_path / "a.h5")


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("userblock_size", [0, 512])
@pytest.mark.parametrize("n_others", [0, 12])  # with others, the header goes on elsewhere
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_string_of_an_attribute_longer_than_its_file_is_refused_before_memory_is_set_aside(
    tmp_path, userblock_size, n_others, libver
):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock_size, libver=libver) as file:
        file.create_group("x").attrs.update({f"other {number}": np.arange(5.0) for number in range(n_others)})
        file["x"].attrs["letters"] = ["a", "b", "neuron seven"]
    whole = (tmp_path / "a.h5").read_bytes()
    heap = whole.index(b"GCOL") - userblock_size
    length = whole.index((12).to_bytes(4, "little") + heap.to_bytes(8, "little"))
    with hdf5_file(tmp_path / "a.h5") as file:
        assert list(attributes(file["x"])["letters"]) == ["a", "b", "neuron seven"]
    (tmp_path / "a.h5").write_bytes(whole[: length + 3] + b"\xd6" + whole[length + 4 :])
    says = r"a string of 3590324236 bytes in an attribute of '/x'" if libver == "earliest" else "checksum"
    before = resident_bytes()
    with pytest.raises(FormatError, match=says), hdf5_file(tmp_path / "a.h5") as file:
        attributes(file["x"])["letters"]
    assert resident_bytes() - before < 2**26


def test_what_is_read_through_it_is_what_hdf5_reads(tmp_path):
    with h5py.File(strings(tmp_path / "ä.h5")) as plain, hdf5_file(tmp_path / "ä.h5") as checked:
        assert checked.filename == plain.filename
        assert checked["names"].asstr()[()].tolist() == plain["names"].asstr()[()].tolist()
        assert dict(attributes(checked["names"])) == dict(plain["names"].attrs)


def test_a_file_that_is_being_written_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = VALUES
        with pytest.raises(FormatError, match=r"a.h5' is being written"):
            open_hdf5(tmp_path / "a.h5", "x")


def test_every_reader_goes_through_it():
    adapters = Path(adapters_package.__file__).parent
    texts = {str(file.relative_to(adapters)): file.read_text() for file in adapters.rglob("*.py")}
    used = [f"{name}: {call}" for name, text in texts.items() for call in re.findall(r"h5py\.File\([^)]*\)", text)]
    assert sorted(used) == [
        'hdf5.py: h5py.File(file, "r", driver="fileobj", fileobj=raw, **options)',
        'netcdf.py: h5py.File(part, "x")',
    ]
    direct = [found for text in texts.values() if "hdf5_file" in text for found in re.findall(r"(\w+)\.attrs\.get\(", text)]
    assert set(direct) <= {"x", "variable"}  # responses, and what was read: of HDF5, it is `attributes(item)`
    groups = r"\b(?:file|group|item|node|opened|table)\.(?:items|values)\("  # what readers call them: it is `members(group)`
    assert {name for name, text in texts.items() if "hdf5" in text and re.search(groups, text)} == {"hdf5.py"}


def test_an_error_among_the_members_of_a_group_leaves_no_lock_behind(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as opened:
        opened["a"], opened["b"] = [1.0], [2.0]
    with h5py.File(tmp_path / "x.h5") as opened:
        known = None
        try:
            all(float("halfway") for _ in members(opened).values())
        except ValueError as error:
            known = error  # as an interactive session keeps it, and with it the frame that walks
        other = Thread(target=lambda: opened["a"][:], daemon=True)
        other.start()
        other.join(10)
        assert known is not None
        assert not other.is_alive()
