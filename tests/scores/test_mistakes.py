"""Every known way to a score that is not there: it raises, or scores at its null, beside the wrong way done by hand.

The sizes of the mistakes in simulation are those that papers and public pipelines have suffered from. Bands are wide
enough for another seed, and far from what the mistake gives.
"""

import warnings

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, LeakWarning, ParameterError, SplitError

FIXED = ba.Ridge(alphas=[10.0], dtype="float64")


def recording(values, ids, *, system="sub-01", **labels):
    neuroids = [f"n{i}" for i in range(values.shape[1])]
    return ba.responses(
        np.asarray(values, np.float32), stimulus_id=ids, neuroid_id=neuroids, modality="fmri", system=system, **labels
    )


def autoregressive(rng, n_rows, width, phi=0.98, n_runs=1):
    """Independent slow signals; every run starts from its stationary state."""
    noise = rng.normal(size=(n_runs, n_rows + 300, width))
    return np.concatenate([lfilter([1.0], [1.0, -phi], part, axis=0)[300:] for part in noise]) * np.sqrt(1 - phi**2)


def in_time(n_rows, n_runs=1, tr=2.0):
    run = np.repeat([str(r) for r in range(n_runs)], n_rows)
    onset = np.tile(np.arange(n_rows) * tr, n_runs)
    return [f"run-{r}/v{t:05.0f}" for r, t in zip(run, onset, strict=True)], {"run": run, "onset_s": onset}


def columnwise(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0))


def score_by_hand(x, y, folds, alpha=10.0):
    """Mean over folds of r of a ridge fitted on each fold's training rows."""
    models = [SklearnRidge(alpha=alpha).fit(x[train], y[train]) for train, _ in folds]
    scores = [columnwise(m.predict(x[test]).reshape(-1, y.shape[1]), y[test]) for m, (_, test) in zip(models, folds, strict=True)]
    return float(np.mean(scores))


def shuffled(n, n_splits=5):
    return list(KFold(n_splits, shuffle=True, random_state=0).split(np.arange(n)))


def mean(result):
    return float(result.score.mean())


# Neighbours in time -------------------------------------------------------------------------------------------------


def test_shuffled_folds_of_a_recording_in_time_are_refused():
    rng = np.random.default_rng(0)
    ids, labels = in_time(120, n_runs=5)
    x, y = (recording(autoregressive(rng, 120, 20, n_runs=5), ids, **labels) for _ in "xy")
    assert score_by_hand(x.values, y.values, shuffled(600)) > 0.4
    with pytest.raises(SplitError, match="neighbours in time"):
        ba.split(y, shuffle=True)
    with pytest.raises(SplitError, match="neighbours in time"):
        ba.split(y, by="stimulus_id", n_splits=5, shuffle=True)
    assert abs(mean(ba.evaluate(x, y, model=FIXED))) < 0.15
    forced = ba.split(y, shuffle=True, n_splits=5, force=True, random_state=0)
    assert mean(ba.evaluate(x, y, model=FIXED, cv=forced)) > 0.4
    assert forced.describe()["forced"]


def test_one_run_is_cut_into_blocks_with_a_gap():
    rng = np.random.default_rng(1)
    ids, labels = in_time(1500)
    x, y = (recording(autoregressive(rng, 1500, 20), ids, **labels) for _ in "xy")
    assert score_by_hand(x.values, y.values, shuffled(1500)) > 0.3
    assert abs(mean(ba.evaluate(x, y, model=FIXED))) < 0.15
    for _, train, test in ba.split(y).on(y):
        assert np.abs(y.onset_s.values[train][:, None] - y.onset_s.values[test]).min() > 10.0


