import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn import signal
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.provenance import provenance


def bold(values, tr=2.0, run="1", onset=None, **more):
    values = np.asarray(values, dtype=np.float32)
    n = len(values)
    return ba.responses(
        values,
        stimulus_id=[f"v{i}" for i in range(n)],
        neuroid_id=range(values.shape[1]),
        modality="fmri",
        system="s",
        onset_s=np.arange(n) * tr if onset is None else onset,
        run=np.broadcast_to(run, n).astype(str),
        **more,
    )


def noise(n=100, k=4, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, k)) + 100).astype(np.float32)


def table(n, tr=2.0, seed=1, run="1"):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"onset_s": np.arange(n) * tr, "run": run, "x": rng.normal(size=n), "y": rng.normal(size=n).cumsum()})


def residual(y, *columns):
    design = np.column_stack([np.ones(len(y)), *columns])
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


def test_motion_quadratic_trend_and_cosines_equal_one_least_squares_fit():
    y, motion = noise(120), table(120)
    t = np.linspace(-1, 1, 120)
    cosines = [np.cos(np.pi * k * (np.arange(120) + 0.5) / 120) for k in range(1, 13)]
    wanted = residual(y.astype(float), t, t**2, *cosines, motion["x"], motion["y"])
    got = ba.Clean(motion, drift_order=2, n_cosines=12).fit_transform(bold(y))
    np.testing.assert_allclose(got.values, wanted, atol=1e-4)


def test_without_detrending_the_mean_stays():
    y, motion = noise(60), table(60)
    got = ba.Clean(motion, detrend=False, drift_order=1).fit_transform(bold(y)).values
    wanted = residual(y.astype(float), np.linspace(-1, 1, 60), motion["x"], motion["y"]) + y.mean(axis=0)
    np.testing.assert_allclose(got, wanted, atol=1e-3)


@pytest.mark.parametrize("options", [
    {"high_pass": 0.02}, {"high_pass": 0.01, "low_pass": 0.1}, {"low_pass": 0.1},
])  # fmt: skip
def test_filters_are_nilearns(options):
    y, motion = noise(150), table(150)
    wanted = signal.clean(y.astype(float), confounds=motion[["x", "y"]].to_numpy(), standardize=None, t_r=2.0, **options)
    names = {"high_pass": "high_pass_hz", "low_pass": "low_pass_hz", "filter": "filter"}
    got = ba.Clean(motion, **{names[k]: v for k, v in options.items()}).fit_transform(bold(y))
    np.testing.assert_allclose(got.values, wanted, atol=1e-4)


def test_the_cosine_filter_is_nilearns_and_survives_confounds_that_resemble_it():
    y, motion = noise(150), table(150)
    wanted = signal.clean(y.astype(float), standardize=None, t_r=2.0, high_pass=0.01, filter="cosine")
    np.testing.assert_allclose(ba.Clean(high_pass_hz=0.01, filter="cosine").fit_transform(bold(y)).values, wanted, atol=1e-4)
    motion["x"] = np.cos(np.pi * 2 * (np.arange(150) + 0.5) / 150)
    got = ba.Clean(motion, high_pass_hz=0.01, filter="cosine").fit_transform(bold(y)).values
    cosines = [np.cos(np.pi * k * (np.arange(150) + 0.5) / 150) for k in range(1, 7)]
    np.testing.assert_allclose(got, residual(y.astype(float), np.arange(150), motion["y"], *cosines), atol=1e-4)


def test_confounds_are_joined_by_time_not_by_row_order():
    y, motion = noise(40), table(50)  # ten more confound rows than volumes
    x = bold(y, onset=np.arange(10, 50) * 2.0)
    got = ba.Clean(motion).fit_transform(x).values
    order = np.random.default_rng(0).permutation(40)
    shuffled = motion.sample(frac=1, random_state=0)
    np.testing.assert_allclose(ba.Clean(shuffled).fit_transform(x[order]).values, got[order], atol=1e-5)
    wanted = residual(y.astype(float), np.arange(40), motion["x"][10:], motion["y"][10:])
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    as_responses = bold(motion[["x", "y"]].to_numpy())
    by_array = ba.Clean(as_responses).fit_transform(x)
    np.testing.assert_allclose(by_array.values, got, atol=1e-4)
    assert set(provenance(by_array).steps[-1]["inputs"]) == {"X", "confounds"}


