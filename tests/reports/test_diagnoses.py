import json

import numpy as np
import pytest

import brainalign as ba
from brainalign.reports.diagnoses import decided, diagnose, join_report
from brainalign.reports.table import beside


def test_everything_that_stands_out_is_said(grid, scores, attributions):
    told = " ".join(diagnose(grid))
    assert "Fewer than 3 neuroids have a score in 'V1'" in told
    assert "Leak: source: PCA was fitted on all" in told
    assert "forced" in told
    told = " ".join(diagnose(scores))
    assert "1 of 6 neuroids has no score: 1 constant" in told
    assert "2 scores are undefined in at least one fold" in told
    assert "1 of 6 ceilings could not be estimated" in told
    assert "1 normalised score is above 1" in told
    assert "2.0%" in " ".join(diagnose(attributions))


def test_source_groups_that_some_neuroids_have_no_score_from_are_named(grid):
    """A median over the neuroids that are left is no cell to compare with others."""
    grid = grid.assign_coords(status=("neuroid", ["ok", "ok", "ok", "nan"]))
    grid.score_neuroid[:, 3] = np.nan
    assert "undefined" not in " ".join(diagnose(grid))
    grid.score_neuroid[1, :2] = np.nan
    told = [line for line in diagnose(grid) if "undefined" in line]
    assert len(told) == 1
    assert told[0].startswith(
        f"22% of the scores of neuroids are undefined, all of them from '{grid.source_layer.values[1]}', whose"
    )


def test_dropped_presentations_and_stimuli_are_counted(scores):
    join = {"join": {"source": {"n_dropped_presentations": 4, "n_dropped_ids": 2}, "target": {"n_dropped_presentations": 0}}}
    told = diagnose(scores.assign_attrs(report=json.dumps(join | {"target_only": 7})))
    assert "4 presentations of the source were dropped (2 ids without a counterpart)." in told
    assert "7 stimuli of the target have no counterpart and were left out." in told
    assert not any("the target were dropped" in text for text in told)


def test_what_align_reports_is_what_is_read():
    study = ba.simulate(n_stimuli=30, n_neuroids=3, modalities=("fmri",), random_state=0)
    result = ba.evaluate(study.network[5:], study.brain, model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0)
    assert any("of the target were dropped (5 ids" in text for text in diagnose(result)), join_report(result)


def test_altered_values_are_noticed():
    study = ba.simulate(n_stimuli=10, n_neuroids=2, modalities=("fmri",), random_state=0)
    assert diagnose(study.brain) == []
    assert "altered" in diagnose(study.brain * 2)[0]


def test_nothing_to_say_is_nothing_said(timed, rdms):
    assert diagnose(timed) == diagnose(rdms) == diagnose("text") == []
    assert join_report(timed) == {}


def test_each_system_of_one_call_is_named():
    study = ba.simulate(n_stimuli=40, n_neuroids=3, n_repeats=1, modalities=("fmri",), random_state=0)
    fewer = study.fmri[:30].assign_coords(system=("neuroid", ["sub-02"] * study.fmri.sizes["neuroid"]))
    result = ba.evaluate(study.network, {"sub-01": study.fmri, "sub-02": fewer}, cv=4)
    found = [text for text in diagnose(result) if "dropped" in text]
    assert found == ["sub-02: 10 presentations of the source were dropped (10 ids without a counterpart)."]
    assert not any("altered" in text for text in diagnose(result))


def noted(result, **report):
    return " ".join(diagnose(result.assign_attrs(report=json.dumps(report))))


@pytest.mark.parametrize(("share", "told"), [(0.5, "50% of the chosen alphas lie at the end"), (0.0, "")])
def test_alphas_at_the_edge_of_their_grid_are_counted(scores, share, told):
    at_edge = np.arange(12).reshape(2, 6) < 12 * share
    assert told in noted(scores.assign(alpha_at_edge=(("fold", "neuroid"), at_edge)))
    assert ("alphas" in noted(scores.assign(alpha_at_edge=(("fold", "neuroid"), at_edge)))) == bool(told)


def test_ceilings_that_are_mostly_noise_are_counted(scores):
    low = scores.assign(ceiling=("neuroid", [0.1, 0.2, 0.3, 0.4, 0.5, 0.9]))
    assert "3 of 6 ceilings stand on a reliability under 0.1" in noted(low)
    assert "1 of 6 ceilings stand on" in noted(low.assign_attrs(metric="r2").assign(ceiling=low.ceiling.clip(0.05) - 0.05))


def test_a_best_layer_is_not_held_out_unless_it_was_chosen_elsewhere(grid):
    assert "The best layer of each target is not held out" in noted(grid)
    assert "held out" not in noted(grid[{"source_layer": [0]}])
    assert "held out" not in noted(grid.assign_attrs(choice="held out"))
    assert "held out" in noted(grid.assign_attrs(choice="not held out: there are no inner folds"))


