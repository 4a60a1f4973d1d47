import gzip
import struct

import pytest

from brainalign.adapters.meeg.fif import is_fif, what_it_holds, whole_fif
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
