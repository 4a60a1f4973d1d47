"""ContrastiveDecoder: better than ridge where latencies vary and only there, one result a seed, and never stopped by what is tested."""

import inspect

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SplitError
from brainalign.core.provenance import hash_array

SMALL = {"width": 8, "depth": 1, "max_steps": 25, "batch_size": 16}


def evoked(
    n, *, late=(10, 41), n_sensors=24, n_times=50, n_dims=16, width=2.0, noise=1.0, modality="meg", seed=0, subjects=1, **labels
):
    """Responses that rise at a time of their own, drawn from ``late``, with a pattern over sensors that an embedding sets; and embeddings."""
    rng = np.random.default_rng(seed)
    shown, who = rng.normal(size=(n, n_dims)), rng.integers(subjects, size=n)
    mixing = rng.normal(size=(subjects, n_sensors, n_dims)) / n_dims**0.5
    wave = np.exp(-0.5 * ((np.arange(n_times) - rng.integers(*late, size=n)[:, None]) / width) ** 2)
    x = np.einsum("nce,ne->nc", mixing[who], shown)[:, :, None] * wave[:, None] + noise * rng.normal(size=(n, n_sensors, n_times))
    ids = [f"s{i}" for i in range(n)]
    if subjects > 1:
        labels["subject"] = [f"sub-{k}" for k in who]
    source = ba.responses(x.astype("float32"), stimulus_id=ids, neuroid_id=range(n_sensors), time=np.arange(n_times) / 100, modality=modality,
                          system="x", **labels)  # fmt: skip
    return source, ba.responses(shown, stimulus_id=ids, neuroid_id=range(n_dims), modality="ann", system="net", layer="fc")


def network_hash(model):
    return hash_array(torch.nn.utils.parameters_to_vector(model.network_.parameters()).numpy())


@pytest.mark.parametrize(("late", "modality"), [((10, 41), "meg"), ((25, 26), "ann")], ids=["jitter", "no jitter"])
def test_it_beats_ridge_where_latencies_vary_and_only_there(late, modality):
    """Card 3, among 250: the same call, whoever responds."""
    x, y = evoked(1200, late=late, modality=modality)
    model = ba.ContrastiveDecoder(width=32, depth=2, max_steps=125, batch_size=64, learning_rate=1e-2)
    found = ba.identify(x, y, model=model, cv=ba.split(x, test=x.stimulus_id.values[950:]), random_state=0)
    gain = float((found.score - found.score_baseline).sel(measure="top-5"))
    if late == (10, 41):
        assert gain > 0.2
        assert found.score.sel(measure="top-5") > 0.75
    else:
        assert -0.2 < gain < 0.1
    assert found.attrs["baseline"] == "RidgeBySubject()"


def test_shuffled_targets_are_at_chance():
    x, y = evoked(600, n_times=20, late=(5, 15))
    shuffled = y.copy(data=y.values[np.random.default_rng(1).permutation(600)])
    model = ba.ContrastiveDecoder(width=16, depth=1, max_steps=75, batch_size=64, learning_rate=1e-2)
    found = ba.identify(x, shuffled, model=model, cv=ba.split(x, test=x.stimulus_id.values[300:]), random_state=0)
    low, high = binom.interval(0.999, 300, 5 / 300)
    assert low <= 300 * float(found.score.sel(measure="top-5")) <= high


def test_every_fold_starts_afresh():
    class Recording(ba.ContrastiveDecoder):
        seen = []

        def fit(self, X, Y):
            super().fit(X, Y)
            self.seen.append((self.initial_hash_, network_hash(self)))
            return self

    x, y = evoked(60, n_times=6, late=(1, 5))
    out = ba.evaluate(x, y, model=Recording(**SMALL), cv=3, controls="none", random_state=0)
    starts, ends = zip(*Recording.seen, strict=True)
    assert len(set(starts)) == 1
    assert len(set(ends)) == 3
    again = ba.evaluate(x, y, model=ba.ContrastiveDecoder(**SMALL), cv=3, controls="none", random_state=0)
    np.testing.assert_array_equal(out.score.values, again.score.values)
    ridge = ba.evaluate(x, y, model=ba.Ridge(), cv=3, controls="none", random_state=0)
    np.testing.assert_array_equal(out.score_baseline.values, ridge.score.values)
    assert "score_baseline" not in ridge


@pytest.mark.parametrize("places", [False, True])
def test_one_seed_one_result_and_the_state_of_torch_is_left_alone(places):
    x, y = evoked(60, n_times=6, late=(1, 5))
    if places:
        x = x.assign_coords(
            {name: ("neuroid", np.random.default_rng(k).normal(size=24)) for k, name in enumerate(["x_mm", "y_mm", "z_mm"])}
        )
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again = (ba.ContrastiveDecoder(**SMALL, random_state=3).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first.predict(x).values, again.predict(x).values)
    drawn = ba.ContrastiveDecoder(**SMALL, random_state=None).fit(x, y)
    assert not np.array_equal(first.predict(x), drawn.predict(x))
    assert ba.core.provenance(drawn.predict(x)).steps[-1]["seed"] == drawn.seed_
    np.testing.assert_array_equal(drawn.predict(x), clone(drawn).set_params(random_state=drawn.seed_).fit(x, y).predict(x))


