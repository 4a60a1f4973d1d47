import json

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.tables import presentation_table

STEP = 0.01
BRAIN = {"modality": "meg", "system": "sub-01"}
KINDS = [BRAIN, {"modality": "ann", "system": "rnn", "layer": "hidden"}]


def recording(values, runs=3, rows=None, **labels):
    """Return rows in time, in runs of equal length, 10 ms apart, in float64."""
    at, per = (np.arange(len(values)) if rows is None else rows), len(values) // runs
    run, sample = at // per, at % per
    x = ba.responses(
        values[at], stimulus_id=[f"r{r}/{s}" for r, s in zip(run, sample, strict=True)], neuroid_id=range(values.shape[1]),
        run=[f"r{r}" for r in run], onset_s=STEP * sample, **(labels or BRAIN),
    )  # fmt: skip
    return x.copy(data=values[at])


def delayed(x, lags, mean=0.0):
    """Return the delayed copies that ``Delay`` makes, in float64."""
    values = np.hstack([matrix @ (x.values - mean) for matrix in ba.Delay(lags).mixing(presentation_table(x))])
    rows = {name: c for name, c in x.coords.items() if c.dims == ("presentation",)}
    return xr.DataArray(
        values, dims=("presentation", "neuroid"), coords=rows | {"neuroid_id": ("neuroid", range(values.shape[1]))}
    )


