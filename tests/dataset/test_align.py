import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.core.provenance import provenance
from brainalign.dataset.align import align


def make(ids, values=None, *, modality="fmri", time=None, **coords):
    """One neuroid whose value is the row number, unless values are given."""
    values = np.arange(len(ids), dtype="float32") if values is None else np.asarray(values, dtype="float32")
    values = values[:, None] if time is None else np.repeat(values[:, None, None], len(time), axis=2)
    return ba.responses(values, stimulus_id=list(ids), neuroid_id=[0], modality=modality, system="s", time=time, **coords)


def ids(x):
    return x.stimulus_id.values.tolist()


def numbers(x):
    return x.values[:, 0].tolist()


def test_rows_correspond_in_the_targets_order():
    x, y, report = align(make("abcd"), make("db"))
    assert ids(x) == ids(y) == ["d", "b"]
    assert numbers(x) == [3, 1]
    assert numbers(y) == [0, 1]
    assert report["n_shared"] == report["n_presentations"] == 2
    assert report["source"]["n_dropped_ids"] == 2
    assert report["source"]["first_dropped"] == ["a", "c"]
    assert report["target"]["n_dropped_ids"] == 0


def test_the_digest_is_of_what_is_shared_whatever_the_order_and_the_times():
    same, again, repeated, other = (align(make("abcde"), make(names))[2]["shared"] for names in ("db", "bdx", "bdb", "ad"))
    assert same == again == repeated != other
    times = [align(*[make("ab", onset_s=[0.0, end])] * 2, on="onset_s")[2]["shared"] for end in (1.0, 1.0 + 1e-9)]
    assert times == ["", ""]  # equal ones may differ by rounding


def test_report_is_plain_json():
    _, _, report = align(make("abc", time=[0.0, 0.1]), make("bcc", time=[0.1, 0.2]))
    assert json.loads(json.dumps(report)) == report


def test_a_side_that_needs_no_change_is_returned_as_it_is():
    source, target = make("abc"), make("abc")
    x, y, _ = align(source, target)
    assert x is source
    assert y is target


def test_what_was_joined_is_in_the_provenance():
    x, y, _ = align(make("abc"), make("cb"))
    steps = provenance(x).steps
    assert [step["verb"] for step in steps] == ["responses", "align"]
    assert not provenance(x).altered
    assert [step["verb"] for step in provenance(y).steps] == ["responses"]


@pytest.mark.parametrize("swap", [False, True])
def test_a_single_side_is_repeated_for_each_presentation_of_the_other(swap):
    once, repeated = make("ab", [10, 20]), make("abaab")
    first, second, report = align(repeated, once) if swap else align(once, repeated)
    once_out, repeated_out = (second, first) if swap else (first, second)
    assert sorted(zip(numbers(once_out), numbers(repeated_out), strict=True)) == [(10, 0), (10, 2), (10, 3), (20, 1), (20, 4)]
    side = "target" if swap else "source"
    assert report[side]["n_duplicated"] == 3
    assert ids(first) == ids(second)


def test_where_both_repeat_the_nth_goes_with_the_nth():
    x, y, report = align(make("aabab"), make("baaca"))
    assert list(zip(numbers(x), numbers(y), strict=True)) == [(2, 0), (0, 1), (1, 2), (3, 4)]
    assert report["source"]["n_dropped_repeats"] == 1
    assert report["target"]["n_dropped_repeats"] == 0
    assert report["source"]["n_repeated_ids"] == 2


def test_a_repeat_of_an_id_that_only_one_side_has_does_not_count():
    x, y, report = align(make(["a", "b", "z", "z"]), make("aab"))
    assert list(zip(numbers(x), numbers(y), strict=True)) == [(0, 0), (0, 1), (1, 2)]
    assert report["source"]["n_dropped_presentations"] == 2
    assert report["source"]["n_dropped_ids"] == 1


def test_zero_overlap_says_what_both_sides_have():
    with pytest.raises(ba.errors.AlignmentError) as caught:
        align(make(["img_1", "img_2"]), make(["nsd_1", "nsd_1", "nsd_2"]))
    message = str(caught.value)
    assert "share 0 of 2 / 2 stimulus_id values (source starts 'img_1', target starts 'nsd_1')" in message
    assert "on={...}" in message


