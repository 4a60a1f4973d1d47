"""Consistency between systems, against two animals that share all of their signal."""

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge as PlainRidge

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError, SchemaError
from brainalign.scores.ceiling import ceiling_of_averages
from brainalign.scores.consistency import consistency

MODEL = ba.Ridge(alphas=[30.0])


def animals(sd, n_stimuli=400, n_neuroids=60, n_repeats=8, names=("a", "b"), seed=0, times=None, **options):
    """Animals whose neurons read one latent of ten dims, each with its own noise."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_stimuli, 10))
    ids = np.repeat([f"s{i}" for i in range(n_stimuli)], n_repeats)
    found = {}
    for name in names:
        signal = np.repeat(latent @ rng.normal(size=(10, n_neuroids)) / np.sqrt(10), n_repeats, axis=0)
        signal = signal if times is None else signal[..., None] * np.ones(len(times))
        values = signal + sd * rng.normal(size=signal.shape)
        order = rng.permutation(len(ids))
        found[name] = ba.responses(values[order], stimulus_id=ids[order], neuroid_id=range(n_neuroids), time=times, modality="spikes",
                                   system=name, **options)  # fmt: skip
    return found


def ceiling(found, target="b", **options):
    others = {name: x for name, x in found.items() if name != target}
    options = {"model": MODEL, "cv": 2, "n_splits": 4, "random_state": 0} | options
    return ba.noise_ceiling(found[target], method="inter-system", others=others, **options)


@pytest.mark.parametrize(
    ("sd", "raw", "one_sided", "two_sided"), [(0.5, 0.981, 0.997, 1.0), (1.5, 0.819, 0.942, 1.014), (3.0, 0.485, 0.729, 1.102)]
)
def test_two_animals_that_share_all_their_signal(sd, raw, one_sided, two_sided):
    """Corrected on one side it is understated, on both it overshoots where reliability is low; raw is always there."""
    out = ceiling(animals(sd))
    found = [float(out[name].mean()) for name in ("raw", "one_sided", "two_sided")]
    assert found == pytest.approx([raw, one_sided, two_sided], abs=0.04)
    # What is divided into a raw score keeps the target's noise: a noise-free model that knows what the others know.
    np.testing.assert_allclose(out.values, out.two_sided * np.sqrt(out.target_reliability), rtol=1e-6)


def test_it_is_the_written_formula():
    """One split into training and test, with scikit-learn's ridge and halves drawn anew."""
    found = animals(0.7, n_stimuli=60, n_neuroids=12, n_repeats=2)
    cv = ba.split(found["b"], test=[f"s{i}" for i in range(0, 60, 2)])
    out = ceiling(found, cv=cv, n_splits=100)
    by_stimulus = [np.argsort([int(i[1:]) for i in found[name].stimulus_id.values], kind="stable") for name in "ab"]
    x, y = (found[name].values[rows].reshape(60, 2, 12) for name, rows in zip("ab", by_stimulus, strict=True))
    test, train = np.arange(0, 60, 2), np.arange(1, 60, 2)

    def predict(x, y):
        return PlainRidge(30.0).fit(x[train], y[train]).predict(x[test])

    def r(a, b):
        return np.array([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(12)])

    np.testing.assert_allclose(out.raw, r(predict(x.mean(1), y.mean(1)), y.mean(1)[test]), rtol=1e-5)
    rng, rows, halves = np.random.default_rng(1), np.arange(60), []
    for _ in range(200):
        i, j = rng.integers(2, size=(2, 60))
        halves.append(
            [r(predict(x[rows, i], y[rows, j]), predict(x[rows, 1 - i], y[rows, 1 - j])), r(y[rows, j], y[rows, 1 - j])]
        )
    source, target = 2 * np.mean(halves, axis=0) / (1 + np.mean(halves, axis=0))
    np.testing.assert_allclose(out.source_reliability, source, atol=0.06)
    np.testing.assert_allclose(out.target_reliability, target, atol=0.02)
    np.testing.assert_allclose(out.one_sided, out.raw / np.sqrt(out.target_reliability), rtol=1e-6)


def test_a_network_without_noise_predicts_with_the_noise_of_fitting_alone():
    found = animals(1.0, n_stimuli=200)
    latent = ba.average_repeats(animals(0.0, n_stimuli=200)["a"]).assign_attrs(deterministic=True)
    out = ceiling({"net": latent, "b": found["b"]})
    assert float(out.two_sided.mean()) == pytest.approx(1.0, abs=0.02)
    assert 0.95 < float(out.source_reliability.mean()) < 1.0


def test_the_mean_over_pairs_or_together_and_never_the_best():
    found = animals(1.0, n_stimuli=200, n_neuroids=40, names="abc")
    found["noise"] = found["a"].copy(data=np.random.default_rng(1).normal(size=found["a"].shape))
    each = ceiling(found, floor=0.0)
    best = ceiling({"a": found["a"], "b": found["b"]})
    assert float(each.raw.mean()) < 0.8 * float(best.raw.mean())
    above = ceiling(found)  # what agrees with nothing is below the floor, and not averaged in
    assert set(above.n_systems.values.tolist()) == {2}
    assert float(above.two_sided.mean()) == pytest.approx(1.0, abs=0.05)
    del found["noise"]
    together = ceiling(found, pool=True)
    assert float(together.raw.mean()) > float(ceiling(found).raw.mean())
    assert together.attrs["systems"] == ["a", "c"]


