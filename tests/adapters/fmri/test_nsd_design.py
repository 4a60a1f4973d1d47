import numpy as np
import pytest
from scipy.io import savemat

from brainalign.adapters.fmri.nsd_design import TRIALS, read_design
from brainalign.core.errors import FormatError


@pytest.fixture
def design(tmp_path):
    """Ten images a subject; trial t shows the image t % 10 of the subject, and the subjects share the first three."""
    images = np.array([[13, 14, 15, *range(100 * s, 100 * s + 7)] for s in (1, 2)])
    content = {"subjectim": images, "masterordering": np.tile(np.arange(1, 11), 150)[None], "sharedix": np.array([[13, 14, 15]])}

    def write(**changes):
        savemat(tmp_path / "nsd_expdesign.mat", content | changes)
        return tmp_path / "nsd_expdesign.mat"

    return write


def test_trials_show_what_the_design_says(design):
    ids, shared = read_design(design(), 2, [1, 2])
    assert len(ids) == 2 * TRIALS
    # image 13 counted from 1 is 00012 counted from 0, the index into nsd_stimuli.hdf5
    assert ids[:5] == ["nsd-00012", "nsd-00013", "nsd-00014", "nsd-00199", "nsd-00200"]
    np.testing.assert_array_equal(shared[:10], [True] * 3 + [False] * 7)
    assert read_design(design(), 1, [1])[0][3] == "nsd-00099"


def test_a_later_session_starts_where_the_earlier_ones_end(design):
    order = np.concatenate([np.full(TRIALS, 1), np.full(TRIALS, 5)])[None]
    ids, _ = read_design(design(masterordering=order), 1, [2])
    assert set(ids) == {"nsd-00100"}


def test_indices_that_count_from_0_and_other_designs_are_refused(design):
    with pytest.raises(FormatError, match=r"'masterordering' from 0 to 9\. Expected 1 to 10: NSD counts from 1"):
        read_design(design(masterordering=np.tile(np.arange(10), 150)[None]), 1, [1])
    with pytest.raises(FormatError, match=r"'subjectim' from 0"):
        read_design(design(subjectim=np.arange(20).reshape(2, 10)), 1, [1])
    with pytest.raises(FormatError, match=r"'sharedix' of dtype float64 .* whole numbers, from 1"):
        read_design(design(sharedix=np.array([[1.5]])), 1, [1])
    with pytest.raises(FormatError, match="at least 3 subjects"):
        read_design(design(), 3, [1])
    with pytest.raises(FormatError, match=r"2 sessions of 750\. Expected session 3"):
        read_design(design(), 1, [3])
    other = design().parent / "other.mat"
    savemat(other, {"subjectim": np.ones((2, 10)), "masterordering": np.ones((1, 1500))})
    with pytest.raises(FormatError, match="no field 'sharedix'"):
        read_design(other, 1, [1])