def test_the_names_of_the_sides_reach_the_message():
    with pytest.raises(ba.errors.AlignmentError, match="layer4 and IT share 0 of 1 / 1"):
        align(make("a"), make("b"), source_name="layer4", target_name="IT")


def test_words_that_meet_volumes_are_told_of_the_step_between():
    words, volumes = (
        make(names, run="1", onset_s=onset) for names, onset in ((["w0", "w1"], [0.1, 1.9]), (["v0", "v1"], [0.0, 2.0]))
    )
    with pytest.raises(ba.errors.AlignmentError, match=r"ba.chain\(ba.WordsToVolumes\(\), ba.Delay"):
        align(words, volumes, on=("run", "onset_s"))
    with pytest.raises(ba.errors.AlignmentError, match=r"`target = ba.WordsToVolumes\(\).transform\(target, source\)`"):
        align(volumes, words, on=("run", "onset_s"))
    assert align(volumes, ba.WordsToVolumes().transform(words, volumes), on=("run", "onset_s"))[2]["n_shared"] == 2


def test_exact_raises_where_inner_drops():
    with pytest.raises(ba.errors.AlignmentError, match=r"1 of 3 ids of source \(first 'c'\)"):
        align(make("abc"), make("ab"), join="exact")
    with pytest.raises(ba.errors.AlignmentError, match="1 repeated presentations of target"):
        align(make("aabb"), make("aaabb"), join="exact")
    x, _, _ = align(make("ba"), make("aab"), join="exact")
    assert ids(x) == ["a", "a", "b"]


def test_ids_are_renamed_by_a_mapping():
    x, y, report = align(make(["img_1", "img_2", "c"]), make(["two", "c", "one"]), on={"img_1": "one", "img_2": "two"})
    assert ids(x) == ids(y) == ["two", "c", "one"]
    assert numbers(x) == [1, 2, 0]
    assert report["n_shared"] == 3


def test_a_mapping_must_not_merge_stimuli():
    with pytest.raises(ba.errors.ParameterError, match="2 stimuli of source the name 'x': 'a', 'b'"):
        align(make("abc"), make("xc"), on={"a": "x", "b": "x"})


def test_continuous_recordings_join_on_run_and_time():
    n = 6
    onset = np.arange(n) * 0.1
    volumes = make([f"v{i}" for i in range(n)], run=["1"] * 3 + ["2"] * 3, onset_s=np.tile(onset[:3], 2))
    order = [5, 0, 3, 1]
    samples = make(
        [f"s{i}" for i in range(4)],
        run=np.array(["1"] * 3 + ["2"] * 3)[order],
        onset_s=(np.tile([0.0, 0.1, 0.1 + 0.1 + 3e-7], 2))[order],
    )
    x, _, report = align(volumes, samples, on=("run", "onset_s"))
    assert ids(x) == ["v5", "v0", "v3", "v1"]
    assert report["source"]["first_dropped"] == [["1", 0.2], ["2", 0.1]]


def test_times_are_not_parted_by_rounding():
    # 7812.5 microseconds lies on a rounding edge: a sample at 2048 Hz, reached by two ways of counting
    step = 1 / 2048
    a = make(["a"], onset_s=[16 * step])
    b = make(["b"], onset_s=[np.nextafter(16 * step, 1)])
    assert align(a, b, on="onset_s")[2]["n_shared"] == 1


def test_rows_without_a_time_are_unmatched():
    a = make("ab", onset_s=[0.0, np.nan])
    b = make("cd", onset_s=[np.nan, 0.0])
    x, y, report = align(a, b, on="onset_s")
    assert (ids(x), ids(y)) == (["a"], ["d"])
    assert report["source"]["n_unmatched"] == report["target"]["n_unmatched"] == 1


def test_run_numbers_match_their_text():
    x, _, _ = align(make("ab", run=[1, 2]), make("cd", run=["2", "1"]), on="run")
    assert ids(x) == ["b", "a"]


def test_text_does_not_match_fractions():
    with pytest.raises(ba.errors.AlignmentError, match="`condition` is text in source and float64 in target"):
        align(make("ab", condition=["1", "2"]), make("ab", condition=[1.0, 2.0]), on="condition")


