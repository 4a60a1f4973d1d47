import io
import pickle

import numpy as np
import pytest

from brainalign.adapters.pickled import is_pickled, read_pickled
from brainalign.core.errors import FormatError, ParameterError

HELD = {
    "values": np.arange(24.0).reshape(2, 3, 4), "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big": np.arange(3, dtype=">f4"), "names": ["Pz", "Oz"], "text": np.array(["a", "bc"]), "objects": np.array(["x", None], dtype=object),
    "scalar": np.float32(0.5), "nested": ({"a": [1, 2.5, True, b"bytes"]},), "empty": np.empty((0, 3)),
}  # fmt: skip


class RunsCode:
    def __reduce__(self):
        return eval, ("__import__('os').getpid()",)


def same(got, wanted):
    if isinstance(wanted, np.ndarray):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    else:
        assert got == wanted


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["npy", "bare"])
def test_arrays_come_back_as_they_were(tmp_path, protocol, form):
    file = tmp_path / "a.npy"
    with file.open("wb") as opened:
        if form == "npy":
            header = {"descr": "|O", "fortran_order": False, "shape": ()}
            np.lib.format.write_array_header_1_0(opened, header)
            pickle.dump(np.array(HELD, dtype=object), opened, protocol=protocol)
        else:
            pickle.dump(HELD, opened, protocol=protocol)
    assert is_pickled(file)
    found = read_pickled(file, unpickle=True)
    assert list(found) == list(HELD)
    for name, value in HELD.items():
        same(found[name], value)


def test_what_numpy_saves_today_is_read(tmp_path):
    np.save(tmp_path / "a.npy", HELD)
    found = read_pickled(tmp_path / "a.npy", unpickle=True)
    assert list(found) == list(HELD)
    same(found["values"], HELD["values"])


def test_nothing_is_loaded_unless_asked(tmp_path):
    np.save(tmp_path / "a.npy", HELD)
    with pytest.raises(ParameterError, match=r"a\.npy' holds pickled Python objects, which can run code.*pass `unpickle=True`"):
        read_pickled(tmp_path / "a.npy", unpickle=False)
    np.save(tmp_path / "b.npy", np.zeros(3))
    assert not is_pickled(tmp_path / "b.npy")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_refused_by_name(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"values": RunsCode()}, protocol=protocol))
    with pytest.raises(FormatError, match=r"asks for (builtins|__builtin__)\.eval, which is no part of an array"):
        read_pickled(tmp_path / "a.pkl", unpickle=True)


def evil(*opcodes):
    return b"\x80\x02" + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (evil(b"cnumpy\nload\n"), "asks for numpy.load"),
        (evil(b"cnumpy.testing._private.utils\nrunstring\n"), "asks for numpy.testing"),
        (evil(b"cnumpy\nndarray.tofile\n"), "asks for numpy.ndarray.tofile"),
        (evil(b"cnumpy\nndarray\n", b"(K\x05tR"), "a call of numpy.ndarray"),
        (evil(b"c_codecs\nencode\n", b"(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR"), "encoding 'rot13'"),
        (evil(b"c__builtin__\nbytes\n", b"(J\xff\xff\xff\x7ftR"), "TypeError"),
        (evil(b"X\x01\x00\x00\x00aQ"), "refers to the object 'a'"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.", r"promises more|could not be read"),
    ],
)
def test_tricks_are_refused(tmp_path, stream, message):
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(FormatError, match=message):
        read_pickled(tmp_path / "a.pkl", unpickle=True)


@pytest.mark.parametrize("wrong", [np.zeros(2, dtype="M8[s]"), np.zeros(2, dtype=[("a", "f4")])], ids=["time", "structured"])
def test_other_dtypes_are_named(tmp_path, wrong):
    np.save(tmp_path / "a.npy", {"values": wrong})
    with pytest.raises(FormatError, match="dtype"):
        read_pickled(tmp_path / "a.npy", unpickle=True)


def test_a_stream_cannot_change_the_reader(tmp_path):
    (tmp_path / "a.pkl").write_bytes(evil(b"c_codecs\nencode\n", b"N}X\x0c\x00\x00\x00__defaults__)s\x86b"))
    read_pickled(tmp_path / "a.pkl", unpickle=True)
    (tmp_path / "b.pkl").write_bytes(evil(b"c_codecs\nencode\n", b"(X\x01\x00\x00\x00atR"))
    assert read_pickled(tmp_path / "b.pkl", unpickle=True) == b"a"


def test_lists_of_lists_are_built_once(tmp_path):
    bomb = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(bomb))
    found = read_pickled(tmp_path / "a.pkl", unpickle=True)
    assert found[0] is found[1]


def test_damage_is_survived(tmp_path, survives_damage):
    file = tmp_path / "a.npy"
    buffer = io.BytesIO()
    np.save(buffer, HELD)
    file.write_bytes(buffer.getvalue())
    assert survives_damage(file, lambda: read_pickled(file, unpickle=True), header=400, examples=150)
