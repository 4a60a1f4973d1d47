import numpy as np

import brainalign as ba
from brainalign.reports import check
from brainalign.reports.datafigures import pictures, spread


def test_each_kind_of_finding_has_a_picture_that_can_be_drawn(tmp_path):
    x = ba.simulate(n_stimuli=20, random_state=0).bold.copy(deep=True).assign_attrs(allow_nan=True)
    x.values[:, 0], x.values[3, 1], x.values[:, 3] = 2.0, np.nan, x.values[:, 2]
    drawn = dict(pictures(check(x)))
    assert len(drawn) == 5
    for number, figure in enumerate(drawn.values()):
        figure.savefig(tmp_path / f"{number}.png")
    labels = [text.get_text() for text in spread(check(x)).axes[0].get_legend().get_texts()]
    assert labels == ["ok (87)", "constant (1)", "not finite (1)", "duplicate (1)"]


def test_without_values_there_is_no_picture():
    x = ba.simulate(n_stimuli=20, random_state=0).fmri
    assert list(pictures(check(x.drop_vars("stimulus_id")))) == []
    assert len(dict(pictures(check(x)))) == 4  # no onsets
    dead = x.copy(data=np.zeros(x.shape, "f4"))
    assert len(dict(pictures(check(dead)))) == 4
