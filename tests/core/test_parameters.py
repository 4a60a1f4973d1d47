from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import (
    check_choice,
    check_device,
    check_number,
    check_options,
    check_random_state,
    did_you_mean,
    preview,
)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e6), st.floats(0, 1e6))
@settings(max_examples=30)
def test_a_number_passes_exactly_when_it_lies_in_the_range(value, below, above):
    low, high = 1.0 - below, 1.0 + above
    if low <= value <= high:
        assert check_number("alpha", value, owner="Ridge", low=low, high=high) == value
    else:
        with pytest.raises(ParameterError, match="parameter of Ridge must be a float in the range"):
            check_number("alpha", value, owner="Ridge", low=low, high=high)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "1", None, True, np.True_, 1 + 0j, [1], np.array([1.0])])
def test_what_is_no_finite_number_is_refused_with_its_value(value):
    with pytest.raises(ParameterError) as caught:
        check_number("n", value, owner="f")
    assert f"Got {value!r} instead." in str(caught.value)


@pytest.mark.parametrize("value", [3, np.int16(3), 3.0, np.float32(3), Fraction(3)])
def test_every_kind_of_real_number_passes_as_a_python_one(value):
    assert check_number("n", value, owner="f") == 3.0
    assert type(check_number("n", value, owner="f")) is float


def test_whole_numbers_stay_whole_and_may_be_larger_than_any_float():
    assert check_number("n", np.int64(5), owner="f", integer=True) == 5
    assert type(check_number("n", np.int64(5), owner="f", integer=True)) is int
    assert check_number("n", 10**400, owner="f", integer=True) == 10**400
    with pytest.raises(ParameterError, match=r"must be an int in the range \[1, inf\). Got 2.5 instead"):
        check_number("n", 2.5, owner="f", integer=True, low=1)


def test_the_message_shows_open_and_closed_ends():
    with pytest.raises(ParameterError) as caught:
        check_number("alpha", 0, owner="Ridge", low=0, low_open=True)
    assert str(caught.value) == "The 'alpha' parameter of Ridge must be a float in the range (0, inf). Got 0 instead."
    with pytest.raises(ParameterError, match=r"\[0, 1\]"):
        check_number("p", 2, owner="f", low=0, high=1)


def test_a_choice_is_returned_and_a_typo_is_answered_with_the_closest():
    assert check_choice("metric", "pearson", ("pearson", "spearman"), owner="rdm") == "pearson"
    with pytest.raises(ParameterError) as caught:
        check_choice("metric", "spearmn", ("pearson", "spearman"), owner="rdm")
    assert str(caught.value) == (
        "The 'metric' parameter of rdm must be one of 'pearson', 'spearman'. Got 'spearmn' instead. Did you mean 'spearman'?"
    )


def test_a_name_out_of_a_numpy_array_is_the_same_choice():
    chosen = check_choice("metric", np.array(["pearson"])[0], ("pearson",), owner="f")
    assert type(chosen) is str
    assert chosen == "pearson"


@pytest.mark.parametrize("value", [1, 1.0, "None", np.array([1, 2]), np.bool_(False)])
def test_values_that_only_look_like_a_choice_are_refused(value):
    with pytest.raises(ParameterError, match="must be one of True, None"):
        check_choice("flag", value, (True, None), owner="f")


def test_did_you_mean_is_silent_where_nothing_is_close():
    assert did_you_mean("zzz", ["pearson"]) == ""
    assert did_you_mean(3, ["pearson"]) == ""
    assert did_you_mean("x", []) == ""


@given(st.one_of(st.integers(0, 2**70), st.none()))
@settings(max_examples=30)
def test_a_seed_is_a_recordable_integer(seed):
    drawn = check_random_state(seed, owner="f")
    assert type(drawn) is int
    assert drawn >= 0
    assert seed is None or drawn == seed
    np.random.SeedSequence(drawn).spawn(1)


def test_a_generator_gives_its_next_draws():
    first, second = (check_random_state(np.random.default_rng(0), owner="f") for _ in range(2))
    assert first == second
    generator = np.random.default_rng(0)
    assert check_random_state(generator, owner="f") != check_random_state(generator, owner="f")


def test_no_seed_draws_a_new_one():
    assert len({check_random_state(None, owner="f") for _ in range(5)}) == 5


@pytest.mark.parametrize("value", [-1, 1.5, "0", True, np.random.RandomState(0)])
def test_what_is_no_seed_is_refused(value):
    with pytest.raises(ParameterError, match=r"'random_state' parameter of f must be a non-negative int.* Got .* instead"):
        check_random_state(value, owner="f")


@given(st.lists(st.integers(), max_size=8), st.integers(1, 5))
@settings(max_examples=30)
def test_preview_shows_the_first_and_counts_the_rest(values, n):
    text = preview(np.array(values, dtype=object), n)
    assert text.startswith(", ".join(map(repr, values[:n])))
    assert (f"({len(values)} in all)" in text) == (len(values) > n)


def test_preview_shows_plain_python_values():
    assert preview(np.array([1.5, 2.5])) == "1.5, 2.5"
    assert preview(np.array(["a"], dtype=np.dtypes.StringDType())) == "'a'"


def test_options_of_a_function_are_checked_before_it_is_called():
    def read(path, *, system, tr_s=2.0):
        raise AssertionError((path, system, tr_s))

    check_options(read, {"system": "s"}, owner="open")
    with pytest.raises(
        ParameterError, match=r"open got an unknown option 'tr'\. Did you mean 'tr_s'\? Expected options among system, tr_s"
    ):
        check_options(read, {"system": "s", "tr": 1}, owner="open")
    with pytest.raises(ParameterError, match=r"open needs `system=`, got tr_s"):
        check_options(read, {"tr_s": 1}, owner="open")
    check_options(lambda path, **anything: path, {"whatever": 1}, owner="open")


def test_a_device_that_is_not_there_is_named():
    assert check_device("auto", "cpu", owner="rdm") == "cpu"
    with pytest.raises(
        ParameterError, match=r"'device' parameter of rdm must be 'cpu', 'auto' or a device .* Got 'cuda' instead"
    ):
        check_device("cuda", None, owner="rdm")