@pytest.mark.parametrize("delay", [0.0, 13.0], ids=["same onsets", "later in its run"])
def test_a_film_shown_twice_is_still_a_film(delay):
    rng = np.random.default_rng(2)
    ids, labels = in_time(400)
    film = autoregressive(rng, 400, 20)
    onset = np.concatenate([labels["onset_s"], labels["onset_s"] + delay])
    y = recording(np.tile(film, (2, 1)), ids * 2, run=np.repeat(["1", "2"], 400), onset_s=onset)
    x = recording(autoregressive(rng, 400, 20), ids, system="net")
    assert score_by_hand(x.values, film, shuffled(400)) > 0.4
    assert abs(mean(ba.evaluate(x, y, model=FIXED))) < 0.25
    for _, train, test in ba.split(y).on(y):
        assert not set(y.stimulus_id.values[train]) & set(y.stimulus_id.values[test])
        assert np.diff(np.flatnonzero(np.isin(np.arange(400), test))).max() == 1


def test_events_in_random_order_are_drawn_freely():
    rng = np.random.default_rng(3)
    ids = np.concatenate([rng.permutation([f"s{i}" for i in range(30)]) for _ in range(4)])
    y = recording(rng.normal(size=(120, 3)), ids, run=np.repeat(list("1234"), 30), onset_s=np.tile(np.arange(30) * 4.0, 4))
    assert ba.split(y, random_state=0).describe()["shuffle"]


def test_one_side_knows_the_times_of_both():
    rng = np.random.default_rng(4)
    ids, labels = in_time(120, n_runs=5)
    timed = recording(autoregressive(rng, 120, 20, n_runs=5), ids, **labels)
    bare = recording(autoregressive(rng, 120, 20, n_runs=5), ids, system="net")
    assert score_by_hand(timed.values, bare.values, shuffled(600)) > 0.4
    for source, target in ((timed, bare), (bare, timed)):
        out = ba.evaluate(source, target, model=FIXED)
        assert out.fold.values.tolist() == list("01234")
        assert abs(mean(out)) < 0.15


def test_alpha_is_chosen_across_gaps_too():
    rng = np.random.default_rng(5)
    ids, labels = in_time(120, n_runs=3)
    x, y = (recording(autoregressive(rng, 120, 20, n_runs=3), ids, **labels) for _ in "xy")
    chosen, grid = ba.Ridge().fit(x, y).alpha_, 20 * np.logspace(-3, 6, 19)
    wrong = [[score_by_hand(x.values, y.values, shuffled(360), a) for a in grid]]
    assert grid[int(np.argmax(wrong))] < 0.1 * np.median(chosen)


def test_the_gap_covers_whatever_a_step_looks_at():
    ids, labels = in_time(200, tr=1.0)
    x = recording(np.random.default_rng(6).normal(size=(200, 2)), ids, **labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = ba.evaluate(x, x, model=ba.chain(ba.Delay([-9, 9]), FIXED))
    assert '"gap_s": 18' in out.attrs["report"]  # rows 18 s apart look at one row that both share


# Delays -------------------------------------------------------------------------------------------------------------


def test_delays_do_not_cross_runs():
    n_runs, n, delays = 10, 20, (2, 4, 6, 8)
    ids, labels = in_time(n, n_runs)
    x = recording(1.0 + np.arange(n_runs * n)[:, None], ids, **labels)
    naive = np.column_stack([np.concatenate([np.zeros(k), x.values[:-k, 0]]) for k in range(1, 5)])
    run = labels["run"]
    crossed = sum((run[k:] != run[:-k]).sum() for k in range(1, 5))
    assert crossed == (n_runs - 1) * (1 + 2 + 3 + 4)
    ours = ba.Delay(delays).fit_transform(x).values
    assert (ours != naive).sum() == crossed
    assert not ours[np.arange(n_runs) * n].any()


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0], ids=["constant", "nearly", "noise far from 0"])
def test_padding_does_not_let_empty_features_predict_the_start_of_a_run(spread):
    rng = np.random.default_rng(7)
    n, n_runs, v = 80, 5, 30
    ids, labels = in_time(n, n_runs)
    transient = np.tile(2 * np.exp(-np.arange(n) / 3), n_runs)[:, None]
    y = recording(transient + rng.normal(size=(n * n_runs, v)), ids, **labels)
    x = recording(7.0 + spread * rng.normal(size=(n * n_runs, 3)), ids, system="net", **labels)
    model = ba.chain(ba.Delay([2, 4, 6, 8]), FIXED)
    padded = ba.Delay([2, 4, 6, 8]).fit_transform(x).values
    assert score_by_hand(padded, y.values, [(f.train, f.test) for f in ba.split(y).on(y)]) > 0.2
    out = ba.evaluate(x, y, model=model)
    assert out.score.isnull().all() if spread == 0 else abs(mean(out)) < 0.06