def test_controls_that_are_missing_or_as_good_are_said(scores):
    assert "No control ran beside this score" in noted(scores, folds={"kind": "fixed"})
    assert "control" not in noted(scores)  # nothing was predicted
    ahead = np.array([np.nan, -0.1, 0.0, 0.2, 0.1, 0.3])
    controls = np.array([[np.nan, 0.3, 0.1, 0.3, np.nan, 0.1], [np.nan, 0.1, 0.4, 0.2, 0.5, 0.4]])
    controlled = scores.assign(score_minus_best_control=("neuroid", ahead), score_control=(("control", "neuroid"), controls))
    controlled = controlled.assign_coords(control=["constant", "autocorrelation"])
    told = noted(controlled, folds={}, controls_failed={"random-projection": "too wide"})
    assert "2 of 6 scores are no higher than that of a control (autocorrelation 1, constant 1)" in told
    assert "Controls that could not be scored: 'random-projection'" in told
    assert "untrained" not in told  # nothing says that a network was recorded


def test_controls_of_several_sources_are_told_apart():
    study = ba.simulate(n_stimuli=40, n_neuroids=3, n_repeats=1, modalities=("fmri",), random_state=0)
    noise = study.network.copy(data=np.random.default_rng(0).normal(size=study.network.shape).astype(np.float32))
    both = ba.evaluate({"real": study.network, "noise": noise}, study.fmri, model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0)
    alone = [beside(both.sel(source=name)).set_index("source") for name in ("real", "noise")]
    table = beside(both).set_index("source")
    np.testing.assert_array_equal(table.n_as_high, alone[0].n_as_high + alone[1].n_as_high)
    n = int((both.score_minus_best_control <= 0).sum())
    assert any(note.startswith(f"{n} of 18 scores are no higher than that of a control") for note in diagnose(both))


def test_a_recorded_network_wants_an_untrained_one():
    import torch

    images = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(30, 12)), stimulus_id=[f"s{i}" for i in range(30)], kind="array"
    )
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.Tanh()), layers="1", system="net")
    x = ba.record(net, images, progress=False)
    y = ba.responses(x.values[:, :2], stimulus_id=x.stimulus_id, neuroid_id=[0, 1], modality="fmri", system="sub-01")
    bare = ba.evaluate(x, y, model=ba.Ridge(alphas=[1.0]), cv=3, random_state=0)
    assert any("No untrained network was given" in note for note in diagnose(bare))
    found = ba.controls(images, responder=net, random_state=0, progress=False)
    out = ba.evaluate(x, y, model=ba.Ridge(alphas=[1.0]), cv=3, controls=found, random_state=0)
    assert "untrained" in out.control.values
    assert not any("untrained network was given" in note for note in diagnose(out))


def test_what_a_source_is_made_of_is_said(scores):
    facts = {"n_features": 40, "n_rows": 100, "n_directions": 40, "top_share": 0.1, "n_massive": 0, "n_known": 0}
    assert noted(scores, source_facts=facts) == noted(scores)
    odd = noted(scores, source_facts=facts | {"n_directions": 6, "top_share": 0.93, "n_massive": 1, "n_known": 4})
    assert "spans 6 independent directions, with 40 features in 100 presentations" in odd
    assert "One direction holds 93% of the variance of the source, which has 40 features" in odd
    assert "1 feature is over 100 times as large as is usual in the source" in odd
    assert "4 tested presentations have exactly the source responses of a training presentation of another name" in odd
    for n_rows, n_directions in ((30, 29), (100, 38)):  # as many as there can be, or almost
        assert "independent" not in noted(scores, source_facts=facts | {"n_rows": n_rows, "n_directions": n_directions})


def test_a_recording_with_one_massive_unit_is_told_apart():
    study = ba.simulate(n_stimuli=20, n_neuroids=5, modalities=("fmri",), random_state=0)
    values = study.fmri.values.copy()
    values[:, 3] *= 1000
    large = study.fmri.copy(data=values)
    assert any("1 feature is over 100 times as large as is usual in the recording" in text for text in diagnose(large))
    assert any("One direction holds 100% of the variance of the recording" in text for text in diagnose(large))
    assert not diagnose(study.fmri)
    assert not any("feature" in text for text in diagnose(large.chunk({"neuroid": 2})))  # not read for a note's sake


def test_decisions_are_a_table(scores, grid):
    entry = {"decision": "alphas", "by": "Ridge", "data": "inner folds", "held_out": True}
    one = decided(scores.assign_attrs(report=json.dumps({"decisions": [entry, {**entry, "held_out": False}]})))
    assert one.columns.tolist() == ["decision", "by", "data", "held out"]
    assert one["held out"].tolist() == ["yes", "no"]
    each = {"each": {name: {"decisions": [entry]} for name in ("sub-01", "sub-02")}}
    assert decided(scores.assign_attrs(report=json.dumps(each)))["of"].tolist() == ["sub-01", "sub-02"]
    assert not len(decided(grid))


def test_a_recovery_study_says_what_it_could_not_tell():
    x = ba.responses(np.random.default_rng(0).normal(size=(20, 4)), stimulus_id=[f"s{i}" for i in range(20)], neuroid_id=range(4), modality="ann",
                     system="net")  # fmt: skip
    study = ba.recovery_study({"a": x, "twin": x[:, ::-1]}, {"model": ba.Ridge(alphas=[1.0]), "cv": 2}, n_neuroids=3, reliability=1.0, n_draws=2,
                              without=["low-level", "untrained"], random_state=0)  # fmt: skip
    told = diagnose(study)
    assert told[0].startswith("Would this comparison know (3 neuroids, 20 stimuli")
    assert told[0].endswith("No.")
    assert any("a cannot be told: it is found in 50%" in text for text in told)
