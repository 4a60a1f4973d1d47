"""Nulls: equal to scoring again by hand, calibrated on noise, and strong on a planted effect."""

import numpy as np
import pytest
from scipy.stats import binom

import brainalign as ba
from brainalign.core.errors import NullWarning, ParameterError, SplitError
from brainalign.dataset.folds import Fold
from brainalign.scores.inference import choose_null, null_orders
from brainalign.scores.pairing import Pair

FAST = {"modality": "fmri", "system": "brain"}


def sides(x, y, **coords):
    ids = [f"s{i:04d}" for i in range(len(x))]
    source = ba.responses(x, stimulus_id=ids, neuroid_id=range(x.shape[1]), modality="ann", system="net", layer="l", **coords)
    target = ba.responses(y, stimulus_id=ids, neuroid_id=range(y.shape[1]), **FAST, region="r", **coords)
    return source, target


def autocorrelated(n, columns, phi, rng):
    x = rng.normal(size=(n, columns))
    for i in range(1, n):
        x[i] = phi * x[i - 1] + np.sqrt(1 - phi**2) * x[i]
    return x


def in_runs(n, n_runs):
    return {
        "run": np.repeat([str(i) for i in range(n_runs)], n // n_runs),
        "onset_s": np.tile(2.0 * np.arange(n // n_runs), n_runs),
    }


@pytest.mark.parametrize("null", ["exchange", "shift"])
def test_many_targets_at_once_equal_scoring_each_order_again(null, monkeypatch):
    rng = np.random.default_rng(0)
    source, target = sides(rng.normal(size=(60, 4)), rng.normal(size=(60, 3)), **(in_runs(60, 3) if null == "shift" else {}))
    options = {"groups": "run"} if null == "shift" else {"cv": 3}
    at_once = ba.evaluate(source, target, n_permutations=7, random_state=3, **options)
    monkeypatch.setattr("brainalign.scores.inference._VALUES", 1)
    one_by_one = ba.evaluate(source, target, n_permutations=7, random_state=3, **options)
    np.testing.assert_array_equal(at_once.p_value, one_by_one.p_value)
    assert at_once.attrs["null"] == null


def test_a_mapping_that_fits_targets_together_sees_one_permutation_at_a_time(monkeypatch):
    """PLS shares its components over targets: with other permutations beside it, each would be fitted worse than the real one."""
    rng = np.random.default_rng(0)
    source, target = sides(rng.normal(size=(60, 8)), rng.normal(size=(60, 3)))
    fitted = []
    fit = ba.PLS.fit
    monkeypatch.setattr(ba.PLS, "fit", lambda self, X, Y: fitted.append(Y.shape[1]) or fit(self, X, Y))
    out = ba.evaluate(source, target, model=ba.PLS(2), cv=3, n_permutations=7, controls="none", random_state=3)
    assert set(fitted) == {3}
    assert np.isfinite(out.p_value).all()


def test_orders_keep_stimuli_whole_and_in_their_fold():
    _, target = sides(np.zeros((40, 1)), np.zeros((40, 1)))
    target = target.assign_coords(stimulus_id=("presentation", np.repeat([f"s{i:02d}" for i in range(20)], 2).astype("T")))
    folds = [Fold("a", np.arange(20, 40), np.arange(20)), Fold("b", np.arange(20), np.arange(20, 40))]
    orders = null_orders(Pair(target, target, ba.chain(ba.Ridge()), folds), null="exchange", n_permutations=50, seed=0)
    assert (orders[:, :20] < 20).all()
    assert (orders[:, 0::2] % 2 == 0).all()
    np.testing.assert_array_equal(orders[:, 1::2], orders[:, 0::2] + 1)
    one_each = [Fold(str(i), np.delete(np.arange(40), [2 * i, 2 * i + 1]), np.arange(2 * i, 2 * i + 2)) for i in range(20)]
    wide = null_orders(Pair(target, target, ba.chain(ba.Ridge()), one_each), null="exchange", n_permutations=50, seed=0)
    assert (wide[:, 0] != 0).mean() > 0.8  # within folds of one stimulus nothing could change places


def test_orders_of_runs_are_circles():
    rows = np.random.default_rng(0).permutation(60)  # rows in no order of time
    coords = {name: np.asarray(values)[rows] for name, values in in_runs(60, 3).items()}
    _, target = sides(np.zeros((60, 1)), np.zeros((60, 1)), **coords)
    orders = null_orders(Pair(target, target, ba.chain(ba.Ridge()), []), null="shift", n_permutations=30, seed=0)
    at = target.onset_s.values / 2
    for order in orders:
        for run in "012":
            inside = target.run.values == run
            assert (target.run.values[order[inside]] == run).all()
            moved = (at[order[inside]] - at[inside]) % 20
            assert np.unique(moved).size == 1


def test_orders_of_short_runs_are_whole_runs():
    order_in_time = np.random.default_rng(0).permutation(60)
    coords = {name: np.asarray(values)[order_in_time] for name, values in in_runs(60, 6).items()}
    _, target = sides(np.zeros((60, 1)), np.zeros((60, 1)), **coords)
    orders = null_orders(Pair(target, target, ba.chain(ba.Ridge()), []), null="runs", n_permutations=1000, seed=0)
    assert len(orders) == 719
    at = target.onset_s.values
    assert all((at[order] == at).all() for order in orders)
    assert all(np.unique(target.run.values[order[target.run.values == "0"]]).size == 1 for order in orders)


def test_slow_noise_in_short_runs_is_exchanged_by_run_or_named():
    rng = np.random.default_rng(6)
    slow = autocorrelated(360, 20, 0.95, rng)
    _, target = sides(np.zeros((360, 1)), slow, **in_runs(360, 6))
    assert choose_null("auto", target) == "runs"
    with pytest.warns(NullWarning, match=r"Runs of 60 rows .* alike over \d"):
        assert choose_null("shift", target) == "shift"
    with pytest.warns(NullWarning, match="null='runs'"):  # three runs have too few orders
        assert choose_null("auto", target[:180]) == "shift"
    _, long = sides(np.zeros((600, 1)), autocorrelated(600, 20, 0.8, rng), **in_runs(600, 2))
    assert choose_null("auto", long) == "shift"
    with pytest.raises(SplitError, match="40, 60 rows"):
        choose_null("runs", target[20:120])


@pytest.mark.parametrize(
    ("lengths", "n_orders"), [([6] * 3, 6), ([6, 6, 5, 5, 4], 4), ([6] * 4, 24), ([6, 6, 6, 5, 5, 4, 4], 24)]
)
def test_orders_too_few_for_any_small_p_are_said(lengths, n_orders, recwarn):
    run = np.repeat([str(i) for i in range(len(lengths))], lengths)
    at = np.concatenate([np.arange(n) * 2.0 for n in lengths])
    _, y = sides(np.zeros((len(at), 1)), np.random.default_rng(0).normal(size=(len(at), 2)), run=run, onset_s=at)
    out = ba.permutation_test(y, y, null="runs", random_state=0)
    assert float(out.p_value.min()) == pytest.approx(1 / n_orders)
    said = [str(w.message) for w in recwarn if w.category is NullWarning]
    assert len(said) == (n_orders < 20)
    assert not said or f"have {n_orders} orders, so that no p is below {1 / n_orders:.2g}. Expected" in said[0]


def test_labels_are_decoded_again():
    rng = np.random.default_rng(1)
    labels = np.repeat(["cat", "dog"], 20)
    x = rng.normal(size=(40, 3)) + 1.5 * (labels == "cat")[:, None]
    source, _ = sides(x, np.zeros((40, 1)))
    out = ba.evaluate(
        source.assign_coords(condition=("presentation", labels.astype("T"))), "condition", cv=4, n_permutations=39, random_state=0
    )
    assert out.p_value.item() == 1 / 40
    noise = source.assign_coords(condition=("presentation", rng.permutation(labels).astype("T")))
    assert ba.evaluate(noise, "condition", cv=4, n_permutations=39, random_state=0).p_value.item() > 0.05


def test_noise_is_significant_as_often_as_it_should_be():
    rng = np.random.default_rng(2)
    p = []
    for seed in range(4):
        source, target = sides(rng.normal(size=(60, 5)), rng.normal(size=(60, 150)))
        p.append(ba.evaluate(source, target, cv=3, n_permutations=199, random_state=seed).p_value.values)
    p = np.concatenate(p)
    for level in (0.05, 0.25, 0.5):
        low, high = binom.ppf([0.001, 0.999], len(p), level) / len(p)
        assert low <= (p <= level).mean() <= high
    assert p.min() >= 1 / 200


def test_autocorrelated_noise_needs_shifts():
    rng = np.random.default_rng(3)
    phi, rates, naive = 0.9, [], []
    for seed in range(3):
        x, y = autocorrelated(450, 1, phi, rng), autocorrelated(450, 80, phi, rng)
        source, target = sides(x, y, **in_runs(450, 3))
        out = ba.evaluate(source, target, cv=ba.split(target, by="run"), n_permutations=99, random_state=seed)
        assert out.attrs["null"] == "shift"
        rates.append((out.p_value <= 0.05).mean().item())
        plain = ba.evaluate(
            *(s.drop_vars("onset_s") for s in (source, target)), groups="run", n_permutations=99, random_state=seed
        )
        naive.append((plain.p_value <= 0.05).mean().item())
    assert np.mean(naive) > 0.15  # rows exchanged as if they were independent
    assert 0.02 < np.mean(rates) < 0.09


@pytest.mark.parametrize("direction", ["net to brain", "brain to net"])
def test_a_planted_effect_is_found_in_both_directions(direction):
    study = ba.simulate(n_stimuli=80, random_state=0)
    net, brain = study.network, study.fmri
    source, target, by = (net, brain, ("layer", "region")) if direction == "net to brain" else (brain, net, ("region", "layer"))
    options = {"by": by, "cv": 4, "controls": "none", "n_permutations": 99, "random_state": 0}
    out = ba.compare(source, target, **options)
    assert float(out.p_value.min()) == 0.01
    assert (out.p_value_max >= out.p_value).all()
    assert (out.p_value_fdr >= out.p_value).all()
    shuffled = target.assign_coords(
        stimulus_id=("presentation", np.random.default_rng(1).permutation(target.stimulus_id.values.astype(object)).astype("T"))
    )
    null = ba.compare(source, shuffled, **options)
    assert float(null.p_value_max.min()) > 0.05


def test_one_seed_one_answer_and_null_scores_are_not_kept():
    rng = np.random.default_rng(4)
    source, target = sides(rng.normal(size=(40, 3)), rng.normal(size=(40, 4)))
    first, again = (ba.evaluate(source, target, cv=4, n_permutations=20, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(first.p_value, again.p_value)
    assert "null_score" not in first
    assert (first.attrs["n_permutations"], first.attrs["null"]) == (20, "exchange")
    assert "p_value" not in ba.evaluate(source, target, cv=4)


def test_systems_of_a_dict_and_time_points_have_their_own():
    rng = np.random.default_rng(5)
    source, target = sides(rng.normal(size=(40, 3)), rng.normal(size=(40, 4)))
    both = ba.evaluate(source, {"a": target, "b": target.assign_coords(system="other")}, cv=4, n_permutations=20, random_state=0)
    assert both.p_value.sizes == {"neuroid": 8}
    timed = ba.responses(
        rng.normal(size=(40, 2, 3)), stimulus_id=source.stimulus_id.values, neuroid_id=[0, 1], time=[0.0, 0.1, 0.2], **FAST
    )
    assert ba.evaluate(timed, timed, cv=4, n_permutations=20, random_state=0).p_value.max() == pytest.approx(1 / 21)


def test_exchanging_rows_in_time_is_refused():
    source, target = sides(np.arange(40.0)[:, None], np.random.default_rng(0).normal(size=(40, 2)), **in_runs(40, 2))
    with pytest.raises(SplitError, match="onset_s"):
        ba.evaluate(source, target, groups="run", n_permutations=5, null="exchange")
    bare = [side.drop_vars("onset_s") for side in (source, target)]
    with pytest.raises(SplitError, match="null='shift'"):
        ba.evaluate(*bare, groups="run", n_permutations=5, null="shift")
    with pytest.raises(ParameterError, match="n_permutations"):
        ba.evaluate(*bare, groups="run", n_permutations=-1)
    with pytest.raises(ParameterError, match="null"):
        ba.evaluate(*bare, groups="run", n_permutations=5, null="shuffle")
