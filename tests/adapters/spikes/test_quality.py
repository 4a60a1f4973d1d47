import numpy as np
import pytest

from brainalign.adapters.spikes.quality import good_units, refuse_none
from brainalign.core.errors import FormatError, ParameterError

TABLE = {
    "isi_violations": np.array([0.1, 0.6, 0.0, np.nan, 0.2]),
    "presence_ratio": np.array([0.95, 0.99, 0.5, 0.99, 0.9]),
    "quality": np.array(["good", "good", "noise", "good", "good"], dtype=object),
}


def test_each_cut_says_how_many_it_left():
    cuts = {"isi_violations": "<0.5", "presence_ratio": "> 0.9", "quality": "good"}
    keep, report = good_units(TABLE, cuts, 5, "'a.nwb'")
    assert keep.tolist() == [True, False, False, False, False]  # NaN fails, and 0.9 is not above 0.9
    assert [(step["column"], step["n_left"]) for step in report] == [("isi_violations", 3), ("presence_ratio", 1), ("quality", 1)]
    assert good_units(TABLE, {"presence_ratio": ">=0.9"}, 5, "x")[0].sum() == 4
    assert good_units(TABLE, None, 5, "x")[0].all()


@pytest.mark.parametrize(
    ("cuts", "error", "says"),
    [
        ({"isi_violation": "<1"}, FormatError, r"no column 'isi_violation'.*Did you mean 'isi_violations'"),
        ({"isi_violations": "<small"}, ParameterError, "compares with 'small'"),
        ({"quality": ">0.5"}, ParameterError, "compares text"),
    ],
)
def test_cuts_that_cannot_be(cuts, error, says):
    with pytest.raises(error, match=says):
        good_units(TABLE, cuts, 5, "x")


def test_cuts_that_leave_no_unit():
    keep, report = good_units(TABLE, {"presence_ratio": ">0.9", "quality": "noise"}, 5, "x")
    assert not keep.any()
    with pytest.raises(ParameterError, match=r"none of 5 units of x: presence_ratio >0.9 \(3 left\), quality noise \(0 left\)"):
        refuse_none(report, 5, "x")
    refuse_none(report[:1], 5, "x")
    refuse_none([], 5, "x")
