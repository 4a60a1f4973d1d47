import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.fmri.tuckute import adapter, open_tuckute
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

PEOPLE, ROIS, ITEMS = ["848", "853"], ["lang_LH_netw", "lang_LH_IFG"], ["17", "3", "205"]
SENTENCES = {"17": "I'm progressing, said he.", "3": "We were young!", "205": "Turin loves me not."}


def rows():
    """Return the long table of two people (simulated values): the value tells person, item and region."""
    return [
        {"target_UID": person, "item_id": item, "sentence": SENTENCES[item], "cond": "B", "cond_approach": "B", "roi": roi,
         "response_target": 100 * p + 10 * i + r, "rating_frequency_mean": 4.2}
        for i, item in enumerate(ITEMS) for r, roi in enumerate(ROIS) for p, person in enumerate(PEOPLE)
    ]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(table=None, *, index=False):
        pd.DataFrame(rows() if table is None else table).to_csv(tmp_path / "brain-lang-data_participant.csv", index=index)
        return tmp_path / "brain-lang-data_participant.csv"

    return write


@pytest.mark.parametrize("index", [False, True])
def test_a_long_table_becomes_sentences_by_regions_of_people(write, index):
    x = ba.open_responses(write(index=index))
    assert x.shape == (3, 4)
    assert x.stimulus_id.values.tolist() == ITEMS
    assert x.sentence.values.tolist() == [SENTENCES[item] for item in ITEMS]
    for p, person in enumerate(PEOPLE):
        for r, roi in enumerate(ROIS):
            found = x[:, (x.system.values == person) & (x.region.values == roi)]
            np.testing.assert_array_equal(found.values[:, 0], 100 * p + 10 * np.arange(3) + r)
    assert (x.attrs["units"], x.cond.values.tolist()) == ("z", ["B"] * 3)
    ba.validate(x, deep=True)


def by_label(x):
    labels = [(item, *who) for item in x.stimulus_id.values for who in zip(x.system.values, x.region.values, strict=True)]
    return dict(zip(labels, x.values.ravel().tolist(), strict=True))


def test_rows_may_come_in_any_order(write):
    assert by_label(open_tuckute(write(rows()[::-1]))) == by_label(open_tuckute(write()))


def test_people_and_regions_are_chosen(write):
    x = open_tuckute(write(), subject="853", region="lang_LH_IFG")
    np.testing.assert_array_equal(x.values[:, 0], [101, 111, 121])
    assert x.subject.values.tolist() == ["853"] * 3
    with pytest.raises(ParameterError, match=r"no '85' in 'target_UID'. It has '848', '853'"):
        open_tuckute(write(), subject="85")


def test_people_who_read_other_sentences_are_not_stacked(write):
    table = [row for row in rows() if not (row["target_UID"] == "853" and row["item_id"] == "3")]
    with pytest.raises(ParameterError, match=r"'853' read 2 sentences and '848' 3, 2 of them the same.*`subject=`"):
        open_tuckute(write(table))
    assert open_tuckute(write(table), subject="853").shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: pd.DataFrame(t)[:0], "a header and no rows"),
        (lambda t: [*t, t[0]], r"1 rows twice, first \('848', '17', 'lang_LH_netw'\)"),
        (lambda t: t[:-1], r"no row for 1 of 12 combinations, first item '205' of \('853', 'lang_LH_IFG'\)"),
        (lambda t: [{**row, "sentence": f"{n}"} for n, row in enumerate(t)], "several sentences for the items '17'"),
        (lambda t: [{k: v for k, v in row.items() if k != "roi"} for row in t], "no column 'roi'"),
        (lambda t: [{**t[0], "response_target": "high"}, *t[1:]], "'high' in row 0 of column 'response_target'"),
        (lambda t: [{**t[0], "response_target": ""}, *t[1:]], "1 values that are NaN .* row 0 of '848/lang_LH_netw'"),
    ],
)
def test_tables_that_are_damaged(write, change, said):
    with pytest.raises(FormatError, match=said):
        open_tuckute(write(change(rows())))


def test_no_other_format_takes_it(write):
    file = write()
    assert "target_UID" in adapter.matches(file)
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(file)] == ["tuckute"]


def test_damage(write, survives_damage):
    file = write()
    assert survives_damage(file, lambda: open_tuckute(file), examples=40, header=200)
