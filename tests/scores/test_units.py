import numpy as np
import pytest
import xarray as xr
from scipy import stats

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.scores.units import check_result, sign_test, unit_scores

RNG = np.random.default_rng(0)


def people(n=7, effect=0.0, cells=3):
    values = effect + RNG.normal(size=(cells, n))
    return xr.Dataset({"score": (("cell", "subject"), values)}, {"subject": [f"sub-{i}" for i in range(n)]})


@pytest.mark.parametrize("n", [6, 9])
def test_signs_of_few_units_give_the_exact_test_of_scipy(n):
    result = people(n, 0.4)
    out = sign_test(result, None, "subject", 0.0, 1000, np.random.default_rng(0))
    for cell in range(3):
        exact = stats.permutation_test(
            (result.score.values[cell],), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
        )
        assert out.p_value[cell] == pytest.approx(exact.pvalue)
    np.testing.assert_allclose(out.score, result.score.mean("subject"))
    assert out.attrs["n_permutations"] == 2**n - 1


def test_a_difference_is_tested_either_way():
    a, b = people(), people()
    out = sign_test(a, b, "subject", 0.0, 1000, np.random.default_rng(0))
    exact = [
        stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided").pvalue
        for d in (a.score - b.score).values
    ]
    np.testing.assert_allclose(out.p_value, exact)
    swapped = sign_test(b, a, "subject", 0.0, 1000, np.random.default_rng(0))
    np.testing.assert_allclose(swapped.p_value, out.p_value)
    np.testing.assert_allclose(swapped.score, -out.score)


def test_against_something_else_than_nothing():
    result = people(10)
    moved = result.assign(score=result.score + 0.5)
    first = sign_test(result, None, "subject", 0.0, 2000, np.random.default_rng(0))
    again = sign_test(moved, None, "subject", 0.5, 2000, np.random.default_rng(0))
    np.testing.assert_allclose(again.p_value, first.p_value)
    np.testing.assert_allclose(again.score, first.score + 0.5)


def test_units_are_averaged_over_their_neuroids_that_have_a_score():
    status = np.array(["ok", "ok", "constant", "ok", "ok"], dtype="T")
    labels = {"subject": ("neuroid", list("aabbb")), "status": ("neuroid", status)}
    result = xr.Dataset({"score": (("neuroid", "time"), np.arange(10.0).reshape(5, 2))}, labels)
    result["score"][2] = np.nan
    out = unit_scores(result, "subject", owner="test")
    assert out.dims == ("subject", "time")
    np.testing.assert_allclose(out, [[1, 2], [7, 8]])
    assert out.subject.values.tolist() == ["a", "b"]
    result["status"] = "neuroid", np.where(status == "constant", "undefined", status)
    assert np.isnan(unit_scores(result, "subject", owner="test")[1]).all()  # a model's failure is not left out of its mean


def test_folds_count_their_shared_training_rows_and_say_so():
    """t of Nadeau and Bengio: the variance over K folds times 1 + K / (K − 1)."""
    by_fold = 0.2 + 0.1 * RNG.normal(size=(12, 40))
    result = xr.Dataset({"score": ("neuroid", by_fold.mean(axis=0)), "score_by_fold": (("fold", "neuroid"), by_fold - 0.12)})
    out = sign_test(result, None, "fold", 0.0, 5000, np.random.default_rng(0))
    t = stats.ttest_1samp(by_fold - 0.12, 0.0).statistic / np.sqrt(1 + 12 / 11)
    assert np.corrcoef(out.p_value_bound, stats.t.sf(t, 11))[0, 1] > 0.999
    np.testing.assert_allclose(out.p_value_bound, stats.t.sf(t, 11), atol=0.02)
    assert "p_value" not in out  # it is more than a p-value
    assert "share" in out.attrs["assumes"]
    assert "share" not in sign_test(people(), None, "subject", 0.0, 99, np.random.default_rng(0)).attrs["assumes"]


def test_scores_that_are_all_alike_or_all_nothing():
    result = xr.Dataset({"score": (("subject", "cell"), np.tile([0.3, 0.0], (7, 1)))})
    out = sign_test(result, None, "subject", 0.0, 999, np.random.default_rng(0))
    np.testing.assert_allclose(out.p_value, [1 / 128, 1.0])


def test_a_unit_without_a_score_leaves_its_cell_without_a_test():
    result = people()
    result["score"][1, 2] = np.nan
    assert np.isnan(sign_test(result, None, "subject", 0.0, 99, RNG).p_value.values).tolist() == [False, True, False]


def test_messages():
    with pytest.raises(ParameterError, match=r"over='subjct'.*Did you mean 'subject'"):
        unit_scores(people(), "subjct", owner="test")
    with pytest.raises(ParameterError, match="one unit"):
        unit_scores(people(1), "subject", owner="test")
    with pytest.raises(ParameterError, match="without `over`"):
        sign_test(people(), None, None, 0.0, 9, RNG)
    with pytest.raises(AlignmentError, match="same subjects"):
        sign_test(people(6), people(7), "subject", 0.0, 9, RNG)
    with pytest.raises(AlignmentError, match="dims"):
        sign_test(people(), people().isel(cell=0), "subject", 0.0, 9, RNG)
    cells = [people().rename(cell="neuroid").assign_coords(neuroid_id=("neuroid", ids)) for ids in ([0, 1, 2], [0, 1, 3])]
    with pytest.raises(AlignmentError, match="different neuroids"):
        sign_test(*cells, "subject", 0.0, 9, RNG)
    with pytest.raises(SchemaError, match=r"got a list as its x"):
        check_result([1], owner="test", name="x")
    with pytest.raises(SchemaError, match=r"a Dataset of p"):
        check_result(xr.Dataset({"p": 1}), owner="test")


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_one_in_twenty_means_of_folds_passes_that_share_what_refits_show(share):
    """Folds differ by their test rows; what all of them got from the same training rows moves their mean and not their spread."""
    rng, n_folds, n_refits, cells = np.random.default_rng(0), 10, 20, 3000
    by_fold = np.sqrt((1 - share) * n_folds) * rng.normal(size=(n_folds, cells)) + np.sqrt(share) * rng.normal(size=cells)
    refits = np.sqrt(share / 4) * rng.normal(size=(n_refits, cells))  # a jackknife of a fifth: a quarter of the variance
    labels = {"score": ("cell", by_fold.mean(axis=0)), "score_by_fold": (("fold", "cell"), by_fold)}
    without = xr.Dataset(labels)
    zero = without * 0
    rates = {}
    for name, more in (("p_value", {"score_refit": (("refit", "cell"), refits)}), ("p_value_bound", {})):
        pair = without.assign(more), zero.assign({key: (dims, 0 * x) for key, (dims, x) in more.items()})
        rates[name] = float((sign_test(*pair, "fold", 0.0, 199, np.random.default_rng(1))[name] <= 0.05).mean())
    assert rates["p_value"] == pytest.approx(0.05, abs=0.015)
    assert rates["p_value_bound"] < rates["p_value"]
