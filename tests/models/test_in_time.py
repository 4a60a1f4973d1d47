import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.models.in_time import as_rows, runs_in_time


def test_trials_become_runs_of_rows():
    x = ba.responses(np.arange(24.0).reshape(2, 3, 4), stimulus_id=["a", "b"], neuroid_id=range(3), time=np.arange(4) / 10, modality="meg",
                     system="s")  # fmt: skip
    rows = as_rows(x)
    assert rows.shape == (8, 3)
    np.testing.assert_array_equal(rows.values[4:], x.values[1].T)
    runs, interval = runs_in_time(rows, None, owner="it")
    assert interval == pytest.approx(0.1)
    assert [(r.tolist(), s.tolist()) for r, s in runs] == [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [0, 1, 2, 3])]
    plain = np.zeros((5, 2))
    assert as_rows(plain) is plain


def test_rows_need_a_regular_time():
    assert runs_in_time(np.zeros((5, 2)), 10.0, owner="it")[1] == pytest.approx(0.1)
    with pytest.raises(SchemaError, match="it needs the time of every row"):
        runs_in_time(np.zeros((5, 2)), None, owner="it")
    x = ba.responses(np.zeros((3, 1)), stimulus_id=list("abc"), neuroid_id=[0], modality="meg", system="s", onset_s=[0.0, 1.0, 2.0],
                     run=["1", "1", "2"])  # fmt: skip
    assert [s.tolist() for _, s in runs_in_time(x, None, owner="it")[0]] == [[0, 1], [0]]
    two = ba.responses(np.zeros((4, 1)), stimulus_id=list("abcd"), neuroid_id=[0], modality="meg", system="s", run=list("1122"),
                       onset_s=[0.0, 1.0, 0.0, 3.0])  # fmt: skip
    with pytest.raises(ParameterError, match="it got intervals from 1 to 3 s"):
        runs_in_time(two, None, owner="it")
