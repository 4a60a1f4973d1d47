"""Pairing: what is joined, averaged and reported before anything is fitted."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.scores.pairing import join_key, labels_as_target, leaks_of, pair, straddles


def make(ids, *, width=2, system="net", **coords):
    rng = np.random.default_rng(len(ids))
    return ba.responses(
        rng.normal(size=(len(ids), width)), stimulus_id=ids, neuroid_id=range(width), modality="ann", system=system, **coords
    )


def test_the_join_is_on_stimuli_unless_only_time_is_shared():
    timed = {"run": "1", "onset_s": [0.0, 2.0, 4.0]}
    a, b = make(["a/0", "a/1", "a/2"], **timed), make(["b/0", "b/1", "b/2"], **timed)
    assert join_key(a, a) == "stimulus_id"
    assert join_key(a, b) == ("run", "onset_s")
    assert join_key(a, make(["b/0", "b/1", "b/2"])) == "stimulus_id"


def test_long_recordings_are_joined_in_passing():
    """Comparing every name with every other would take hours here."""
    n = 100_000
    timed = {"run": "1", "onset_s": np.arange(n) / 1000}
    a, b = (make([f"{name}/{i}" for i in range(n)], width=1, **timed) for name in "ab")
    assert (join_key(a, a), join_key(a, b)) == ("stimulus_id", ("run", "onset_s"))


def test_what_is_lazy_is_read_once_for_all_folds_controls_and_source_groups():
    labels = {"neuroid": {"region": ["a", "a"]}}
    ids = [f"s{i}" for i in range(30)]
    source, target = make(ids, **labels), make(ids * 2, system="brain", **labels)
    reads = []

    def lazy(x, name):
        def read(block):
            reads.append(name)
            return block

        blocks = x.chunk({"presentation": -1, "neuroid": -1})
        return x.copy(data=blocks.data.map_blocks(read, dtype=x.dtype, meta=np.empty((0, 0), x.dtype)))

    here, stored = (source, target), (lazy(source, "source"), lazy(target, "target"))
    both = pair(*stored, ba.chain(ba.Ridge()), ba.split(target, n_splits=3, random_state=0), join="inner", repeats="average")
    assert all(isinstance(x.data, np.ndarray) for x in (both.source, both.target))
    options = {"model": ba.Ridge(alphas=[1.0]), "cv": 3, "n_permutations": 3, "random_state": 0}
    for verb, further in ((ba.evaluate, {}), (ba.compare, {"by": ("region", "region")})):
        reads.clear()
        xr.testing.assert_equal(verb(*stored, **options, **further).score, verb(*here, **options, **further).score)
        assert reads.count("target") == 1
        assert reads.count("source") < 6  # for the fit, its controls and what is said of it; not for each fold


def test_repeats_are_averaged_before_the_join_where_no_fold_splits_them():
    source, target = make(["x", "y", "z", "w"]), make(["x", "y", "z", "w"] * 3, system="brain")
    folds = ba.split(target, n_splits=2, random_state=0)
    assert not straddles(folds, target)
    both = pair(source, target, ba.chain(ba.Ridge()), folds, join="inner", repeats="average")
    assert both.target.sizes["presentation"] == 4
    kept = pair(source, target, ba.chain(ba.Ridge()), folds, join="inner", repeats="keep")
    assert kept.target.sizes["presentation"] == kept.source.sizes["presentation"] == 12


def test_flattened_sources_keep_every_time():
    study = ba.simulate(n_stimuli=20, n_neuroids=3, n_channels=4, n_repeats=1, random_state=0)
    target = study.meg.isel(time=[3]).assign_coords(time=[9.0])
    both = pair(study.meg, target, ba.chain(ba.Ridge()), ba.split(target, n_splits=2, random_state=0), join="inner",
                repeats="average", time="flatten")  # fmt: skip
    assert both.source.sizes["neuroid"] == 4 * study.meg.sizes["time"]
    assert both.target.sizes["time"] == 1
    one = both.source.neuroid_id.values[1]
    assert str(one).startswith(str(study.meg.neuroid_id.values[0]) + "@")


def test_labels_become_codes_in_sorted_order():
    x = make(["a", "b", "c"], condition=["face", "body", "face"])
    target = labels_as_target(x, "condition")
    assert target.values.ravel().tolist() == [1, 0, 1]
    assert target.attrs["classes"] == '["body", "face"]'
    with pytest.raises(ParameterError, match="Did you mean 'condition'"):
        labels_as_target(x, "conditions")


@pytest.mark.parametrize(
    "labels", [["face", None, "body"], ["face", "nan", "body"], [1.0, np.nan, 2.0]], ids=["object", "text", "number"]
)
def test_a_missing_label_is_no_class(labels):
    x = make(["a", "b", "c"])
    own, known = ({"condition": ("presentation", np.asarray(some))} for some in (labels, np.asarray(labels)[[0, 0, 2]]))
    with pytest.raises(SchemaError, match=r"target='condition' has no label at 1 of 3 presentations, first 1"):
        labels_as_target(x.assign_coords(own), "condition")
    assert labels_as_target(x.assign_coords(known), "condition").values.ravel().tolist() in ([1, 1, 0], [0, 0, 1])


def test_labels_of_several_types_are_text_and_one_label_is_none():
    x = make(["a", "b", "c"])
    mixed = x.assign_coords(condition=("presentation", np.array([1, "face", 1], dtype=object)))
    assert labels_as_target(mixed, "condition").attrs["classes"] == '["1", "face"]'
    with pytest.raises(ParameterError, match="the same label in all presentations, face"):
        labels_as_target(x.assign_coords(condition=("presentation", ["face"] * 3)), "condition")


def test_sides_that_share_time_alone_are_joined_for_any_mapping():
    n = 40
    timed = {"run": np.repeat(["1", "2"], 20), "onset_s": np.tile(2.0 * np.arange(20), 2)}
    a, b = make([f"a/{i}" for i in range(n)], **timed), make([f"b/{i}" for i in range(n)], **timed)
    named = a.assign_coords(stimulus_id=b.stimulus_id)
    ask = {"model": ba.Ridge(alphas=[1.0]), "cv": ba.split(b, by="run"), "controls": "none"}
    np.testing.assert_array_equal(ba.evaluate(a, b, **ask).score, ba.evaluate(named, b, **ask).score)


def test_leaks_are_found_through_joined_spaces():
    x = make([f"s{i}" for i in range(12)], width=6)
    reduced = ba.Reduce(2, random_state=0).fit_transform(x)
    assert leaks_of(source=x) == []
    assert len(leaks_of(source=ba.bands(a=reduced, b=x))) == 1
    assert leaks_of(source=ba.bands(a=reduced, b=x))[0].startswith("source: Reduce")
