import json

import brainalign as ba
from brainalign.reports.diagnoses import diagnose, join_report


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