def test_runs_are_cleaned_apart():
    first, second = noise(50, seed=1), noise(60, seed=2) * 3
    both = bold(np.vstack([first, second]), onset=np.r_[np.arange(50), np.arange(60)] * 2.0, run=["1"] * 50 + ["2"] * 60)
    motion = pd.concat([table(50, run="1"), table(60, run="2", seed=5)])
    step = ba.Clean(motion, high_pass_hz=0.01, standardize="zscore")
    got = step.fit_transform(both).values
    np.testing.assert_allclose(got[:50], step.fit_transform(bold(first)).values, atol=1e-5)
    alone = ba.Clean(table(60, seed=5), high_pass_hz=0.01, standardize="zscore").fit_transform(bold(second))
    np.testing.assert_allclose(got[50:], alone.values, atol=1e-5)


def test_standardisations():
    y = noise(80)
    kept = residual(y.astype(float), np.arange(80))
    clean = {how: ba.Clean(standardize=how).fit_transform(bold(y)) for how in ("std", "zscore", "psc")}
    np.testing.assert_allclose(clean["std"].values, kept / kept.std(0), atol=1e-4)
    np.testing.assert_allclose(clean["zscore"].values, kept / kept.std(0), atol=1e-4)
    np.testing.assert_allclose(clean["psc"].values, signal.clean(y.astype(float), standardize="psc"), atol=1e-4)
    assert clean["psc"].attrs["units"] == "% signal change"
    raw = ba.Clean(detrend=False, standardize="std").fit_transform(bold(y)).values
    np.testing.assert_allclose(raw, y / y.std(0), rtol=1e-5)


@pytest.mark.parametrize("how", [False, "zscore", "std", "psc"])
def test_degenerate_neuroids_disturb_no_one(how):
    y = noise(60, 6)
    y[:, 1], y[:, 3], y[7, 4] = 7.0, np.arange(60) * 3.0, np.nan
    motion = table(60)
    step = ba.Clean(motion, high_pass_hz=0.01, standardize=how)
    got = step.fit_transform(bold(y, allow_nan=True))
    alone = step.fit_transform(bold(y[:, [0, 2, 5]]))
    np.testing.assert_array_equal(got.values[:, [0, 2, 5]], alone.values)
    assert (got.values[:, 1] == 0).all()
    assert (got.values[:, 3] == 0).all()  # a pure trend leaves nothing, not rounding blown up
    assert np.isnan(got.values[:, 4]).all()
    ba.validate(got, deep=True)


def test_a_constant_stays_where_means_stay():
    y = noise(30, 2)
    y[:, 1] = 7.0
    assert (ba.Clean(detrend=False, drift_order=1).fit_transform(bold(y)).values[:, 1] == 7).all()


def test_percent_of_a_zero_mean_is_nan_and_declared():
    y = noise(30, 2)
    y[:, 1] = np.tile([1.0, -1.0], 15)
    got = ba.validate(ba.Clean(standardize="psc").fit_transform(bold(y)), deep=True)
    assert np.isnan(got.values[:, 1]).all()
    assert np.isfinite(got.values[:, 0]).all()


def test_provenance_names_the_confounds():
    got = ba.Clean(table(30)).fit_transform(bold(noise(30)))
    step = provenance(got).steps[-1]
    assert step["verb"] == "Clean"
    assert step["params"]["confounds"]["columns"] == ["x", "y"]
    assert step["params"]["detrend"] is True
    assert provenance(got).altered is False


def test_bad_input():
    x, motion = bold(noise(30)), table(30)
    with pytest.raises(AlignmentError, match=r"no confounds for 10 of 30 rows \(first at 40 s; confounds run from 0 to 38 s"):
        ba.Clean(motion[:20]).fit_transform(x)
    with pytest.raises(AlignmentError, match="share no run"):
        ba.Clean(motion.assign(run="9")).fit_transform(x)
    with pytest.raises(AlignmentError, match="two confound rows for 0 s"):
        ba.Clean(pd.concat([motion, motion])).fit_transform(x)
    with pytest.raises(SchemaError, match="confounds with NaN"):
        ba.Clean(motion.assign(x=np.nan)).fit_transform(x)
    with pytest.raises(SchemaError, match="all numeric"):
        ba.Clean(motion.assign(x="text")).fit_transform(x)
    with pytest.raises(SchemaError, match="the confounds have no `onset_s`"):
        ba.Clean(motion.drop(columns="onset_s")).fit_transform(x)
    with pytest.raises(ParameterError, match="must be a DataFrame or a DataArray"):
        ba.Clean(motion.to_numpy()).fit_transform(x)
    with pytest.raises(SchemaError, match="Clean needs the time of every row"):
        ba.Clean().fit_transform(x.drop_vars("onset_s"))
    with pytest.raises(ParameterError, match=r"less than 0\.25 Hz"):
        ba.Clean(low_pass_hz=0.3).fit_transform(x)
    with pytest.raises(ParameterError, match="high_pass_hz below"):
        ba.Clean(high_pass_hz=0.2, low_pass_hz=0.1).fit_transform(x)
    with pytest.raises(ParameterError, match="`high_pass_hz` alone"):
        ba.Clean(filter="cosine").fit_transform(x)
    with pytest.raises(ParameterError, match="between 8 s and 12 s rows are missing"):
        ba.Clean(high_pass_hz=0.02).fit_transform(x[np.arange(30) != 5])
    with pytest.raises(ParameterError, match=r"would remove 32 columns .* run of 30 rows"):
        ba.Clean(n_cosines=30).fit_transform(x)
    with pytest.raises(ParameterError, match="could not filter a run of 12 rows"):
        ba.Clean(high_pass_hz=0.02).fit_transform(x[:12])
    with pytest.raises(ParameterError, match="'standardize' parameter of Clean"):
        ba.Clean(standardize=True).fit_transform(x)


