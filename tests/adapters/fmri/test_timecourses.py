import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.fmri.timecourses import adapter, open_timecourses
from brainalign.core.errors import FormatError, ParameterError

REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]


def table(path, values, header=None):
    np.savetxt(path, values, delimiter="\t", header="\t".join(header or []), comments="")
    if header is None:
        path.write_text(path.read_text().lstrip("\n"))
    return path


def test_round_trip_with_a_header(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x = open_timecourses(table(tmp_path / "t.tsv", values, ["A", "B", "C"]), tr_s=2.0, system="sub-01", first_onset_s=20.0)
    np.testing.assert_array_equal(x.values, values)
    assert list(x.region.values) == list(x.neuroid_id.values) == ["A", "B", "C"]
    np.testing.assert_allclose(x.onset_s, [20, 22, 24, 26, 28])
    assert x.stimulus_id.values[4] == "run-1/v00004"
    assert set(x.sampling_rate_hz.values) == {0.5}
    ba.validate(x, deep=True)


def test_regions_choose_columns_by_name_and_never_rename_them(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    file = table(tmp_path / "t.tsv", values, ["A", "B", "C"])
    np.testing.assert_array_equal(open_timecourses(file, tr_s=1, system="s", regions=["C", "A"]).values, values[:, [2, 0]])
    with pytest.raises(FormatError, match="no column 'X'"):
        open_timecourses(file, tr_s=1, system="s", regions=["A", "B", "X"])


def test_runs_are_named_and_start_anew(tmp_path):
    files = [table(tmp_path / f"{i}.tsv", np.ones((n, 2)) * i, ["A", "B"]) for i, n in enumerate((3, 2))]
    x = open_timecourses(files, tr_s=1.5, system="s", run=["1", "2"], subject="01")
    assert list(x.run.values) == ["1", "1", "1", "2", "2"]
    np.testing.assert_allclose(x.onset_s, [0, 1.5, 3, 0, 1.5])
    assert set(x.subject.values) == {"01"}
    with pytest.raises(ParameterError, match="one name a file, none twice"):
        open_timecourses(files, tr_s=1.5, system="s")
    with pytest.raises(ParameterError, match="none twice"):
        open_timecourses(files, tr_s=1.5, system="s", run=["1", "1"])
    named = [file.rename(tmp_path / f"sub-1_run-{run}.tsv") for file, run in zip(files, ("10", "9"), strict=True)]
    assert list(dict.fromkeys(open_timecourses(named, tr_s=1.5, system="s").run.values)) == ["10", "9"]


def test_columns_without_names_are_refused(tmp_path):
    file = table(tmp_path / "t.txt", np.ones((3, 2)))
    with pytest.raises(ParameterError, match="2 columns and no header"):
        open_timecourses(file, tr_s=2, system="s")
    with pytest.raises(ParameterError, match=r"names 3 columns.*has 2"):
        open_timecourses(file, tr_s=2, system="s", regions=["A", "B", "C"])


def test_nan_must_be_declared(tmp_path):
    (tmp_path / "t.tsv").write_text("A\tB\n1\t2\n3\tn/a\n")
    with pytest.raises(FormatError, match=r"t.tsv.*first in row 1 of 'B'"):
        open_timecourses(tmp_path / "t.tsv", tr_s=2, system="s")
    assert np.isnan(open_timecourses(tmp_path / "t.tsv", tr_s=2, system="s", allow_nan=True).values[1, 1])


def test_runs_with_other_regions_are_refused(tmp_path):
    files = [table(tmp_path / f"{name}.tsv", np.ones((2, 2)), list(name)) for name in ("AB", "BA")]
    with pytest.raises(FormatError, match="same regions in the same order"):
        open_timecourses(files, tr_s=2, system="s", run=["1", "2"])


@pytest.mark.parametrize("tr_s", [0.0, -1.0, None, np.inf, 2000.0])
def test_the_repetition_time_is_a_positive_number(tmp_path, tr_s):
    with pytest.raises(ParameterError, match="tr_s"):
        open_timecourses(table(tmp_path / "t.tsv", np.ones((2, 1)), ["A"]), tr_s=tr_s, system="s")


@pytest.mark.real
def test_alice_opens_for_all_nineteen_people(shared_data):
    files = sorted((shared_data("alice-fmri-roi") / "10mm").glob("s*-timecourses.txt"))
    assert len(files) == 19
    constant = []
    for file in files:
        assert adapter.matches(file)
        x = open_timecourses(file, tr_s=2.0, system=file.name[:3], regions=REGIONS, first_onset_s=20.0)
        assert x.shape == (362, 6)
        np.testing.assert_allclose(x.values, np.loadtxt(file), rtol=1e-6)
        if (x.values.std(axis=0) == 0).any():
            constant.append(file.name[:3])
    assert constant == ["s33"]
    assert float(x.onset_s[-1]) == 20.0 + 361 * 2.0


@pytest.mark.real
def test_other_texts_are_no_time_courses(shared_data):
    assert not adapter.matches(shared_data("haxby2001") / "sub001/BOLD/task001_run001/bold_events.tsv")
    assert not adapter.matches(shared_data("grasshopper-receptor") / "grasshopper_spike_times1.txt")
    assert not adapter.matches(shared_data("alice-fmri-roi") / "README.md")