def test_no_argument_lets_rows_under_test_choose_the_step():
    assert list(inspect.signature(ba.ContrastiveDecoder().fit).parameters) == ["X", "Y"]
    x, y = evoked(90, n_times=6, late=(1, 5))
    fitted = []

    class Recording(ba.ContrastiveDecoder):
        def fit(self, X, Y):
            fitted.append(super().fit(X, Y))
            return self

    folds = ba.split(x, test=x.stimulus_id.values[60:])
    other = y.copy()
    other[60:] = np.random.default_rng(1).normal(size=(30, 16))
    for target in (y, other):
        ba.evaluate(
            x, target, model=Recording(**SMALL | {"max_steps": 100, "patience": 25}), cv=folds, controls="none", random_state=0
        )
    assert fitted[0].step_ == fitted[1].step_
    assert network_hash(fitted[0]) == network_hash(fitted[1])


def test_training_that_stops_by_what_it_trains_on_is_refused():
    x, y = evoked(40, n_times=6, late=(1, 5))
    twice = x.assign_coords(stimulus_id=("presentation", np.repeat(x.stimulus_id.values[:20], 2)))
    named = y.assign_coords(stimulus_id=twice.stimulus_id)
    leak = [(np.arange(0, 40, 2), np.arange(1, 40, 2))]
    with pytest.raises(
        SplitError, match=r"trains on a stimulus and stops by it: 20 of them, first that of row 1. Expected no stimulus"
    ):
        ba.ContrastiveDecoder(**SMALL, cv=leak).fit(twice, named)
    values = np.repeat(y.values[:20], 2, axis=0)
    with pytest.raises(SplitError, match="trains on a stimulus and stops by it"):
        ba.ContrastiveDecoder(**SMALL, cv=leak).fit(x.values, values)  # the same target is the same stimulus
    with pytest.raises(SplitError, match="trains on a group and stops by it"):
        ba.ContrastiveDecoder(**SMALL, cv=[(np.arange(30), np.arange(30, 40))], groups=np.arange(40) % 20).fit(x, y)
    with pytest.raises(SplitError, match=r"in both train and test"):
        ba.ContrastiveDecoder(**SMALL, cv=[(np.arange(40), np.arange(30, 40))]).fit(x, y)
    for model, data in ((ba.ContrastiveDecoder(**SMALL), (twice, named)), (ba.ContrastiveDecoder(**SMALL), (x.values, values))):
        assert model.fit(*data).step_ > 0


def test_several_subjects_are_a_dict_or_a_coordinate_and_each_has_a_ridge():
    x, y = evoked(600, subjects=3, n_times=12, late=(3, 9), n_dims=8, noise=0.5)
    model = ba.ContrastiveDecoder(width=16, depth=1, max_steps=100, batch_size=64, learning_rate=1e-2, dropout=0.0)
    folds = ba.split(x, test=x.stimulus_id.values[450:])
    one = ba.identify(x, y, model=model, cv=folds, repeats="keep", random_state=0)
    assert (one.score.sel(measure="top-5") > 0.6) & (one.score_baseline.sel(measure="top-5") > 0.3)  # chance is 1 / 30
    names = np.array(x.subject.values.tolist())
    nobody = ba.identify(x.drop_vars("subject"), y, model=model, cv=folds, random_state=0)
    assert nobody.score.sel(measure="top-1") < one.score.sel(measure="top-1") - 0.2
    by_name = {name: x[names == name] for name in np.unique(names)}
    small = ba.ContrastiveDecoder(**SMALL)
    together = clone(small).fit(by_name, y)
    assert together.subjects_.tolist() == ["sub-0", "sub-1", "sub-2"]
    found = together.predict(by_name)
    assert found["sub-1"].dims == ("presentation", "neuroid")
    np.testing.assert_allclose(found["sub-1"], together.predict(x)[names == "sub-1"], atol=1e-5)
    targets = {name: y[names == name] for name in by_name}
    np.testing.assert_array_equal(clone(small).fit(by_name, targets).predict(x), together.predict(x))
    with pytest.raises(AlignmentError, match=r"got rows of the subject 'sub-9'. Expected one of 'sub-0', 'sub-1', 'sub-2'"):
        together.predict({"sub-9": by_name["sub-0"]})


def test_unequal_sensors_are_named():
    x, y = evoked(40, n_times=6, late=(1, 5))
    with pytest.raises(
        AlignmentError, match=r"unequal sensors: 'b' lacks 22, 23 of 'a' and has no others beyond. Expected the same `neuroid_id`"
    ):
        ba.ContrastiveDecoder(**SMALL).fit({"a": x, "b": x[:, :22]}, y)