def test_constant_features_score_nothing_on_a_simulated_brain():
    study = ba.simulate(n_stimuli=60, n_neuroids=4, n_repeats=2, random_state=0)
    network = study.network.copy(data=np.full(study.network.shape, 3.0, np.float32))
    assert ba.evaluate(network, study.brain, random_state=0).score.isnull().all()


def test_a_lanczos_sum_carries_the_word_rate_and_a_mean_does_not():
    rng = np.random.default_rng(8)
    volumes, tr = 150, 2.0
    rate = rng.integers(1, 12, size=volumes)
    onset = np.sort(np.concatenate([tr * (i + rng.random(k)) for i, k in enumerate(rate)]))
    words = recording(
        1 + 0.5 * rng.normal(size=(len(onset), 10)), [f"w{i}" for i in range(len(onset))], onset_s=onset, run="0",
        duration_s=np.full(len(onset), 0.1),
    )  # fmt: skip
    ids, labels = in_time(volumes)
    bold = recording(rng.normal(size=(volumes, 1)), ids, duration_s=np.full(volumes, tr), **labels)

    def likeness(how, **options):
        values = ba.WordsToVolumes(how, **options).transform(words, bold).values
        return abs(np.corrcoef(values.mean(1), np.histogram(onset, np.arange(volumes + 1) * tr)[0])[0, 1])

    assert likeness("lanczos", normalize="sum") > 0.8
    assert likeness("lanczos", normalize="mean") < 0.3
    assert likeness("sum") > 0.9
    assert likeness("mean") < 0.3


# Repeats, selection, folds --------------------------------------------------------------------------------------------


def repeated(rng, n_stimuli=60, n_repeats=4, width=80, v=40):
    """Features that know each stimulus by heart and nothing else, and responses to it that have nothing to do with them."""
    ids = np.repeat([f"s{i:03d}" for i in range(n_stimuli)], n_repeats)
    x = np.repeat(rng.normal(size=(n_stimuli, width)), n_repeats, axis=0)
    y = np.repeat(rng.normal(size=(n_stimuli, v)), n_repeats, axis=0) + rng.normal(size=(len(ids), v))
    return recording(x, ids, system="net"), recording(y, ids)


@pytest.mark.parametrize("repeats", ["average", "keep", "train-single"])
def test_repeats_of_a_stimulus_stay_on_one_side(repeats):
    x, y = repeated(np.random.default_rng(9))
    assert score_by_hand(x.values, y.values, shuffled(240)) > 0.2
    with pytest.raises(SplitError, match="on both sides"):
        ba.split(y, test=np.arange(240) % 4 == 0)
    assert abs(mean(ba.evaluate(x, y, model=FIXED, repeats=repeats, random_state=0))) < 0.12


def test_alpha_is_not_chosen_on_repeats_of_its_training_stimuli():
    x, y = repeated(np.random.default_rng(10))
    model = ba.Ridge(alphas=np.logspace(-2, 5, 8))
    rows = [np.arange(240)[i::5] for i in range(5)]
    wrong = ba.Ridge(alphas=np.logspace(-2, 5, 8), cv=[(np.setdiff1d(np.arange(240), test), test) for test in rows])
    assert np.median(model.fit(x, y).alpha_) >= 10 * np.median(wrong.fit(x.values, y.values).alpha_)