def test_clone_keeps_the_parameters():
    motion = table(10)
    step = clone(ba.Clean(motion, n_cosines=3))
    assert step.n_cosines == 3
    pd.testing.assert_frame_equal(step.confounds, motion)
    assert ba.Clean().stateless
    assert ba.ZScore().stateless


@settings(max_examples=25)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(0, 1), st.integers(0, 99))
def test_zscore_has_mean_zero_and_unit_spread_in_every_run(lengths, ddof, seed):
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(len(lengths)), lengths)
    order = rng.permutation(len(run))
    y = rng.normal(size=(len(run), 3)) * 10 + 1000 * run[:, None]
    got = ba.ZScore(ddof).fit_transform(bold(y[order], run=run[order].astype(str))).values.astype(float)
    for r in range(len(lengths)):
        part = got[run[order] == r]
        np.testing.assert_allclose(part.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(part.std(0, ddof=ddof), 1, atol=1e-3)


def test_zscore_of_degenerate_neuroids():
    y = noise(20, 3)
    y[:, 1], y[3, 2] = 0.1, np.nan
    got = ba.ZScore().fit_transform(bold(y, allow_nan=True))
    assert (got.values[:, 1] == 0).all()
    assert np.isnan(got.values[:, 2]).all()
    assert got.values[:, 0].std() == pytest.approx(1)
    with pytest.raises(ParameterError, match=r"ZScore\(ddof=1\) got a run of 1 rows"):
        ba.ZScore(1).fit_transform(bold(noise(1)))


def test_zscore_of_epochs_is_per_time_point():
    y = np.random.default_rng(0).normal(size=(8, 2, 3))
    x = ba.responses(y, stimulus_id=list("abcdefgh"), neuroid_id=range(2), modality="meg", system="s", time=[0.0, 0.1, 0.2])
    np.testing.assert_allclose(ba.ZScore().fit_transform(x).values, (y - y.mean(0)) / y.std(0), atol=1e-5)


@pytest.mark.real
def test_people_who_hear_one_story_share_its_response(shared_data):
    """Leave-one-subject-out correlations of the README; the motion files begin ten volumes before the responses."""
    folder = shared_data("alice-fmri-roi")
    people = [p.name.split("-")[0] for p in sorted(folder.glob("10mm/s*-timecourses.txt"))]
    cleaned = []
    for name in people:
        y = np.loadtxt(folder / f"10mm/{name}-timecourses.txt")
        motion = pd.DataFrame(np.loadtxt(next(folder.glob(f"{name}-rp_*.txt")))).add_prefix("motion_")
        motion["onset_s"] = (np.arange(len(motion)) - 10) * 2.0
        step = ba.Clean(motion.sample(frac=1, random_state=0), drift_order=2, n_cosines=12, standardize="zscore")
        cleaned.append(step.fit_transform(bold(y).drop_vars("run")).values)
    assert (cleaned[people.index("s33")] == 0).all()  # the file of this person holds zeros only
    usable = np.array([y for y, name in zip(cleaned, people, strict=True) if name != "s33"])
    others = (usable.sum(0) - usable) / (len(usable) - 1)
    r = [[np.corrcoef(usable[i, :, k], others[i, :, k])[0, 1] for k in range(6)] for i in range(len(usable))]
    np.testing.assert_allclose(np.mean(r, axis=0), [0.195, 0.163, 0.340, 0.174, 0.123, 0.096], atol=0.002)
