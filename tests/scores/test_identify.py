"""Identification among candidates: known answers, leaks that lift nothing, one call in every direction."""

import warnings

import numpy as np
import pytest

import brainalign as ba

N, D = 60, 12
RNG = np.random.default_rng(0)


def responses(values, ids=None, system="x", **coords):
    ids = [f"s{i}" for i in range(len(values))] if ids is None else ids
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system, **coords)


@pytest.fixture(scope="module")
def embedding():
    return responses(RNG.normal(size=(N, D)), system="embedding")


def recorded(embedding, noise, n=30, seed=1, offset=0.0):
    rng = np.random.default_rng(seed)
    values = embedding.values @ rng.normal(size=(D, n)) + noise * rng.normal(size=(len(embedding), n)) + offset
    return responses(values, embedding.stimulus_id.values, system="brain")


def score(out, measure):
    return float(out.score.sel(measure=measure))


@pytest.mark.parametrize("query", ["prediction", "target"])
def test_without_noise_each_stimulus_is_found(embedding, query):
    out = ba.identify(
        recorded(embedding, 0.0), embedding, model=ba.Ridge(alphas=[1e-6], dtype="float64"), cv=4, query=query, random_state=0
    )
    assert score(out, "top-1") == score(out, "two-way") == score(out, "median-rank") == 1
    assert (out["rank"] == 0).all()
    assert sorted(out.stimulus_id.values.tolist()) == sorted(embedding.stimulus_id.values.tolist())
    assert (out.n_candidates == N // 4).all()


def test_noise_alone_is_chance_and_its_p_value_says_so(embedding):
    noise = responses(RNG.normal(size=(N, 30)))
    out = ba.identify(noise, embedding, model=ba.Ridge(alphas=[10.0]), cv=4, n_permutations=99, random_state=0)
    assert score(out, "two-way") == pytest.approx(0.5, abs=0.12)
    assert (out.p_value > 0.02).all()
    found = ba.identify(
        recorded(embedding, 3.0), embedding, model=ba.Ridge(alphas=[10.0]), cv=4, n_permutations=99, random_state=0
    )
    assert found.p_value.values.tolist() == [0.01] * 6  # of the median rank too, of which less is better


def test_a_permutation_is_a_fit_to_moved_rows(embedding):
    from brainalign.engine.retrieval import retrieval_measures

    brain, cv = recorded(embedding, 3.0), ba.split(embedding, n_splits=4, random_state=0)
    moved = embedding.copy(data=embedding.values[np.roll(np.arange(N), 1)])
    by_hand = ba.identify(brain, moved, model=ba.Ridge(alphas=[10.0]), cv=cv, random_state=0)
    assert score(by_hand, "two-way") < 0.65
    np.testing.assert_allclose(by_hand.score, retrieval_measures(by_hand["rank"].values, by_hand.n_candidates.values))


def test_side_by_side_permutations_are_those_one_by_one(embedding, monkeypatch):
    import brainalign.scores.inference as module

    ask = dict(model=ba.Ridge(alphas=[1.0, 100.0], cv=3), cv=3, candidates="all", n_permutations=9, random_state=0)
    together = ba.identify(recorded(embedding, 6.0), embedding, **ask)
    monkeypatch.setattr(module, "_VALUES", 1)
    np.testing.assert_array_equal(ba.identify(recorded(embedding, 6.0), embedding, **ask).p_value, together.p_value)


def test_more_candidates_are_more_to_confuse(embedding):
    brain, ask = recorded(embedding, 6.0), dict(model=ba.Ridge(alphas=[10.0]), cv=4, random_state=0)
    few, many = ba.identify(brain, embedding, **ask), ba.identify(brain, embedding, candidates="all", **ask)
    assert (many.n_candidates == N).all()
    assert score(many, "median-rank") > score(few, "median-rank")
    assert float(many.chance.sel(measure="top-1")) == pytest.approx(1 / N)
    distractors = responses(RNG.normal(size=(100, D)), [f"other {i}" for i in range(100)], system="embedding")
    assert (ba.identify(brain, embedding, candidates=distractors, **ask).n_candidates == 115).all()


def test_repeats_are_queries_of_one_candidate_each(embedding):
    twice = np.repeat(np.arange(N), 2)
    brain = recorded(embedding.isel(presentation=twice).drop_vars("repetition"), 1.0)
    out = ba.identify(brain, embedding, cv=4, repeats="keep", random_state=0)
    assert out.sizes["presentation"] == 2 * N
    assert (out.n_candidates == N // 4).all()
    assert ba.identify(brain, embedding, cv=4, random_state=0).sizes["presentation"] == N


def test_a_common_mean_is_no_answer_to_everything(embedding):
    shifted = embedding.copy(data=embedding.values * np.linspace(0.2, 3, D).astype("float32") + 30.0)
    ask = {"model": ba.Ridge(alphas=[1e5]), "cv": 4, "random_state": 0}
    left_in, taken = (
        score(ba.identify(recorded(embedding, 3.0), shifted, centre=centre, **ask), "two-way") for centre in (False, True)
    )
    assert taken > left_in + 0.2


def test_what_cannot_be_told_is_named_and_counts_as_chance(embedding):
    class Silent(ba.Ridge):
        def predict(self, X):
            return super().predict(X) * np.nan

    with pytest.warns(ba.errors.DegeneratePredictionWarning, match="60 of 60 queries have NaN or no direction"):
        out = ba.identify(recorded(embedding, 1.0), embedding, model=Silent(alphas=[1.0]), cv=4, random_state=0)
    assert (score(out, "top-1"), score(out, "two-way")) == (0, 0.5)
    assert np.isnan(out["rank"]).all()


def test_a_neuroid_that_never_varies_tells_nothing_and_hurts_nothing(embedding):
    flat = embedding.copy(data=np.where(np.arange(D) == 3, 2.0, embedding.values).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ba.errors.DegenerateNeuroidWarning)
        out = ba.identify(recorded(embedding, 0.0), flat, model=ba.Ridge(alphas=[1e-6], dtype="float64"), cv=4, random_state=0)
    assert score(out, "top-1") == 1


class Known(ba.Ridge):
    """The mapping that made the data, whatever it is fitted to."""

    def __init__(self, weights=None):
        super().__init__(alphas=[1.0])
        self.weights = weights

    def predict(self, X):
        return X.values @ self.weights


def simulated(n, c, seed=0):
    """Features, weights, and noise that channels share."""
    rng = np.random.default_rng(seed)
    spread = np.linalg.cholesky(0.9 ** np.abs(np.subtract.outer(np.arange(c), np.arange(c)))) * np.linspace(1, 4, c)[:, None]
    return rng.normal(size=(n, D)), 0.35 * rng.normal(size=(D, c)), spread, rng


def test_likelihood_identifies_as_well_as_the_one_who_knows_the_noise():
    """Among 50 candidates; Bayes with the true weights and covariance is the best there is."""
    features, weights, spread, rng = simulated(1500, 10)
    brain = features @ weights + rng.normal(size=(1500, 10)) @ spread.T
    x, y = responses(features), responses(brain)
    folds = ba.split(y, n_splits=30, random_state=0)
    ask = {"model": Known(weights), "cv": folds, "query": "target", "random_state": 0}
    ours, plain = (score(ba.identify(x, y, metric=metric, **ask), "top-1") for metric in ("likelihood", "euclidean"))
    b, s = (side @ np.linalg.inv(spread).T for side in (brain, features @ weights))
    apart = [((b[fold.test][:, None] - s[fold.test]) ** 2).sum(axis=2) for fold in folds.on(y)]
    best = np.mean([squared.argmin(axis=1) == np.arange(50) for squared in apart])
    assert ours == pytest.approx(best, abs=0.01)
    assert 0.2 < plain < ours - 0.1 < 0.8


def test_encoding_models_are_inverted_for_stimuli_nowhere_in_the_recording(embedding):
    brain, ask = recorded(embedding, 1.0), {"metric": "likelihood", "query": "target", "cv": 4, "random_state": 0}
    few = ba.identify(embedding, brain, **ask)
    more = responses(RNG.normal(size=(200, D)), [f"other {i}" for i in range(200)])
    many = ba.identify(embedding, brain, candidates=more, **ask)
    assert (many.n_candidates == N // 4 + 200).all()
    assert score(few, "top-1") > 0.8 > 0.2 > float(many.chance[0])
    assert score(many, "median-rank") >= score(few, "median-rank")
    np.testing.assert_array_equal(
        ba.identify(embedding, brain, candidates=embedding, **ask)["rank"], few["rank"]
    )  # met, or fitted to
    x, y, z = (side.assign_coords(onset_s=("presentation", 10.0 * np.arange(len(side)))) for side in (embedding, brain, more))
    with pytest.raises(ba.errors.ParameterError, match="which mixes presentations"):
        ba.identify(x, y, candidates=z, model=ba.chain(ba.Delay([0.0]), ba.Ridge()), **ask)


@pytest.mark.parametrize("query", ["prediction", "target"])
def test_likelihood_has_p_values_as_any_likeness(embedding, query):
    ask = {
        "metric": "likelihood",
        "query": query,
        "cv": 4,
        "n_permutations": 19,
        "model": ba.Ridge(alphas=[10.0]),
        "random_state": 0,
    }
    found = ba.identify(embedding, recorded(embedding, 3.0), **ask)
    assert found.p_value.sel(measure="two-way") == 0.05
    assert ba.identify(embedding, responses(RNG.normal(size=(N, 30))), **ask).p_value.sel(measure="two-way") > 0.05


def test_neuroids_that_noise_never_reaches_or_that_never_vary_do_no_harm(embedding):
    flat = recorded(embedding, 0.0).values
    flat[:, 3] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ba.errors.DegenerateNeuroidWarning)
        out = ba.identify(
            embedding,
            responses(flat),
            model=ba.Ridge(alphas=[1e-6], dtype="float64"),
            metric="likelihood",
            query="target",
            cv=4,
            random_state=0,
        )
    assert score(out, "top-1") == 1


def test_which_class_is_another_question_than_which_stimulus():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(6), 20)
    values = rng.normal(size=(6, D))[kinds] + rng.normal(size=(120, D))
    embedding = responses(values).assign_coords(condition=("presentation", np.array(list("abcdef"))[kinds]))
    brain = recorded(embedding, 12.0)
    ask = {
        "model": ba.Ridge(alphas=[10.0]),
        "cv": ba.split(embedding, n_splits=4, stratify="condition", random_state=0),
        "random_state": 0,
    }
    for query in ("prediction", "target"):
        one, kind = (ba.identify(brain, embedding, by=by, query=query, **ask) for by in (None, "condition"))
        assert (one.n_candidates == 30).all()
        assert (kind.n_candidates == 6).all()
        assert float(kind.chance[0]) == pytest.approx(1 / 6)
        assert score(kind, "top-1") > score(one, "top-1") + 0.1
    extra = embedding.assign_coords(stimulus_id=("presentation", [f"other {i}" for i in range(120)]))
    assert (ba.identify(brain, embedding, by="condition", candidates=extra, **ask).n_candidates == 6).all()


def test_a_class_is_not_told_by_the_stimulus_itself():
    """Without classes in the patterns, knowing each stimulus exactly says nothing of its class."""
    values = np.random.default_rng(0).normal(size=(120, 40))
    embedding = responses(values).assign_coords(condition=("presentation", np.tile(list("abcdef"), 20)))
    out = ba.identify(embedding, embedding, model=ba.Ridge(alphas=[1e-3]), by="condition", cv=4, random_state=0)
    assert score(out, "two-way") == pytest.approx(0.4, abs=0.15)  # below chance: of its class one stimulus fewer is known
    alone = embedding.assign_coords(condition=("presentation", ["only", *["many"] * 60, *["more"] * 59]))
    with pytest.warns(ba.errors.DegeneratePredictionWarning, match="1 of 120 queries"):
        ba.identify(embedding, alone, model=ba.Ridge(alphas=[1e-3]), by="condition", cv=4, random_state=0)
    with pytest.raises(ba.errors.ParameterError, match="by='conditon', which is no presentation coordinate of the target"):
        ba.identify(embedding, embedding, by="conditon")
    some = np.array(["a", None] * 60, dtype=object)
    with pytest.raises(ba.errors.SchemaError, match="60 of 120 presentations have no `condition`"):
        ba.identify(embedding, embedding.assign_coords(condition=("presentation", some)), by="condition")
    with pytest.raises(ba.errors.ParameterError, match="has one value, all"):
        ba.identify(embedding, embedding.assign_coords(condition=("presentation", ["all"] * 120)), by="condition")


def test_a_penalty_is_made_good_for_and_what_looks_at_the_test_set_is_warned_of(embedding):
    """One neuroid hears much of the stimuli and most little: shrunk predictions of the latter count for nothing."""
    uneven = embedding.copy(data=embedding.values * np.linspace(0.5, 1.5, D).astype("float32") + 3.0)
    ask = {"model": ba.Ridge(alphas=[1e4]), "cv": 4, "metric": "euclidean", "centre": False, "random_state": 0}
    brain = recorded(embedding, 2.0)
    scores = {"none": score(ba.identify(brain, uneven, **ask), "top-1")}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ba.errors.TransductiveWarning)
        scores["train"] = score(ba.identify(brain, uneven, rescale="train", **ask), "top-1")
    with pytest.warns(ba.errors.TransductiveWarning, match="by statistics of the test rows themselves"):
        out = ba.identify(brain, uneven, rescale="test", **ask)
    scores["test"] = score(out, "top-1")
    assert out.attrs["rescale"] == ba.core.provenance(out).steps[-1]["params"]["rescale"] == "test"
    assert min(scores["train"], scores["test"]) > scores["none"] + 0.1
    with pytest.raises(ba.errors.ParameterError, match="rescale"):
        ba.identify(brain, uneven, rescale="all")


