import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.core.errors import NullWarning, ParameterError, SchemaError
from brainalign.core.provenance import provenance
from brainalign.dataset.repeats import average_if_repeated, average_repeats, exchange_groups


def make(values, ids, **options):
    values = np.asarray(values)
    options = {"modality": "fmri", "system": "s", "neuroid_id": np.arange(values.shape[1])} | options
    return ba.responses(values, stimulus_id=list(ids), **options)


def test_rows_are_means_in_first_appearance_order():
    x = make(np.arange(10.0).reshape(5, 2), "babca")
    mean = average_repeats(x)
    assert mean.stimulus_id.values.tolist() == ["b", "a", "c"]
    assert mean.values.tolist() == [[2.0, 3.0], [5.0, 6.0], [6.0, 7.0]]
    assert mean.n_repeats.values.tolist() == [2, 2, 1]
    assert ba.validate(mean, deep=True) is mean


def test_only_coordinates_that_hold_for_every_presentation_are_kept():
    x = make(np.ones((4, 1)), "abab", run=["1", "1", "2", "2"], condition=["x", "y", "x", "y"], onset_s=[0.0, 1.0, 0.0, 2.0])
    mean = average_repeats(x)
    assert mean.condition.values.tolist() == ["x", "y"]
    assert {"run", "onset_s", "repetition"}.isdisjoint(mean.coords)


def test_a_missing_number_is_a_constant():
    x = make(np.ones((3, 1)), "aab", duration_s=[np.nan, np.nan, 1.0])
    np.testing.assert_array_equal(average_repeats(x).duration_s.values, [np.nan, 1.0])


def test_without_repeats_all_labels_stay():
    x = make(np.arange(4.0).reshape(2, 2), "ba", run=["1", "2"], onset_s=[0.5, 0.5])
    mean = average_repeats(x)
    assert mean.drop_vars("n_repeats").drop_attrs().identical(x.drop_attrs())


def test_neuroid_time_and_scalar_coordinates_stay():
    x = make(np.ones((4, 2, 3)), "aabb", time=[0.0, 0.1, 0.2], region=["V1", "V2"]).assign_coords(lab="here")
    mean = average_repeats(x)
    assert mean.dims == x.dims
    assert mean.region.values.tolist() == ["V1", "V2"]
    assert mean.time.identical(x.time)
    assert mean.lab.item() == "here"


def test_integers_become_float32_and_counts_do_not_overflow():
    x = make(np.full((4, 1), 200, dtype=np.uint8), "aaab", modality="spikes")
    mean = average_repeats(x)
    assert mean.dtype == np.float32
    assert mean.values.ravel().tolist() == [200.0, 200.0]


def test_nan_propagates_unless_it_is_declared():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 6.0], [np.nan, 8.0]])
    declared = make(values, "aabb", allow_nan=True)
    np.testing.assert_array_equal(average_repeats(declared).values, [[2.0, np.nan], [5.0, 7.0]])
    undeclared = declared.assign_attrs(allow_nan=False)
    np.testing.assert_array_equal(average_repeats(undeclared).values, [[2.0, np.nan], [np.nan, 7.0]])


def test_several_coordinates_keep_sessions_apart():
    x = make(np.arange(4.0)[:, None], "aaaa", session=["1", "1", "2", "2"])
    mean = average_repeats(x, by=("stimulus_id", "session"))
    assert mean.values.ravel().tolist() == [0.5, 2.5]
    assert mean.session.values.tolist() == ["1", "2"]


def test_stimuli_put_together_take_the_name_of_their_group():
    x = make(np.arange(4.0)[:, None], "abcd", condition=["face", "face", "house", "house"])
    mean = average_repeats(x, by="condition")
    assert mean.stimulus_id.values.tolist() == ["face", "house"]
    assert mean.values.ravel().tolist() == [0.5, 2.5]
    assert ba.validate(mean) is mean


def test_lazy_values_stay_lazy_and_agree():
    rng = np.random.default_rng(0)
    x = make(rng.normal(size=(30, 7)), rng.choice(list("abcdef"), 30))
    lazy = average_repeats(x.chunk({"presentation": 4, "neuroid": 3}))
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.values, average_repeats(x).values, rtol=1e-6)


def test_provenance_has_the_step():
    x = average_repeats(make(np.ones((2, 1)), "aa"))
    assert provenance(x).steps[-1]["verb"] == "average_repeats"
    assert not provenance(x).altered


