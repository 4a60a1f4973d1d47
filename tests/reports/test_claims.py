"""A claim and its evidence; what is missing is said, with the way to get it."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.reports.claims import claim, claim_of, evidence

SAID = {"hypothesis": "V1 reads conv1", "alternative": "any layer would do", "test": "conv1 scores above 95% of shuffled stimuli"}


def told(result):
    return evidence(result).set_index("evidence").value.to_dict()


def test_a_claim_travels_with_the_result(scores, tmp_path):
    claimed = claim(scores, **SAID)
    assert claim_of(claimed) == SAID
    assert claim_of(scores) == {}
    step = ba.core.provenance(claimed).steps[-1]
    assert step["verb"] == "claim"
    assert step["params"] == SAID
    assert told(claimed)["alternative"] == "any layer would do"
    page = ba.reports.report(claimed, tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (*SAID.values(), "null percentile", "missing: score with `n_permutations=1000`"):
        assert text in page


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("value", ["", "  ", None])
def test_half_a_claim_is_none(scores, name, value):
    with pytest.raises(ParameterError, match=rf"The '{name}' parameter of claim must be a sentence. Got {value!r} instead"):
        claim(scores, **{**SAID, name: value})


def test_a_claim_needs_a_result():
    with pytest.raises(ParameterError, match="claim got a DataArray without `score`"):
        claim(xr.DataArray([1.0]), **SAID)
    with pytest.raises(ParameterError, match="evidence got a Dataset without `score`"):
        evidence(xr.Dataset())


def test_of_one_score_everything_is_shown_as_it_is():
    result = xr.Dataset(
        {
            "score": ("neuroid", [0.3]), "ci_low": ("neuroid", [0.1]), "ci_high": ("neuroid", [0.45]), "p_value": ("neuroid", [0.03]),
            "ceiling": ("neuroid", [0.8]), "score_minus_best_control": ("neuroid", [0.12]), "n_presentations": 400,
        },
        attrs={"metric": "pearson", "n_permutations": 99},
    )  # fmt: skip
    found = told(result)
    assert found["effect"] == "pearson 0.300"
    assert found["interval"] == "0.100 to 0.450"
    assert found["null percentile"] == "98.0% of 99 null scores (p = 0.03)"  # two of ninety-nine are as high
    assert found["best control"] == "0.120 below the score"
    assert found["ceiling"] == "0.800"
    assert found["n"] == "400 presentations, 1 scores"
    assert found["hypothesis"] == "missing: `ba.reports.claim`"


def test_of_many_scores_the_medians_and_how_many_pass():
    p = np.array([0.01, 0.01, 0.5, np.nan])
    result = xr.Dataset(
        {
            "score": ("neuroid", [0.5, 0.4, 0.0, np.nan]), "p_value": ("neuroid", p), "p_value_max": ("neuroid", np.sqrt(p)),
            "ci_low": ("neuroid", [0.4, 0.2, -0.1, np.nan]), "ci_high": ("neuroid", [0.6, 0.6, 0.1, np.nan]),
            "score_minus_best_control": ("neuroid", [0.3, -0.1, -0.2, np.nan]),
        },
        attrs={"metric": "r2", "n_permutations": 99},
    )  # fmt: skip
    found = told(result)
    assert found["effect"] == "r2 0.400, median of 3 scores (quartiles 0.200 and 0.450)"
    assert found["interval"] == "0.200 to 0.600 (medians); 2 of 3 lie above 0"
    assert found["null percentile"] == "100.0% of 99 null scores (median); 0 of 3 pass p_value_max ≤ .05"
    assert found["best control"] == "score less best control -0.100 (median); 1 of 3 are ahead of every control"
    assert found["n"] == "missing: keep `n_presentations` in the result"
    assert found["ceiling"].startswith("missing: score with `ceiling=`")


def test_a_result_of_evaluate_is_read():
    study = ba.simulate(n_stimuli=40, n_neuroids=3, modalities=("fmri",), random_state=0)
    result = ba.evaluate(
        study.network, study.fmri, model=ba.Ridge(alphas=[10.0]), cv=3, ceiling="repeat", n_permutations=9, random_state=0
    )
    found = told(result)
    assert "missing" in found["interval"]
    assert "of 9 null scores (median)" in found["null percentile"]
    assert found["ceiling"].endswith("mean of 9")
    assert found["n"] == "40 presentations, 9 scores"
    table = ba.compare(
        study.network, study.fmri, by=("layer", "region"), model=ba.Ridge(alphas=[10.0]), cv=3, controls="none", random_state=0
    )
    assert told(table)["n"] == "40 presentations, 12 scores"


def test_a_bound_on_p_is_not_called_p():
    result = xr.Dataset(
        {"score": ("neuroid", [0.3, 0.2]), "p_value_bound": ("neuroid", [0.02, 0.2])}, attrs={"n_permutations": 99}
    )
    assert told(result)["null percentile"] == "1 of 2 pass p_value_bound ≤ .05: a bound, score with `n_refits=20` for p itself"
    assert told(result[{"neuroid": [0]}])["null percentile"].startswith("p ≤ 0.02: a bound")


def test_geometries_have_bounds_and_stimuli():
    result = xr.Dataset({"score": 0.4, "ceiling_low": 0.5, "ceiling_high": 0.7, "n_stimuli": 92}, attrs={"metric": "rho-a"})
    found = told(result)
    assert found["ceiling"] == "0.500 to 0.700"
    assert found["n"] == "92 stimuli, 1 scores"


def test_nothing_defined_is_said(scores):
    assert told(scores.assign(score=scores.score * np.nan))["effect"] == "pearson is not defined"


def test_intervals_are_held_against_chance():
    result = xr.Dataset(
        {"score": ("time", [0.5, 0.9]), "ci_low": ("time", [0.4, 0.8]), "ci_high": ("time", [0.6, 0.95]), "chance": 0.5},
        attrs={"metric": "auc"},
    )
    assert told(result)["interval"].endswith("1 of 2 lie above chance")
    assert told(result.drop_vars("chance"))["interval"].endswith("2 of 2 lie above 0")