def test_selection_scaling_and_reduction_live_in_the_fold():
    rng = np.random.default_rng(11)
    n, p = 60, 2000
    ids = [f"s{i}" for i in range(n)]
    scores, wrong = [], []
    for _ in range(6):
        x, y = recording(rng.normal(size=(n, p)), ids, system="net"), recording(rng.normal(size=(n, 1)), ids)
        picked = SelectKBest(f_regression, k=20).fit_transform(x.values, y.values[:, 0])
        wrong.append(score_by_hand(picked, y.values, shuffled(n)))
        model = ba.chain(SelectKBest(f_regression, k=20), StandardScaler(), PCA(10), FIXED)
        scores.append(mean(ba.evaluate(x, y, model=model, random_state=0)))
    assert np.mean(wrong) > 0.6
    assert abs(np.mean(scores)) < 0.2


def test_a_selection_never_sees_the_target_of_test_rows():
    rng = np.random.default_rng(12)
    ids = [f"s{i}" for i in range(60)]
    x, y = recording(rng.normal(size=(60, 50)), ids, system="net"), recording(rng.normal(size=(60, 1)), ids)
    train, spoiled = np.arange(40), y.copy(deep=True)
    spoiled[40:] = x.values[40:, :1] * 100
    picked = [ba.chain(SelectKBest(f_regression, k=5), FIXED).fit(x, t, rows=train).steps_[0].get_support() for t in (y, spoiled)]
    np.testing.assert_array_equal(*picked)


def test_what_was_reduced_before_the_folds_is_named():
    rng = np.random.default_rng(13)
    ids = [f"s{i}" for i in range(40)]
    x, y = recording(rng.normal(size=(40, 20)), ids, system="net"), recording(rng.normal(size=(40, 2)), ids)
    with pytest.warns(LeakWarning, match="Reduce was fitted on all presentations"):
        ba.evaluate(ba.Reduce(5).fit_transform(x), y, model=FIXED, random_state=0)


def test_predictions_of_different_folds_are_not_concatenated():
    rng = np.random.default_rng(14)
    n, v = 60, 150
    ids = [f"s{i}" for i in range(n)]
    x, y = recording(rng.normal(size=(n, 5)), ids, system="net"), recording(rng.normal(size=(n, v)), ids)
    strong = ba.Ridge(alphas=[1e6], dtype="float64")
    for n_splits in (10, 30):
        folds = ba.split(y, n_splits=n_splits, random_state=0)
        stacked = np.empty(y.shape)
        for _, train, test in folds.on(y):
            stacked[test] = SklearnRidge(alpha=1e6).fit(x.values[train], y.values[train]).predict(x.values[test])
        assert columnwise(stacked, y.values).mean() < -0.25
        assert abs(mean(ba.evaluate(x, y, model=strong, cv=folds))) < 0.12


def test_width_does_not_rank_layers():
    rng = np.random.default_rng(15)
    n, v = 300, 20
    ids, latent = [f"s{i}" for i in range(n)], rng.normal(size=(n, 20))
    y = recording(latent @ rng.normal(size=(20, v)) / np.sqrt(20) + rng.normal(size=(n, v)), ids)
    layers = []
    for p in (50, 300, 3000):
        values = latent @ rng.normal(size=(20, p)) / np.sqrt(20) + rng.normal(size=(n, p))
        layers.append(recording(values, ids, system="net", layer=f"p{p}"))
    folds = ba.split(y, n_splits=4, random_state=0)
    rows = [(f.train, f.test) for f in folds.on(y)]
    by_hand = [score_by_hand(x.values, y.values, rows, alpha=1.0) for x in layers]
    ours = [mean(ba.evaluate(x, y, cv=folds)) for x in layers]
    assert by_hand[1] < by_hand[0] < by_hand[2]  # the same information, and the middle width comes last
    assert ours[0] - 0.01 < ours[1] < ours[2]