def test_bad_input_is_named():
    x = make(np.ones((2, 1)), "ab", onset_s=[0.0, np.nan])
    with pytest.raises(ba.errors.ParameterError, match=r"by='stimulus'.*Did you mean 'stimulus_id'"):
        average_repeats(x, by="stimulus")
    with pytest.raises(ba.errors.SchemaError, match="no `onset_s` in 1 of 2 presentations, first 1"):
        average_repeats(x, by="onset_s")
    with pytest.raises(ba.errors.ParameterError, match=r"by=\(\)"):
        average_repeats(x, by=())


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_means_equal_xarray_groupby_and_ignore_row_order(ids, seed):
    rng = np.random.default_rng(seed)
    x = make(rng.normal(size=(len(ids), 3)), ids)
    mean = average_repeats(x)
    np.testing.assert_allclose(mean.sortby("stimulus_id").values, x.groupby("stimulus_id").mean().values, rtol=1e-5, atol=1e-6)
    shuffled = average_repeats(x[rng.permutation(len(ids))])
    np.testing.assert_allclose(shuffled.sortby("stimulus_id").values, mean.sortby("stimulus_id").values, rtol=1e-6)


@pytest.mark.parametrize("within", [None, np.zeros(10, dtype=int)])
def test_stimuli_that_cannot_change_places_are_counted(within):
    alike, apart, rng = np.repeat(np.arange(5), 2), np.repeat(np.arange(4), [1, 2, 3, 4]), np.random.default_rng(0)
    assert exchange_groups(alike, 3, rng, owner="x", within=within).shape == (3, 10)
    assert exchange_groups(apart, 0, rng, owner="x", within=within).shape == (0, 10)
    with pytest.raises(ParameterError, match="x got 4 groups of presentations, such as stimuli, of which none can change places"):
        exchange_groups(apart, 3, rng, owner="x", within=within)
    some = np.repeat(np.arange(5), [1, 1, 1, 3, 4])
    with pytest.warns(NullWarning, match="x cannot exchange 2 of 5 groups of presentations"):
        orders = exchange_groups(some, 30, rng, owner="x", within=within)
    assert (orders[:, 3:] == np.arange(3, 10)).all()


def test_a_verb_with_such_stimuli_says_so_rather_than_p_of_one():
    values = np.random.default_rng(0).normal(size=(28, 3))
    x = make(values, np.repeat(list("abcdefg"), np.arange(1, 8)))
    with pytest.raises(ParameterError, match=r"permutation_test got 7 groups of .* of which none"):
        ba.permutation_test(x, x, n_permutations=9, random_state=0)
    with pytest.raises(ParameterError, match=r"7 groups of .* of which none"):
        ba.evaluate(x, x, model=ba.Ridge(alphas=1.0), cv=2, n_permutations=9, controls="none", repeats="keep", random_state=0)
    assert float(ba.permutation_test(*[ba.average_repeats(x)] * 2, n_permutations=9, random_state=0).p_value.max()) == 0.1


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("allow_nan", [False, True])
def test_averages_of_sessions_count_for_as_many_presentations_as_are_in_them(lazy, allow_nan):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3))
    values[5, 1] = np.nan if allow_nan else 0.0
    ids, session = rng.choice(list("abc"), 40), rng.choice(["1", "1", "1", "2"], 40)
    x = ba.responses(
        values, stimulus_id=ids, neuroid_id=range(3), modality="fmri", system="s", session=session, allow_nan=allow_nan
    )
    once, sessions = ba.average_repeats(x), ba.average_repeats(x, by=("stimulus_id", "session"))
    twice = ba.average_repeats(sessions.chunk(neuroid=2) if lazy else sessions)
    assert twice.n_repeats.values.tolist() == once.n_repeats.values.tolist()
    sound = [0, 2] if allow_nan else [0, 1, 2]  # how many of an average were missing is not known any more
    np.testing.assert_allclose(twice.values[:, sound], once.values[:, sound], atol=1e-6)
    assert np.isfinite(twice.values).all()


def test_averaging_leaves_single_presentations_alone():
    x = make(np.ones((2, 1)), "ab")
    assert average_if_repeated(x) is x


def test_presentations_to_several_subjects_are_no_repeats():
    x = make(np.ones((4, 1)), "abab", subject=["p", "p", "q", "q"])
    with pytest.raises(SchemaError, match=r"stimuli that several subjects saw, 'p', 'q', .* Expected each subject by itself"):
        average_if_repeated(x)
    own = make(np.ones((4, 1)), "aabb", subject=["p", "p", "q", "q"])
    assert average_if_repeated(own).subject.values.tolist() == ["p", "q"]
