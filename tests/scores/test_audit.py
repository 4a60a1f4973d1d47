"""Which data touched which decision, and what a source is made of."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import LeakWarning
from brainalign.features.chain import chain
from brainalign.reports.diagnoses import diagnose
from brainalign.scores.audit import audit, decisions, source_facts
from brainalign.scores.pairing import pair

RNG = np.random.default_rng(0)


def recording(values, ids=None, *, system="net", modality="ann", **labels):
    ids = [f"s{i}" for i in range(len(values))] if ids is None else ids
    neuroids = range(values.shape[1])
    return ba.responses(values, stimulus_id=ids, neuroid_id=neuroids, modality=modality, system=system, **labels)


def told(model, **sides):
    return [(d["decision"], d["by"], d["data"], d["held_out"]) for d in decisions(chain(model) if hasattr(model, "predict") and not hasattr(model, "steps") else model, **sides)]  # fmt: skip


def joined(source, target, model=None):
    return pair(
        source, target, chain(model or ba.Ridge()), ba.split(target, n_splits=4, random_state=0), join="inner", repeats="average"
    )


def test_what_is_given_is_no_decision():
    weights = ("weights", "Ridge", "training presentations", True)
    assert told(ba.Ridge(alphas=[1.0])) == [weights]
    assert told(ba.Ridge(alphas=2.0)) == [weights]
    inner = ("alphas", "Ridge", "inner folds of the training presentations", True)
    assert told(ba.Ridge()) == told(ba.Ridge(alphas=[1.0, 10.0])) == [inner, weights]
    assert told(ba.PLS())[0][0] == "n_components"


def test_every_fitted_step_is_listed_and_so_is_what_delays_begin_with():
    model = ba.chain(ba.ZScore(), ba.Delay([2.0]), StandardScaler(), SelectKBest(f_regression, k=3), ba.Ridge(alphas=[1.0]))
    assert told(model) == [
        ("scaling", "ZScore", "each run by itself, tested ones too", False),
        ("padding", "Delay", "means of all presentations of the source, tested ones too", False),
        ("fit", "StandardScaler", "training presentations", True),
        ("feature selection", "SelectKBest", "training presentations", True),
        ("weights", "Ridge", "training presentations", True),
    ]


def test_steps_that_learn_and_pad_nothing_are_no_decision():
    weights = [("weights", "Ridge", "training presentations", True)]
    one = ba.Ridge(alphas=[1.0])
    assert told(ba.chain(ba.BinTime([0.0, 0.1, 0.2]), one)) == weights
    assert told(ba.chain(ba.WordsToVolumes("mean"), ba.Delay([2.0]), one)) == weights  # before the first event there was none
    assert [entry[0] for entry in told(ba.chain(StandardScaler(), ba.Delay([2.0]), one))] == ["fit", "weights"]
    assert told(ba.chain(ba.Clean(), one))[0][:2] == ("cleaning", "Clean")


def test_early_stopping_says_on_what():
    assert told(SGDRegressor(early_stopping=True, validation_fraction=0.2))[0] == (
        "early stopping", "SGDRegressor", "a share of 0.2 of the training presentations", True,
    )  # fmt: skip

    class Readout(SGDRegressor):
        decides_on = {"early stopping": "the last tenth of the training presentations"}

    assert ("early stopping", "Readout", "the last tenth of the training presentations", True) in told(Readout())


def test_what_was_done_by_hand_is_listed_with_what_it_saw():
    x = recording(RNG.normal(size=(20, 12)), run=["a"] * 20, onset_s=np.arange(20.0))
    reduced = ba.Reduce(3).fit_transform(ba.ZScore().transform(x))
    assert told(ba.Ridge(alphas=[1.0]), source=reduced, target=x)[:2] == [
        ("scaling of the source", "ZScore", "each run by itself, tested ones too", False),
        ("reduction of the source", "Reduce", "all presentations", False),
    ]


def test_facts_of_a_source():
    latent = RNG.normal(size=(60, 6))
    x = recording(latent @ RNG.normal(size=(6, 20)))
    y = recording(latent, system="sub-01", modality="fmri")
    facts = source_facts(joined(x, y))
    assert (facts["n_features"], facts["n_rows"], facts["n_directions"], facts["n_massive"], facts["n_known"]) == (
        20,
        60,
        6,
        0,
        0,
    )
    values = x.values.copy()
    values[:, 4] = 1e4 * values[:, 0]
    facts = source_facts(joined(recording(values), y))
    assert facts["n_massive"] == 1
    assert facts["top_share"] > 0.99


def test_the_same_content_under_two_names_is_found_across_folds_only():
    values = RNG.normal(size=(40, 12)).astype(np.float32)
    target = recording(RNG.normal(size=(40, 2)), system="sub-01", modality="fmri")
    both = joined(recording(values), target)
    fold = {row: number for number, f in enumerate(both.folds) for row in f.test}
    apart = next(row for row in range(1, 40) if fold[row] != fold[0])
    beside = next(row for row in range(1, 40) if fold[row] == fold[0])
    for row, expected in ((apart, 2), (beside, 0)):
        copied = values.copy()
        copied[row] = copied[0]
        assert source_facts(joined(recording(copied), target))["n_known"] == expected


def test_repeats_of_one_stimulus_and_empty_rows_are_no_duplicates():
    values = np.repeat(RNG.normal(size=(20, 12)), 2, axis=0)
    values[:6] = 0
    ids = np.repeat([f"s{i}" for i in range(20)], 2)
    target = recording(RNG.normal(size=(40, 2)), ids, system="sub-01", modality="fmri")
    both = pair(
        recording(values, ids),
        target,
        chain(ba.Ridge()),
        ba.split(target, n_splits=4, random_state=0),
        join="inner",
        repeats="keep",
    )
    assert source_facts(both)["n_known"] == 0


@pytest.mark.parametrize("labels", [{}, {"onset_s": np.arange(40.0), "run": "a"}], ids=["images", "in time"])
def test_narrow_sources_and_rows_in_time_are_not_searched_for_duplicates(labels):
    values = np.repeat(RNG.normal(size=(20, 3 if not labels else 12)), 2, axis=0)
    target = recording(RNG.normal(size=(40, 2)), system="sub-01", modality="fmri", **labels)
    assert "n_known" not in source_facts(joined(recording(values, **labels), target))


def test_lazy_sources_give_the_same_facts_and_all_of_it_is_json():
    x, y = recording(RNG.normal(size=(40, 12))), recording(RNG.normal(size=(40, 2)), system="sub-01", modality="fmri")
    here = audit(joined(x, y), chain(ba.Ridge()), source=x, target=y)
    lazy = x.chunk({"presentation": 7, "neuroid": 5})
    assert audit(joined(lazy, y), chain(ba.Ridge()), source=lazy, target=y) == here
    assert json.loads(json.dumps(here)) == here


def test_of_a_wide_source_fewer_rows_are_looked_at(monkeypatch):
    monkeypatch.setattr("brainalign.scores.audit._VALUES", 240)
    x, y = recording(RNG.normal(size=(40, 12))), recording(RNG.normal(size=(40, 2)), system="sub-01", modality="fmri")
    facts = source_facts(joined(x, y))
    assert (facts["n_rows"], facts["n_known"]) == (20, 0)


@pytest.fixture(scope="module")
def cut():
    """Windows of 0.3 s around events every 0.2 s: each shares a sample with its neighbours."""
    values, onsets = RNG.normal(size=(40, 6, 3)), np.arange(40) * 0.2
    table = {
        "onset_s": onsets,
        "window_overlaps": True,
        "kind": np.tile(["a", "a", "b", "b"], 10),
        "run": np.repeat(["1", "2"], 20),
    }
    ids, times = [f"s{i:02d}" for i in range(40)], [0.0, 0.1, 0.2]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(6), time=times, modality="eeg", system="x", presentation=pd.DataFrame(table))  # fmt: skip


def shared(result):
    report = json.loads(result.attrs["report"])
    return report["leaks"], report.get("shared_samples", [])


def test_windows_that_share_samples_across_folds_are_told_where_times_meet(cut):
    halves = ba.split(cut, test=cut.stimulus_id.values[:10])  # in the middle of a run: one window on either side of the border
    with pytest.warns(LeakWarning, match=r"1 of 10 tested windows of the source .*`cv=ba.split\(x, gap_s=0.3\)`, hold out runs"):
        out = ba.decode_time(cut, "kind", cv=halves, generalize=True)
    assert any(line.startswith("Leak: 1 of 10 tested windows") for line in diagnose(out))
    for verb in (
        partial(ba.evaluate, target="kind", controls="none"),
        partial(ba.identify, target=cut[..., 0].drop_vars("time")),
    ):
        with pytest.warns(LeakWarning, match="1 of 10 tested windows of the source"):
            verb(cut, cv=halves)


def test_windows_that_share_samples_are_no_leak_at_one_time_nor_within_a_fold(cut):
    halves = ba.split(cut, test=cut.stimulus_id.values[:10])
    features = recording(RNG.normal(size=(40, 5)), cut.stimulus_id.values)
    told = "1 of 10 tested windows of the {} share samples with windows trained on (`window_overlaps`)"
    out = ba.decode_time(cut, "kind", cv=halves)
    assert shared(out) == ([], [told.format("source")])
    assert any("at one time these are different samples" in line for line in diagnose(out))
    assert shared(ba.evaluate(features, cut, cv=halves, controls="none")) == ([], [told.format("target")])
    apart = ba.split(cut, by="run"), ba.split(cut, test=cut.stimulus_id.values[:10], gap_s=0.3)
    for folds in apart:
        assert shared(ba.decode_time(cut, "kind", cv=folds, generalize=True)) == ([], [])
    shorter = cut.isel(time=[0, 1])  # cut to 0.2 s, they share none
    assert shared(ba.decode_time(shorter, "kind", cv=halves, generalize=True)) == ([], [])


def test_windows_of_averaged_repeats_are_looked_at_one_by_one(cut):
    """Stimuli alternate: each is averaged over windows whose neighbours are of another fold."""
    twice = cut.assign_coords(stimulus_id=("presentation", [f"s{i:02d}" for i in range(20)] * 2))
    features = recording(RNG.normal(size=(20, 5)), twice.stimulus_id.values[:20])
    folds = ba.split(twice, test=[f"s{i:02d}" for i in range(0, 20, 2)])
    with pytest.warns(LeakWarning, match="20 of 20 tested windows of the source"):
        ba.evaluate(twice, features, cv=folds, controls="none")