def test_unreliable_neuroids_have_no_corrected_value_but_a_raw_one():
    found = animals(1.0, n_stimuli=100, n_neuroids=6)
    b = found["b"].copy()
    b[:, 2] = np.random.default_rng(0).normal(size=len(b))
    b[:, 4] = 1.0
    out = ceiling(found | {"b": b})
    assert out.status.values.tolist() == ["ok", "ok", "unreliable", "ok", "constant", "ok"]
    assert np.isnan(out.values[[2, 4]]).all()
    assert np.isfinite(out.raw.values[2])
    clean = ceiling(found | {"b": b[:, [0, 1, 3, 5]]})
    np.testing.assert_allclose(out.values[[0, 1, 3, 5]], clean.values, rtol=1e-5)


def test_it_divides_scores_and_is_typed():
    found = animals(1.0, n_stimuli=100, n_neuroids=6)
    r, r2 = ceiling(found), ceiling(found, units="r2")
    np.testing.assert_allclose(r2, r**2)
    scored = ba.evaluate(found["a"], found["b"], model=MODEL, cv=2, ceiling=r, random_state=0)
    np.testing.assert_allclose(scored.score_normalized, scored.score / r, rtol=1e-6)
    # what is left is the noise of the source; folds and halves of one seed move it by .1
    assert float(scored.score_normalized.mean()) == pytest.approx(float(np.sqrt(r.source_reliability).mean()), abs=0.15)
    with pytest.raises(ParameterError, match="kind 'r2'"):
        ba.evaluate(found["a"], found["b"], model=MODEL, cv=2, ceiling=r2)
    single = ceiling_of_averages(r, 1.0)  # noise of one presentation, and what is shared of the signal stays
    rho = r.target_reliability.values
    np.testing.assert_allclose(single, r.values * np.sqrt(1 / (rho + 8 * (1 - rho))), rtol=1e-6)
    np.testing.assert_allclose(ceiling_of_averages(r2, 1.0), single**2, rtol=1e-6)


def test_each_time_from_the_same_time():
    found = animals(1.0, n_stimuli=60, n_neuroids=4, n_repeats=4, times=[0.0, 0.1])
    out = ceiling(found)
    assert out.dims == ("neuroid", "time")
    assert out.two_sided.dims == ("neuroid", "time")
    still = ceiling(found | {"a": found["a"].isel(time=0, drop=True)})
    assert still.shape == out.shape
    with pytest.raises(AlignmentError, match=r"a has no responses at 0\.1 s"):
        ceiling(found | {"a": found["a"].isel(time=[0])})


@pytest.mark.parametrize("times", [None, [0.0, 0.1]])
def test_one_bar_goes_along_all_systems_and_times(times, capsys):
    found = animals(0.5, n_stimuli=20, n_neuroids=4, n_repeats=4, names=("a", "b", "c"), times=times)
    ceiling(found, n_splits=3, progress=True)
    assert f"splits of repeats: 100%|██████████| {6 if times is None else 12}/" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_ceiling():
    found = animals(1.0, n_stimuli=40, n_neuroids=4, n_repeats=3, names="abc")
    first = ceiling(found, random_state=5)
    xr.testing.assert_equal(first, ceiling(found, random_state=5))
    assert first.attrs["seed"] == 5
    rng = np.random.default_rng(0)
    shuffled = {name: x[rng.permutation(len(x))] for name, x in found.items()}  # halves and folds are drawn by name
    xr.testing.assert_allclose(ceiling(shuffled, random_state=5), first, rtol=1e-5)


def test_bad_input_is_named():
    found = animals(1.0, n_stimuli=30, n_neuroids=3, n_repeats=2)
    a, b = found["a"], found["b"]
    with pytest.raises(ParameterError, match="others=None"):
        ba.noise_ceiling(b, method="inter-system")
    with pytest.raises(ParameterError, match="`others` for method='split-half'"):
        ba.noise_ceiling(b, others=a)
    with pytest.raises(ParameterError, match="the responses themselves among `others`: 'b'"):
        ba.noise_ceiling(b, method="inter-system", others={"b": b.copy()})
    with pytest.raises(AlignmentError, match=r"0 stimuli are repeated in each of the 2 systems.*method='split-half'"):
        ceiling({"a": ba.average_repeats(a), "b": b})
    with pytest.raises(CapabilityError, match="Delay"):
        ceiling(found, model=ba.chain(ba.Delay([1.0]), ba.Ridge()))
    two = a.assign_coords(subject=("presentation", np.where(np.arange(60) % 2, "p", "q")))
    with pytest.raises(SchemaError, match="a holds the presentations of 2 subjects"):
        ceiling({"a": two, "b": b})
    assert consistency({"a": a}, b, model=None, cv=3, n_splits=1, seed=0).n_stimuli == 30
