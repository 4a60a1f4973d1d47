"""Three sorted units of a real NWB file: the figures of its README, and the same call in both directions."""

import numpy as np
import pytest
from h5py import File

import brainalign as ba

pytestmark = pytest.mark.real

COUNTS, RATES_HZ = [11020, 4690, 5644], [10.13, 4.32, 5.19]
SHORT, POISSON = [0.0, 0.0241, 0.0035], [0.0201, 0.0086, 0.0103]
STOP_S = 1087.5289  # the README rounds it


@pytest.fixture(scope="module")
def path(shared_data):
    return shared_data("nwb-units") / "A8604-211122.nwb"


@pytest.fixture(scope="module")
def units(path):
    """Counts in the 1087 whole seconds of the recording and what is left after them."""
    return ba.open_responses(path, system="A8604", edges_s=np.r_[np.arange(1088.0), STOP_S], recorded_s=(0, STOP_S))


@pytest.fixture(scope="module")
def times(path):
    """The spike times as h5py gives them, by unit."""
    with File(path) as file:
        return np.split(file["units/spike_times"][()], file["units/spike_times_index"][()][:-1])


def test_counts_and_rates(units, times):
    """README: 11020, 4690, 5644 spikes; 10.13, 4.32, 5.19 Hz, each from its first to its last spike."""
    assert units.n_spikes.values.tolist() == COUNTS
    assert units.sum("presentation").values.tolist() == COUNTS
    np.testing.assert_allclose(units.n_spikes / [t[-1] - t[0] for t in times], RATES_HZ, atol=0.0051)
    assert units.neuroid_id.values.tolist() == [6, 191, 206]
    assert (units.dtype, units.attrs["units"]) == (np.int32, "spikes/bin")
    assert "region" not in units.coords  # the locations of the file are empty
    ba.validate(units, deep=True)


def test_one_unit_has_a_refractory_period_and_one_has_not(path, times):
    """README: intervals under 2 ms .0000, .0241, .0035, where a Poisson train of the same rate has .0201, .0086, .0103."""
    short = np.array([(np.diff(t) < 0.002).mean() for t in times])
    np.testing.assert_allclose(short, SHORT, atol=5e-5)
    np.testing.assert_allclose([1 - np.exp(-0.002 / np.diff(t).mean()) for t in times], POISSON, atol=5e-5)
    # The same from counts: in the first minute no two spikes of unit 0 share a bin of 1 ms.
    fine = ba.open_responses(path, system="A8604", edges_s=np.arange(60_001) / 1000)
    assert fine.sum("presentation").values.tolist() == [(t < 60).sum() for t in times]
    assert fine.max("presentation").values.tolist()[:2] == [1, 2]


def test_the_epoch_with_its_ragged_tags(path):
    x = ba.open_responses(path, system="A8604", edges_s=[0.0, STOP_S], events="epochs", stimulus_column="tags")
    assert (x.stimulus_id.values.tolist(), x.onset_s.values.tolist(), x.duration_s.values.tolist()) == (["wake"], [0.0], [STOP_S])
    assert x.values[0, :, 0].tolist() == COUNTS


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"events": "trials", "stimulus_column": "image"}, r"0 tables of events named 'trials'. It has 'intervals/epochs'"),
        ({"series": "DfOverF"}, "0 series named 'DfOverF'. It has none at all"),
        ({"quality": {"isi_violations": "<0.5"}}, r"no column 'isi_violations'.* Its columns are 'location', 'group'"),
    ],
)
def test_what_the_file_has_not_is_said_with_what_it_has(path, options, says):
    with pytest.raises(ba.errors.FormatError, match=says):
        ba.open_responses(path, system="A8604", edges_s=[0.0, 1.0], **options)


def test_units_are_source_and_target_in_one_call(units):
    """One unit from the others, and the others from one: the joint drift of their rates, gone when seconds are shuffled."""
    seconds = units[:1087]
    seconds = seconds.assign_coords(run=("presentation", (seconds.onset_s.values // 109).astype(int).astype(str)))
    one, others = seconds[:, :1], seconds[:, 1:]
    folds = ba.split(seconds, by="run", n_splits=10)

    def score(source, target):
        return ba.evaluate(source, target, model=ba.Ridge(alphas=[100.0]), cv=folds, controls="none").score.values

    forth, back = score(others, one), score(one, others)
    assert (forth.shape, back.shape) == ((1,), (2,))
    order = np.random.default_rng(0).permutation(len(others))
    null = score(others.assign_coords(stimulus_id=("presentation", others.stimulus_id.values[order])), one)
    assert forth[0] > 0.25  # .320
    assert back[1] > 0.25  # .317: units 6 and 206 drift together, unit 191 does not
    assert abs(null[0]) < 0.1  # .047: 1087 seconds, a standard error of .030
