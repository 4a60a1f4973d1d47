import gzip
import struct

import pytest

from brainalign.adapters.meeg.fif import is_fif, parts, what_it_holds, whole_fif
from brainalign.core.errors import FormatError


def tag(kind, data=b"", following=0):
    return struct.pack(">iIii", kind, 31 if kind == 100 else 3, len(data), following) + data


WHOLE = tag(100, b"\0" * 20) + tag(101, struct.pack(">i", -1)) + tag(200, b"\x01" * 40) + tag(108, b"", -1)


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_every_cut_is_noticed(tmp_path, cut):
    (tmp_path / "a.fif").write_bytes(WHOLE[:cut])
    with pytest.raises(FormatError, match=r"a.fif"), whole_fif(tmp_path / "a.fif"):
        pass


def test_whole_files_pass_compressed_or_not(tmp_path):
    (tmp_path / "a.fif").write_bytes(WHOLE)
    (tmp_path / "a.fif.gz").write_bytes(gzip.compress(WHOLE))
    for name in ("a.fif", "a.fif.gz"):
        assert is_fif(tmp_path / name)
        with whole_fif(tmp_path / name) as (plain, kind):
            assert plain.read_bytes() == WHOLE
            assert kind == "nothing known"


@pytest.mark.parametrize(("blocks", "kind"), [([100, 373], "epochs"), ([100, 103, 104], "evoked"), ([100, 102], "raw")])
def test_blocks_tell_what_a_file_holds(tmp_path, blocks, kind):
    starts = b"".join(tag(104, struct.pack(">i", block)) for block in blocks)
    (tmp_path / "a.dat").write_bytes(tag(100, b"\0" * 20) + starts + tag(108, b"", -1))
    assert what_it_holds(tmp_path / "a.dat") == kind


def test_a_tag_that_points_back_is_damage_and_no_endless_loop(tmp_path):
    (tmp_path / "a.fif").write_bytes(tag(100, b"\0" * 20) + tag(200, b"", following=36))
    with pytest.raises(FormatError, match="tag at byte 36 has size 0 and points to byte 36"):
        what_it_holds(tmp_path / "a.fif")


def test_a_cut_directory_is_noticed(tmp_path):
    at = 36 + 20 + 16
    body = tag(100, b"\0" * 20) + tag(101, struct.pack(">i", at)) + tag(108, b"", -1)
    assert len(body) == at
    whole = body + tag(102, b"\x02" * 64, -1)
    (tmp_path / "a.fif").write_bytes(whole)
    what_it_holds(tmp_path / "a.fif")
    for compress in (bytes, gzip.compress):
        (tmp_path / "a.fif").write_bytes(compress(whole[:-1]))
        with pytest.raises(FormatError, match=f"ends at byte {len(whole) - 1}"), whole_fif(tmp_path / "a.fif"):
            pass


def test_other_files_are_named(tmp_path):
    (tmp_path / "a.fif").write_bytes(b"not a recording")
    assert not is_fif(tmp_path / "a.fif")
    with pytest.raises(FormatError, match="b'not a re'"), whole_fif(tmp_path / "a.fif"):
        pass


def reference(name=None, number=None):
    tags = [tag(104, struct.pack(">i", 118)), tag(115, struct.pack(">i", 2))]
    tags += [tag(118, name.encode())] if name else []
    tags += [tag(117, struct.pack(">i", number))] if number is not None else []
    return b"".join(tags) + tag(105, struct.pack(">i", 118))


@pytest.mark.parametrize("how", [{"name": "a-1.fif"}, {"number": 1}])
def test_parts_of_a_split_recording_are_found_whole_or_named(tmp_path, how):
    first = tag(100, b"\0" * 20) + tag(104, struct.pack(">i", 373)) + reference(**how) + tag(108, b"", -1)
    (tmp_path / "a.fif").write_bytes(first)
    with pytest.raises(FormatError, match=r"a.fif' goes on in 'a-1.fif', which is not another file"):
        what_it_holds(tmp_path / "a.fif")
    (tmp_path / "a-1.fif").write_bytes(WHOLE)
    assert parts(tmp_path / "a.fif") == ([tmp_path / "a.fif", tmp_path / "a-1.fif"], "epochs")
    (tmp_path / "a-1.fif").write_bytes(WHOLE[:-3])
    with pytest.raises(FormatError, match=r"'a-1.fif' ends at byte"):
        parts(tmp_path / "a.fif")
    (tmp_path / "a.fif.gz").write_bytes(gzip.compress(first))
    with pytest.raises(FormatError, match=r"compressed and goes on in 'a-1.fif'"), whole_fif(tmp_path / "a.fif.gz"):
        pass


def test_parts_lie_beside_each_other_and_end(tmp_path):
    for name in ("../b.fif", "a.fif"):
        (tmp_path / "a.fif").write_bytes(tag(100, b"\0" * 20) + reference(name) + tag(108, b"", -1))
        with pytest.raises(FormatError, match="Expected all parts"):
            parts(tmp_path / "a.fif")