@pytest.fixture(scope="module")
def sides():
    """A stimulus far from 0, and a recording of which two neuroids follow it after 10 to 40 ms and one does not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 3)) + 5
    y = np.stack(
        [np.convolve(x[:, k], kernel)[:900] for k, kernel in enumerate(([0, 1, 0.5, 0, 0.2], [0, 0, 0, 1]))] + [0 * x[:, 0]], 1
    )
    return x, y + rng.normal(size=y.shape)


@pytest.mark.parametrize("window", [(0.0, 0.05), (-0.04, 0.02), (0.02, 0.05), (-0.05, -0.02)])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("cv", ["run", 5, "overlapping"])
def test_it_is_ridge_on_delayed_copies(sides, window, intercept, cv):
    x, y = (recording(side) for side in sides)
    overlapping = [(np.r_[0:300, 350:700], np.r_[310:340, 710:890]), (np.r_[5:20, 600:900], np.r_[30:599])]
    cv = {"run": ba.split(y, by="run"), "overlapping": overlapping}.get(cv, cv)
    model = ba.TRF(*window, cv=cv, fit_intercept=intercept, dtype="float64").fit(x, y)
    copies = delayed(x, model.lags_s_.round(4), x.values.mean(axis=0) * intercept)
    ridge = ba.Ridge(cv=cv, fit_intercept=intercept, search="all", dtype="float64").fit(copies, y)
    np.testing.assert_allclose(model.alpha_, ridge.alpha_, rtol=1e-11)
    np.testing.assert_allclose(model.cv_score_, ridge.cv_score_, atol=1e-10)
    np.testing.assert_allclose(model.coef_.values.reshape(-1, 3), ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(model.predict(x).values, ridge.predict(copies).values, atol=1e-10)
    inside = x.onset_s.values >= 0.05
    inside &= x.onset_s.values < 2.95
    expected = np.asarray(ridge.predict(copies))[inside]
    by_hand = (delayed(x, model.lags_s_.round(4)).values @ model.coef_.values.reshape(-1, 3) + model.intercept_)[inside]
    np.testing.assert_allclose(by_hand, expected, atol=1e-9)


def test_scores_of_evaluate_are_those_of_the_chain(sides):
    x, y = (recording(side) for side in sides)
    lags, cv = np.arange(6) * STEP, ba.split(y, by="run")
    models = {
        "trf": ba.TRF(0, 0.05, alphas=[1.0, 10.0, 100.0], cv=2, dtype="float64"),
        "chain": ba.chain(
            StandardScaler(with_std=False),
            ba.Delay(lags),
            ba.Ridge(alphas=[1.0, 10.0, 100.0], cv=2, search="all", dtype="float64"),
        ),
    }
    found = {k: ba.evaluate(x, y, model=m, cv=cv, controls="none", random_state=0) for k, m in models.items()}
    np.testing.assert_allclose(found["trf"].score.values, found["chain"].score.values, atol=1e-6)  # Delay rounds to float32
    np.testing.assert_array_equal(found["trf"].alpha.values, found["chain"].alpha.values)
    reports = [json.loads(found[k].attrs["report"]) for k in found]
    assert reports[0]["folds"] == reports[1]["folds"]  # both widen the gap to what they reach
    assert reports[0]["repeats"] == "keep"


@pytest.mark.parametrize("labels", KINDS, ids=["brain", "network"])
def test_forward_and_backward_by_the_same_call(sides, labels):
    sound, y = recording(sides[0][:, :2], modality="behaviour", system="sound"), recording(sides[1], **labels)
    forward = ba.TRF(0.0, 0.05).fit(sound, y)
    assert forward.coef_.dims == ("lag", "source_neuroid", "target_neuroid")
    assert forward.coef_.target_system.values.tolist() == [labels["system"]] * 3
    assert float(forward.coef_.lag[np.argmax(np.abs(forward.coef_.values[:, 1, 1]))]) == pytest.approx(0.03)
    out = ba.evaluate(
        y, sound, model=ba.TRF(-0.05, 0.0, groups="run"), cv=ba.split(sound, by="run"), n_permutations=19, random_state=0
    )
    assert (out.score > 0.5).all()
    assert (out.p_value <= 0.05).all()
    assert (out.score_minus_best_control > 0.3).all()
    ahead = ba.evaluate(
        y, sound, model=ba.TRF(0.0, 0.05, groups="run"), cv=ba.split(sound, by="run"), controls="none", random_state=0
    )
    assert (ahead.score < 0.3).all()  # what was before the sound says nothing of it


def test_smooth_weights_are_recovered_better_by_a_penalty_on_their_steps():
    rng = np.random.default_rng(0)
    truth = np.exp(-0.5 * ((np.arange(30) - 12) / 4.0) ** 2)
    x = rng.normal(size=(3000, 1))
    y = np.convolve(x[:, 0], truth)[:3000, None] + 6 * rng.normal(size=(3000, 1))
    sides = [recording(side, runs=1) for side in (x, y)]
    smooth, plain = (ba.TRF(0.0, 0.29, penalty=penalty).fit(*sides) for penalty in ("laplacian", "ridge"))
    error = [np.square(model.coef_.values[:, 0, 0] - truth).mean() for model in (smooth, plain)]
    assert error[0] < 0.7 * error[1]
    assert not smooth.alpha_at_edge_.any()


def test_rows_in_any_order_missing_rows_and_short_gaps_are_those_of_delay(sides):
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.setdiff1d(np.arange(900), [100, 101, 450, 620, *range(700, 740)]))
    x, y = (recording(side, rows=rows) for side in sides)
    model = ba.TRF(-0.01, 0.03, alphas=5.0, dtype="float64").fit(x, y)
    copies = delayed(x, model.lags_s_.round(4), x.values.mean(axis=0))
    ridge = ba.Ridge(alphas=5.0, dtype="float64").fit(copies, y)
    np.testing.assert_allclose(model.predict(x).values, ridge.predict(copies).values, atol=1e-10)
    order = rng.permutation(len(x))
    np.testing.assert_allclose(model.predict(x[order]).values, model.predict(x).values[order], atol=1e-12)


def test_runs_are_never_crossed(sides):
    x, y = (recording(side) for side in sides)
    model = ba.TRF(-0.02, 0.05).fit(x, y)
    np.testing.assert_allclose(model.predict(x[300:600]).values, model.predict(x).values[300:600], atol=1e-6)


def test_plain_arrays_go_by_the_sampling_rate(sides):
    labelled = ba.TRF(0.0, 0.05, alphas=1.0).fit(*(recording(side, runs=1) for side in sides))
    plain = ba.TRF(0.0, 0.05, alphas=1.0, sampling_rate_hz=100.0).fit(*sides)
    assert isinstance(plain.coef_, np.ndarray)
    np.testing.assert_allclose(plain.coef_, labelled.coef_.values, atol=1e-6)
    np.testing.assert_allclose(plain.predict(sides[0]), labelled.predict(recording(sides[0], runs=1)).values, atol=1e-5)


def test_trials_in_time_are_runs(sides):
    x, y = (recording(side) for side in sides)
    trials = []
    for side in sides:
        trials.append(ba.responses(side.reshape(3, 300, -1).transpose(0, 2, 1), stimulus_id=["a", "b", "c"], neuroid_id=range(3),
                                   time=STEP * np.arange(300), time_reference="stimulus onset", modality="eeg", system="s"))  # fmt: skip
    model = ba.TRF(0.0, 0.05, alphas=1.0)
    found, rows = clone(model).fit(*trials).predict(trials[0]), clone(model).fit(x, y).predict(x)
    ba.validate(found)
    assert found.dims == ("presentation", "neuroid", "time")
    np.testing.assert_allclose(found.values.transpose(0, 2, 1).reshape(900, 3), rows.values, atol=1e-4)
    with pytest.raises(
        AlignmentError, match=r"source of shape \(3, 3, 300\) and a target of shape \(3, 3\). Expected a `time` dim on both"
    ):
        clone(model).fit(trials[0], trials[1][..., 0])


def test_bands_have_a_penalty_each(sides):
    x, y = (recording(side) for side in sides)
    x = ba.bands(first=x[:, :1], other=x[:, 1:])
    gamma = [[1.0, 0.0], [0.5, 0.5], [0.1, 0.9]]
    model = ba.TRF(0.0, 0.05, alphas=[1.0, 100.0, 1e4], bands="band", candidates=gamma, dtype="float64").fit(x, y)
    copies = delayed(x, model.lags_s_.round(4), x.values.mean(axis=0))
    bands = np.tile(x.band.values, 6)
    banded = ba.BandedRidge(alphas=[1.0, 100.0, 1e4], bands=bands, candidates=gamma, search="all", dtype="float64").fit(copies, y)
    np.testing.assert_allclose(model.band_weights_, banded.band_weights_)
    np.testing.assert_allclose(model.alpha_, banded.alpha_)
    np.testing.assert_allclose(model.cv_score_, banded.cv_score_, atol=1e-10)
    np.testing.assert_allclose(model.predict(x).values, banded.predict(copies).values, atol=1e-8)
    assert ba.TRF(0.0, 0.05, bands="band", candidates=3).fit(x, y).band_weights_.shape == (2, 3)
    with pytest.raises(ParameterError, match="The 'candidates' parameter of TRF must be an int, or rows of 2"):
        ba.TRF(bands="band", candidates=[[1.0, 1.0]]).fit(x, y)


def test_degenerate_targets_and_features_disturb_no_other(sides):
    x, y = (recording(side) for side in sides)
    bad_x, bad_y = x.copy(), y.copy()
    bad_y[:, 1], bad_y[5, 2], bad_x[:, 2] = 4.0, np.nan, 7.0
    model = ba.TRF(0.0, 0.05, alphas=[1.0, 10.0]).fit(bad_x, bad_y.assign_attrs(allow_nan=True))
    assert model.status_.tolist() == ["ok", "constant", "nan"]
    assert np.isnan(model.predict(bad_x).values).all(axis=0).tolist() == [False, True, True]
    np.testing.assert_array_equal(model.coef_.values[:, 2, 0], 0)
    alone = ba.TRF(0.0, 0.05, alphas=[1.0, 10.0]).fit(x[:, :2], y[:, :1])
    np.testing.assert_allclose(model.coef_.values[:, :2, 0], alone.coef_.values[..., 0], atol=1e-5)
    bad_x[3, 1] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 3 features"):
        lost = ba.TRF(0.0, 0.05, alphas=1.0).fit(bad_x.assign_attrs(allow_nan=True), y)
    assert (lost.coef_.values[:, 1] == 0).all()


def test_what_cannot_be_fitted_is_refused_with_the_reason(sides):
    x, y = (recording(side) for side in sides)
    for tmin, tmax, match in (
        (0.0, 3.5, r"a run of 300 samples, for lags from 0 to 350 samples \(0 to 3.5 s\). Expected runs that are longer"),
        (0.002, 0.008, r"a window from 0.002 to 0.008 s, in which no sample lies: they are 0.01 s apart"),
        (0.2, 0.1, r"'tmax_s' parameter of TRF must be a float in the range \[0.2, inf\)"),
    ):
        with pytest.raises(ParameterError, match=match):
            ba.TRF(tmin, tmax).fit(x, y)
    onset = x.onset_s.values.copy()
    onset[10] += 0.004
    with pytest.raises(ParameterError, match=r"TRF: the source, run r0: rows are not regularly sampled"):
        ba.TRF().fit(x.assign_coords(onset_s=("presentation", onset)), y)
    onset = np.where(x.run == "r1", 2 * x.onset_s, x.onset_s)
    with pytest.raises(
        ParameterError, match=r"TRF got intervals from 0.01 to 0.02 s. Expected runs that are regularly sampled, at one rate"
    ):
        ba.TRF().fit(x.assign_coords(onset_s=("presentation", onset)), y)
    with pytest.raises(
        SchemaError, match=r"TRF needs the time of every row, and the source has no `onset_s`. .* or `sampling_rate_hz=`"
    ):
        ba.TRF().fit(x.drop_vars("onset_s"), y)
    with pytest.raises(ParameterError, match="'penalty' parameter of TRF must be one of 'ridge', 'laplacian'"):
        ba.TRF(penalty="lasso").fit(x, y)
    model = ba.TRF(0.0, 0.05, alphas=1.0).fit(x, y)
    with pytest.raises(AlignmentError, match=r"TRF got rows that are 0.02 s apart. Expected 0.01 s, as in `fit`"):
        model.predict(x.assign_coords(onset_s=2 * x.onset_s))
    with pytest.raises(AlignmentError, match="got 2 features"):
        model.predict(x[:, :2])