def test_a_missing_coordinate_is_named_with_those_that_are_there():
    with pytest.raises(
        ba.errors.AlignmentError, match=r"target has no presentation coordinate 'run'\..*; target has stimulus_id, repetition"
    ):
        align(make("ab", run=["1", "1"]), make("ab"), on=("run", "stimulus_id"))


def test_two_time_axes_are_joined():
    x, y, report = align(make("ab", time=[0.0, 0.1, 0.2, 0.3]), make("ab", time=[0.1 + 2e-7, 0.3, 0.5]))
    assert x.time.values.tolist() == y.time.values.tolist() == [0.1 + 2e-7, 0.3]
    assert report["time"] == {"n_shared": 2, "n_dropped_source": 2, "n_dropped_target": 1}
    with pytest.raises(ba.errors.AlignmentError, match="2 time points of source"):
        align(make("ab", time=[0.0, 0.1, 0.2, 0.3]), make("ab", time=[0.1, 0.3]), join="exact")


def test_time_axes_without_overlap_or_of_other_reference_are_refused():
    with pytest.raises(
        ba.errors.AlignmentError, match=r"share 0 of 2 / 2 time points \(source 0 to 0.1 s, target 0.5 to 0.6 s\)"
    ):
        align(make("ab", time=[0.0, 0.1]), make("ab", time=[0.5, 0.6]))
    with pytest.raises(ba.errors.AlignmentError, match="stimulus onset"):
        align(make("ab", time=[0.0, 0.1]), make("ab", time=[0.0, 0.1], time_reference="run onset"))


def test_lazy_values_stay_lazy():
    lazy = make("abcd").chunk({"presentation": 2})
    x, _, _ = align(lazy, make("db"))
    assert x.chunks is not None
    assert numbers(x) == [3, 1]


def test_inputs_are_not_modified():
    source, target = make("abc"), make("cb")
    before = source.copy(deep=True)
    align(source, target, on={"a": "z"})
    assert source.identical(before)


@st.composite
def a_pair(draw):
    """Two sides, at most one of which repeats, and a shuffle of each."""
    pool = [f"s{i}" for i in range(8)]
    once = draw(st.lists(st.sampled_from(pool), min_size=1, unique=True))
    other = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=14))
    if not set(once) & set(other):
        other.append(once[0])
    return once, other, draw(st.permutations(range(len(once)))), draw(st.permutations(range(len(other)))), draw(st.booleans())


@settings(max_examples=30)
@given(a_pair())
def test_join_does_not_depend_on_row_order_and_values_follow_their_ids(pair):
    once, other, shuffle_once, shuffle_other, swap = pair
    one, two = make(once, [10 * int(name[1:]) for name in once]), make(other)

    def joined(a, b):
        x, y, report = align(b, a) if swap else align(a, b)
        x, y = (y, x) if swap else (x, y)
        assert ids(x) == ids(y)
        return sorted(zip(ids(x), numbers(x), numbers(y), strict=True)), report

    rows, report = joined(one, two)
    again, shuffled_report = joined(one[list(shuffle_once)], two[list(shuffle_other)])
    assert rows == again
    assert report["n_shared"] == shuffled_report["n_shared"]
    truth = sorted((name, 10.0 * int(name[1:]), float(row)) for row, name in enumerate(other) if name in once)
    assert rows == truth


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=12), st.lists(st.sampled_from("abc"), min_size=3, max_size=12))
def test_two_repeating_sides_pair_the_nth_with_the_nth(left, right):
    left, right = [*"aa", *left], [*"aa", *right]
    x, y, _ = align(make(left), make(right))
    got = list(zip(numbers(x), numbers(y), strict=True))
    repeats_left, repeats_right = ({n: [float(i) for i, v in enumerate(side) if v == n] for n in "abc"} for side in (left, right))
    truth = [pair for n in "abc" for pair in zip(repeats_left[n], repeats_right[n], strict=False)]
    assert got == sorted(truth, key=lambda pair: pair[1])


@pytest.mark.parametrize("on", [3, None, []])
def test_what_is_joined_on_must_be_named(on):
    x = ba.responses([[1.0]], stimulus_id=["a"], neuroid_id=[0], modality="ann", system="net")
    with pytest.raises(ParameterError, match=r"'on' parameter of align must be .* Got"):
        ba.align(x, x, on=on)