# Metrics and ceilings -----------------------------------------------------------------------------------------------


def test_a_perfect_prediction_has_r_1():
    rng = np.random.default_rng(16)
    y = rng.normal(size=(10, 3))
    wrong = ((y - y.mean(0)) / y.std(0, ddof=1)) ** 2
    np.testing.assert_allclose(wrong.mean(0), 0.9)
    x = recording(y, [f"s{i}" for i in range(10)])
    out = ba.evaluate(x, x, model=ba.Ridge(alphas=[0.0], dtype="float64"), cv=2, random_state=0)
    np.testing.assert_allclose(out.score, 1.0, atol=1e-6)


def noisy(rng, counts, v, signal=1.0, noise=2.0):
    truth = np.sqrt(signal) * rng.normal(size=(len(counts), v))
    trials = np.repeat(truth, counts, axis=0)
    trials = trials + np.sqrt(noise) * rng.normal(size=trials.shape)
    names = np.array([f"s{i:04d}" for i in range(len(counts))])
    return recording(truth, names, system="net", deterministic=True), recording(trials, np.repeat(names, counts)), truth


@pytest.mark.parametrize("repeats", ["average", "keep", "train-single"])
def test_a_true_model_reaches_the_ceiling_of_the_rows_that_are_scored(repeats):
    x, y, _ = noisy(np.random.default_rng(17), [4] * 300, 25)
    out = ba.evaluate(x, y, model=ba.Ridge(), repeats=repeats, ceiling="repeat", random_state=0)
    truth = np.sqrt(1 / (1 + 2 / (1 if repeats == "keep" else 4)))
    assert float(out.ceiling.mean()) == pytest.approx(truth, abs=0.02)
    assert float(out.score.mean() / out.ceiling.mean()) == pytest.approx(1.0, abs=0.06)
    if repeats == "keep":  # a ceiling of averages beside a score of single presentations
        assert float((out.score / ba.noise_ceiling(y, random_state=0)).mean()) < 0.75


def test_r_and_r2_are_divided_by_their_own_ceiling():
    x, y, _ = noisy(np.random.default_rng(18), [4] * 300, 25)
    parts = {m: ba.evaluate(x, y, metric=m, ceiling="repeat", random_state=0) for m in ("pearson", "r2")}
    reliability = float((ba.noise_ceiling(y, random_state=0) ** 2).mean())
    assert mean(parts["pearson"]) / reliability > 1.1  # r divided by ρ passes 1
    assert float(parts["pearson"].score_normalized.mean()) == pytest.approx(0.97, abs=0.05)
    assert float(parts["r2"].score_normalized.mean()) == pytest.approx(0.93, abs=0.08)
    squared = ba.noise_ceiling(y, random_state=0) ** 2
    squared.attrs["kind"] = "r2"
    with pytest.raises(ParameterError, match="ceiling of kind 'r2'"):
        ba.evaluate(x, y, ceiling=squared, random_state=0)


def test_a_ceiling_of_other_neuroids_is_refused():
    x, y, _ = noisy(np.random.default_rng(19), [3] * 60, 4)
    with pytest.raises(AlignmentError, match="neuroid 0 is n3, where the target's is n0"):
        ba.evaluate(x, y, ceiling=ba.noise_ceiling(y, random_state=0)[::-1], random_state=0)


def test_three_repeats_are_not_split_one_against_two():
    _, y, _ = noisy(np.random.default_rng(20), [3] * 500, 100, signal=0.3, noise=0.7)
    trials = y.values.reshape(500, 3, 100)
    r = columnwise(trials[:, 0], trials[:, 1:].mean(1)).mean()
    assert 2 * r / (1 + r) < 0.55
    assert float((ba.noise_ceiling(y, n_splits=20, random_state=0) ** 2).mean()) == pytest.approx(0.5625, abs=0.008)