def test_sensors_at_places_are_looked_at_by_place_and_all_must_have_one():
    rng = np.random.default_rng(0)
    x, y = evoked(300, n_times=12, late=(3, 9), n_dims=6, noise=0.3)
    at = {
        "x_mm": ("neuroid", rng.uniform(-80, 80, 24)),
        "y_mm": ("neuroid", rng.uniform(-80, 80, 24)),
        "z_mm": ("neuroid", np.zeros(24)),
    }
    model = ba.ContrastiveDecoder(width=16, depth=1, max_steps=150, batch_size=64, learning_rate=1e-2)
    placed = x.assign_coords(at)
    model.fit(placed[:200], y[:200])
    assert model.network_.places.shape == (24, 2)  # they are flat
    assert float(model.network_.places.max()) == 1.0
    r = [np.corrcoef(model.predict(placed[200:])[:, k], y[200:, k])[0, 1] for k in range(6)]
    assert np.mean(r) > 0.5
    lost = at | {"x_mm": ("neuroid", np.where(np.arange(24) == 5, np.nan, at["x_mm"][1]))}
    with pytest.raises(
        ParameterError, match=r"1 of 24 sensors without a place, at positions 5. Expected places for all or for none"
    ):
        ba.ContrastiveDecoder(**SMALL).fit(x.assign_coords(lost), y)


@pytest.mark.parametrize("head", ["contrast", "values"])
def test_sources_without_time_go_through_the_same_network(head):
    x, y = evoked(300, late=(3, 4), n_times=6, noise=0.3, n_dims=6)
    flat = x.isel(time=3, drop=True)
    model = ba.ContrastiveDecoder(width=16, depth=1, max_steps=75, learning_rate=1e-2, head=head)
    found = model.fit(flat[:200], y[:200]).predict(flat)
    assert np.mean([np.corrcoef(found[200:, k], y[200:, k])[0, 1] for k in range(6)]) > 0.6
    trained = ba.split(y[:200], n_splits=5, random_state=0).on(y[:200])[0].train
    lengths = np.linalg.norm(found - y.values[trained].mean(axis=0), axis=1)
    assert (np.ptp(lengths) < 1e-3) == (head == "contrast")  # directions, or values


def test_degenerate_targets_and_features_are_named_and_disturb_no_other():
    x, y = evoked(60, n_times=6, late=(1, 5))
    bad = y.copy()
    bad[:, 1], bad[3, 2] = 4.0, np.nan
    keep = np.r_[0, 3:16]
    model = ba.ContrastiveDecoder(**SMALL).fit(x, bad)
    assert model.status_.tolist()[:4] == ["ok", "constant", "nan", "ok"]
    assert np.isnan(model.predict(x)[:, [1, 2]]).all()
    np.testing.assert_array_equal(model.predict(x)[:, keep], ba.ContrastiveDecoder(**SMALL).fit(x, y[:, keep]).predict(x))
    assert np.isnan(ba.ContrastiveDecoder(**SMALL).fit(x, bad[:, [1, 2]]).predict(x)).all()
    holed = x.copy()
    holed[3, 2] = np.nan
    holed[:, 4] = 7.0
    with pytest.warns(ba.errors.DegenerateNeuroidWarning, match="6 of 144 features"):
        assert np.isfinite(ba.ContrastiveDecoder(**SMALL).fit(holed, y).predict(x)).all()


def test_a_training_that_diverges_is_named():
    x, y = evoked(60, n_times=6, late=(1, 5))
    with pytest.raises(
        ParameterError,
        match=r"never a number within 25 steps: the training diverged. Expected a smaller learning_rate than 1e\+30",
    ):
        ba.ContrastiveDecoder(**SMALL, learning_rate=1e30).fit(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "clip"}, "'head' parameter of ContrastiveDecoder must be one of 'contrast', 'values'"),
        ({"contrast": 1.5}, "'contrast' parameter of ContrastiveDecoder"),
        ({"dropout": -0.1}, "'dropout' parameter"),
        ({"width": 0}, "'width' parameter"),
        ({"depth": -1}, "'depth' parameter"),
        ({"max_steps": 0}, "'max_steps' parameter"),
        ({"patience": 0}, "'patience' parameter"),
        ({"batch_size": 1}, "'batch_size' parameter"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"weight_decay": -1}, "'weight_decay' parameter"),
        ({"random_state": -1}, "'random_state' parameter of ContrastiveDecoder"),
        ({"device": "tpu"}, "'device' parameter of ContrastiveDecoder"),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused(options, message):
    x, y = evoked(30, n_times=4, late=(1, 3))
    with pytest.raises(ParameterError, match=message):
        ba.ContrastiveDecoder(**options).fit(x, y)
