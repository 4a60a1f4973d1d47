import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.protocols import PresentationStep
from brainalign.core.provenance import provenance
from brainalign.core.tables import presentation_table


def recording(values, onset, run, **labels):
    values = np.asarray(values, dtype=np.float32)
    ids = [f"{r}/{t:g}" for r, t in zip(run, onset, strict=True)]
    return ba.responses(
        values,
        stimulus_id=ids,
        neuroid_id=[f"u{i}" for i in range(values.shape[1])],
        modality="ann",
        system="net",
        presentation={"onset_s": onset, "run": run, **labels},
    )


def test_huth_delays_by_hand_in_two_runs():
    x = recording(np.arange(1, 9)[:, None], np.tile(np.arange(4) * 2.0, 2), ["a"] * 4 + ["b"] * 4)
    late = ba.Delay([0, 2, 4, -2]).fit_transform(x)
    assert late.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert late.values[:, 1].tolist() == [0, 1, 2, 3, 0, 5, 6, 7]
    assert late.values[:, 2].tolist() == [0, 0, 1, 2, 0, 0, 5, 6]
    assert late.values[:, 3].tolist() == [2, 3, 4, 0, 6, 7, 8, 0]


def test_first_row_of_each_run_is_all_zeros_for_positive_delays():
    n_runs, n_rows, n_delays = 10, 12, 4
    x = recording(
        np.random.default_rng(0).normal(size=(n_runs * n_rows, 3)) + 5,
        np.tile(np.arange(n_rows) * 2.0, n_runs),
        np.repeat([f"r{i}" for i in range(n_runs)], n_rows),
    )
    late = ba.Delay([2, 4, 6, 8]).fit_transform(x).values.reshape(n_runs, n_rows, n_delays * 3)
    assert (late[:, 0] == 0).all()
    assert (late[:, n_delays] != 0).all()


def test_rows_need_not_be_sorted_and_missing_rows_give_zeros():
    x = recording(np.arange(1, 7)[:, None], np.arange(6) * 1.5, ["a"] * 6)
    late = ba.Delay([1.5, -3]).fit_transform(x)
    order = np.random.default_rng(1).permutation(6)
    np.testing.assert_array_equal(ba.Delay([1.5, -3]).fit_transform(x[order]).values, late.values[order])
    gap = ba.Delay([1.5]).fit_transform(x[[0, 1, 3, 4, 5]])
    assert gap.values.ravel().tolist() == [0, 1, 0, 4, 5]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(-4, 4), st.randoms(use_true_random=False))
def test_no_value_ever_crosses_a_run(lengths, steps, random):
    run = np.repeat(np.arange(len(lengths)), lengths)
    onset = np.concatenate([np.arange(n) * 2.0 for n in lengths])
    rows = list(range(len(run)))
    random.shuffle(rows)
    x = recording(np.ones((len(run), 1)), onset[rows], run[rows].astype(str))
    if max(lengths) == 1:
        with pytest.raises(ParameterError, match="no two of them in one run"):
            ba.Delay([2.0 * steps]).mixing(presentation_table(x))
        return
    (matrix,) = ba.Delay([2.0 * steps]).mixing(presentation_table(x))
    row, column = matrix.nonzero()
    assert (run[rows][row] == run[rows][column]).all()
    np.testing.assert_allclose(onset[rows][row] - onset[rows][column], 2.0 * steps)
    assert len(row) == sum(max(0, n - abs(steps)) for n in lengths)


def test_labels_name_each_delay_and_stay_valid():
    x = recording(np.ones((3, 2)), [0.0, 2.0, 4.0], ["a"] * 3)
    late = ba.validate(ba.Delay([2, 4.0, -2]).fit_transform(x), deep=True)
    assert late.neuroid_id.values.tolist() == ["u0@+2s", "u1@+2s", "u0@+4s", "u1@+4s", "u0@-2s", "u1@-2s"]
    assert late.delay_s.values.tolist() == [2, 2, 4, 4, -2, -2]
    assert late.system.values.tolist() == ["net"] * 6
    assert late.stimulus_id.values.tolist() == x.stimulus_id.values.tolist()
    twice = ba.Delay([2]).fit_transform(late)
    assert twice.delay_s.values.tolist() == [4, 4, 6, 6, 0, 0]
    assert provenance(late).steps[-1]["params"] == {"delays_s": [2, 4.0, -2]}


def test_integer_names_become_strings():
    assert ba.Delay([1]).labels({"neuroid_id": np.arange(2)})["neuroid_id"].tolist() == ["0@+1s", "1@+1s"]


def test_delay_between_samples_names_the_nearest_multiples():
    x = recording(np.ones((3, 1)), [0.0, 1.5, 3.0], ["a"] * 3)
    with pytest.raises(ParameterError, match=r"2 s, no multiple of the sampling interval 1.5 s. Expected 1.5 or 3"):
        ba.Delay([1.5, 2]).fit_transform(x)
    with pytest.raises(ParameterError, match="-1 s, no multiple"):
        ba.Delay([-1]).fit_transform(x)


@pytest.mark.parametrize("delays", [[], 2, "2", [2, 2.0], [np.nan], ["2"]])
def test_impossible_delays(delays):
    x = recording(np.ones((3, 1)), [0.0, 2.0, 4.0], ["a"] * 3)
    with pytest.raises(ParameterError, match="'delays_s' parameter of Delay"):
        ba.Delay(delays)
    with pytest.raises(ParameterError, match="'delays_s' parameter of Delay"):
        ba.Delay([2]).set_params(delays_s=delays).fit_transform(x)


def test_needs_onsets_and_regular_rows():
    x = recording(np.ones((4, 1)), [0.0, 0.2, 0.9, 1.1], ["a"] * 4)
    with pytest.raises(ParameterError, match="not regularly sampled"):
        ba.Delay([0.2]).fit_transform(x)
    with pytest.raises(SchemaError, match="Delay needs the time of every row"):
        ba.Delay([2]).fit_transform(x.drop_vars("onset_s"))


def test_reach_clone_and_protocol():
    step = ba.Delay(np.array([2, 8, -4]))
    assert step.reach_s == (8.0, 4.0)
    assert ba.Delay([2]).reach_s == (2.0, 0.0)
    assert isinstance(step, PresentationStep)
    assert not step.retimes
    copy = clone(ba.Delay([1, 2]))
    assert copy.get_params() == {"delays_s": [1, 2]}


def test_a_hundred_thousand_rows_in_scrambled_order():
    n = 100_000
    run, onset = np.repeat(np.arange(20), n // 20), np.tile(np.arange(n // 20) * 0.8, 20)
    order = np.random.default_rng(0).permutation(n)
    x = recording(order[:, None], onset[order], run[order].astype(str))
    late = ba.Delay([0.8]).fit_transform(x).values.ravel()
    wanted = np.where(onset > 0, np.arange(n) - 1, 0)
    np.testing.assert_array_equal(late, wanted[order])
