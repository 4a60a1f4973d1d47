import numpy as np
import pytest

from brainalign.adapters.meeg import headers
from brainalign.core.errors import FormatError


def test_each_maker_is_known_by_content(tmp_path, write):
    write.brainvision(tmp_path / "a.vhdr")
    write.edf(tmp_path / "a.edf")
    write.edf(tmp_path / "a.bdf", bdf=True)
    write.ctf(tmp_path / "a.ds")
    write.kit(tmp_path / "a.sqd")
    write.bti(tmp_path / "bti")
    (tmp_path / "empty").mkdir()
    tests = {
        "brainvision": headers.is_brainvision,
        "edf": headers.is_edf,
        "ctf": headers.is_ctf,
        "kit": headers.is_kit,
        "bti": headers.bti_data,
    }
    known = {path.name: [name for name, test in tests.items() if test(path)] for path in tmp_path.iterdir()}
    assert known == {
        "a.vhdr": ["brainvision"], "a.eeg": [], "a.vmrk": [], "a.edf": ["edf"], "a.bdf": ["edf"], "a.ds": ["ctf"], "a.sqd": ["kit"], "bti": ["bti"],
        "empty": [],
    }  # fmt: skip


def test_brainvision_companions_are_named(tmp_path, write):
    file = tmp_path / "a.vhdr"
    write.brainvision(file)
    headers.check_brainvision(file)
    for end, what in ((".eeg", "data file 'a.eeg'"), (".vmrk", "marker file 'a.vmrk'")):
        companion = file.with_suffix(end)
        companion.rename(tmp_path / "moved")
        with pytest.raises(FormatError, match=rf"names the {what}, which is not in"):
            headers.check_brainvision(file)
        (tmp_path / "moved").rename(companion)
    file.write_text(file.read_text(encoding="utf-8").replace("DataFile=a.eeg", "DataFile=../a.eeg"), encoding="utf-8")
    with pytest.raises(FormatError, match="outside its folder"):
        headers.check_brainvision(file)


@pytest.mark.parametrize(("points", "cut", "message"), [
    (False, 3, r"397 bytes; 'a.vhdr' promises a multiple of 4 \(2 channels\)"),
    (True, 40, r"360 bytes; 'a.vhdr' promises 400 \(100 samples of 2 channels\)"),
    (False, 240, r"marker at sample 51 \(1-based\); 'a.eeg' holds 40"),
])  # fmt: skip
def test_truncated_brainvision_is_named(tmp_path, write, points, cut, message):
    file = tmp_path / "a.vhdr"
    write.brainvision(file, points=points)
    data = file.with_suffix(".eeg")
    data.write_bytes(data.read_bytes()[:-cut])
    with pytest.raises(FormatError, match=message):
        headers.check_brainvision(file)


@pytest.mark.parametrize("bdf", [False, True])
def test_edf_headers(tmp_path, write, bdf):
    file = tmp_path / "a.edf"
    write.edf(file, bdf=bdf)
    assert headers.check_edf(file) == ["Temp"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(
        FormatError, match=rf"has {len(whole) - 1} bytes; its header promises {len(whole)} \(4 records of 150 samples\)"
    ):
        headers.check_edf(file)
    file.write_bytes(whole[:700])
    with pytest.raises(FormatError, match="700 bytes and a header of 1024 for 3 channels"):
        headers.check_edf(file)
    write.edf(file, bdf=bdf, kind="BDF+D" if bdf else "EDF+D")
    with pytest.raises(FormatError, match=r"discontinuous \(.DF\+D\)"):
        headers.check_edf(file)
    write.edf(file, bdf=bdf, rates=(50, 25, 50))
    with pytest.raises(FormatError, match=r"1 of 3 channels at a lower sampling rate: 'Oz'"):
        headers.check_edf(file)


def test_nanovolts_are_no_volts(tmp_path, write):
    """MNE takes a unit that it does not know for volts."""
    write.edf(tmp_path / "a.edf", units=("nV", "uV", ""))
    assert headers.check_edf(tmp_path / "a.edf") == ["Pz", "Temp"]


def test_ctf_sizes(tmp_path, write):
    folder = tmp_path / "a.ds"
    write.ctf(folder)
    headers.check_ctf(folder)
    data = folder / "a.meg4"
    whole = data.read_bytes()
    data.write_bytes(whole[:-4])
    with pytest.raises(
        FormatError, match=r"holds 796 bytes of values; its header promises 800 \(2 trials of 20 samples of 5 channels\)"
    ):
        headers.check_ctf(folder)
    data.unlink()
    with pytest.raises(FormatError, match=r"has no .meg4 file"):
        headers.check_ctf(folder)
    data.write_bytes(whole)
    (folder / "a.res4").write_bytes((folder / "a.res4").read_bytes()[:800])
    with pytest.raises(FormatError, match=r"has 800 bytes. Expected a whole header"):
        headers.check_ctf(folder)


def test_random_bytes_are_no_recording(tmp_path, write):
    rng = np.random.default_rng(0)
    for i in range(200):
        file = tmp_path / f"{i}"
        file.write_bytes(rng.bytes(2000))
        assert not any(known(file) for known in (headers.is_kit, headers.is_edf, headers.is_brainvision))