def test_what_cannot_be_asked_is_refused(embedding):
    brain = recorded(embedding, 1.0)
    timed = ba.responses(RNG.normal(size=(N, 3, 2)), stimulus_id=embedding.stimulus_id.values, neuroid_id=range(3), time=[0.0, 0.1],
                         modality="meg", system="m")  # fmt: skip
    with pytest.raises(ba.errors.ParameterError, match="Expected one pattern a presentation"):
        ba.identify(brain, timed)
    with pytest.raises(ba.errors.ParameterError, match="some of which the models were fitted to"):
        ba.identify(brain, embedding, query="target", candidates="all")
    with pytest.raises(ba.errors.ParameterError, match="Expected the 12 neuroids of what predictions are compared with"):
        ba.identify(brain, embedding, candidates=brain)
    with pytest.raises(ba.errors.ParameterError, match="predicts labels"):
        ba.identify(brain, embedding, model=ba.Classifier())
    with pytest.raises(ba.errors.ParameterError, match="identify got both cv=Folds and groups='run'"):
        ba.identify(brain, embedding, cv=ba.split(embedding, n_splits=3), groups="run")
    with pytest.raises(ba.errors.ParameterError, match="metric"):
        ba.identify(brain, embedding, metric="manhattan")
    few = slice(0, 6)
    with pytest.raises(ba.errors.SplitError, match=r"the fold 'fold-1' with a single candidate, .* fewer folds"):
        ba.identify(brain[few], embedding[few], cv=6, random_state=0)
    assert ba.identify(brain[few], embedding[few], cv=6, candidates="all", random_state=0).n_candidates.values.tolist() == [6] * 6


def test_a_step_that_saw_the_test_rows_is_named(embedding):
    with pytest.warns(ba.errors.LeakWarning, match="Reduce was fitted on all presentations"):
        ba.identify(ba.Reduce(4, random_state=0).fit_transform(recorded(embedding, 1.0)), embedding, cv=4, random_state=0)


def test_it_says_what_was_asked(embedding):
    step = ba.core.provenance(ba.identify(recorded(embedding, 1.0), embedding, cv=4, random_state=3)).steps[-1]
    assert (step["verb"], step["seed"], step["params"]["metric"]) == ("identify", 3, "cosine")
