import numpy as np
import pytest

import brainalign as ba
from brainalign.reports import check, findings


def recording(values, modality="fmri", **options):
    n_rows, n_neuroids = values.shape
    return ba.responses(
        values, stimulus_id=np.arange(n_rows), neuroid_id=np.arange(n_neuroids), modality=modality, system="s", **options
    )


@pytest.mark.parametrize(
    ("what", "modality", "values"),
    [
        ("rectified units", "ann", np.maximum(np.random.default_rng(0).normal(size=(300, 4)), 0)),
        ("volumes of a scanner", "fmri", np.random.default_rng(0).normal(900, 40, size=(300, 4)).round()),
        ("one presentation", "fmri", np.ones((1, 4))),
        ("coarse integers", "fmri", np.random.default_rng(0).normal(500, 3, size=(300, 4)).round()),
        ("answers on a scale", "behaviour", np.random.default_rng(0).choice([1.0, 4.0, 7.0], p=[0.2, 0.6, 0.2], size=(300, 4))),
        ("few counts", "spikes", np.random.default_rng(0).poisson(0.3, size=(300, 4))),
    ],
)
def test_what_is_natural_is_not_called_clipped_or_copied(what, modality, values):
    assert findings(check(recording(values, modality)))["check"].tolist() == [], what


def test_the_spacing_of_events_is_the_design():
    onsets = np.r_[np.arange(20) * 3.0, 70 + np.arange(20) * 3.0]
    values = np.random.default_rng(0).normal(size=(40, 4))
    labels = {"neuroid_id": np.arange(4), "modality": "fmri", "system": "s", "onset_s": onsets}
    assert findings(check(ba.responses(values, stimulus_id=np.arange(40), **labels)))["check"].tolist() == ["irregular spacing"]
    assert findings(check(ba.responses(values, stimulus_id=np.arange(40) // 2, **labels))).empty
    assert findings(check(ba.responses(values[..., None], stimulus_id=np.arange(40), time=[0.0], **labels))).empty


@pytest.mark.real
def test_the_constant_region_of_a_real_recording(shared_data):
    folder = shared_data("alice-fmri-roi") / "10mm"
    options = {"tr_s": 2.0, "regions": ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]}
    spoilt = ba.open_responses(folder / "s33-timecourses.txt", system="s33", **options)
    constant = (np.ptp(spoilt.values, axis=0) == 0).sum()
    (row,) = findings(check(spoilt)).itertuples()
    assert (row.check, row.n) == ("constant neuroids", constant)
    assert findings(check(ba.open_responses(folder / "s18-timecourses.txt", system="s18", **options))).empty