def test_normalised_scores_are_ratios_of_means():
    x, y, truth = noisy(np.random.default_rng(21), [3] * 300, 400, signal=0.03, noise=0.97)
    y = y.assign_coords(region=("neuroid", ["V1"] * 400))
    x = x[:, :10].assign_coords(layer=("neuroid", ["a"] * 10))
    ceiling = ba.noise_ceiling(y, random_state=0)
    average = ba.average_repeats(y).values
    perfect, known = columnwise(truth, average), np.isfinite(ceiling.values)
    of_ratios = (perfect[known] / ceiling.values[known]).mean()
    assert of_ratios - perfect[known].mean() / ceiling.values[known].mean() > 0.05
    out = ba.compare(x, y, by=("layer", "region"), model=FIXED, ceiling=ceiling, aggregate="mean", cv=2, random_state=0)
    cell = out.score_neuroid.values[0]
    assert float(out.score_normalized[0, 0]) == pytest.approx(cell[known].mean() / ceiling.values[known].mean(), rel=1e-4)


# Rows, seeds, chunks ------------------------------------------------------------------------------------------------


def test_sides_in_another_order_are_joined_by_name():
    x, y, _ = noisy(np.random.default_rng(22), [1] * 120, 6, noise=0.5)
    mixed = np.random.default_rng(0).permutation(120)
    assert abs(score_by_hand(x.values[mixed], y.values, shuffled(120))) < 0.2
    straight, joined = (ba.evaluate(s, y, model=FIXED, cv=5, random_state=0) for s in (x, x[mixed]))
    np.testing.assert_allclose(joined.score, straight.score, atol=1e-6)
    assert mean(straight) > 0.7
    with pytest.raises(AlignmentError, match="presentation"):
        ba.Ridge(alphas=[1.0]).fit(x[mixed], y)
    with pytest.raises(AlignmentError, match="share 0"):
        ba.evaluate(x.assign_coords(stimulus_id=("presentation", [f"{i}" for i in range(120)])), y, model=FIXED)


def test_every_drawn_seed_is_kept_and_gives_the_result_again():
    x, y, _ = noisy(np.random.default_rng(23), [2] * 40, 5)
    first = ba.evaluate(x, y, model=FIXED, ceiling="repeat")
    seed = ba.core.provenance(first).steps[-1]["seed"]
    again = ba.evaluate(x, y, model=FIXED, ceiling="repeat", random_state=seed)
    np.testing.assert_array_equal(first.score, again.score)
    np.testing.assert_array_equal(first.ceiling, again.ceiling)
    other = ba.evaluate(x, y, model=FIXED, ceiling="repeat", random_state=seed + 1)
    assert not np.array_equal(first.score, other.score)


@pytest.mark.parametrize("chunks", [(7, 3), (40, 1), (1, 40)])
def test_chunks_change_no_number(tmp_path, chunks):
    x, y, _ = noisy(np.random.default_rng(24), [2] * 40, 12)
    x = x.assign_coords(layer=("neuroid", ["a"] * 5 + ["b"] * 7))
    ba.save(x, tmp_path / "study.zarr", name="net")
    stored = ba.open_responses(tmp_path / "study.zarr").chunk(dict(zip(("presentation", "neuroid"), chunks, strict=True)))
    lazy = y.chunk(dict(zip(("presentation", "neuroid"), chunks, strict=True)))
    options = {"model": ba.chain(StandardScaler(), FIXED), "cv": 4, "ceiling": "repeat", "random_state": 0}
    expected, ours = ba.evaluate(x, y, **options), ba.evaluate(stored, lazy, **options)
    for name in ("score", "score_by_fold", "ceiling", "score_normalized"):
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ba.rdm(stored, metric="correlation"), ba.rdm(x, metric="correlation"), atol=1e-6)
    np.testing.assert_allclose(ba.noise_ceiling(lazy, random_state=0), ba.noise_ceiling(y, random_state=0), atol=1e-7)
