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


def test_what_cannot_be_asked_is_refused(embedding):
    brain = recorded(embedding, 1.0)
    timed = ba.responses(RNG.normal(size=(N, 3, 2)), stimulus_id=embedding.stimulus_id.values, neuroid_id=range(3), time=[0.0, 0.1],
                         modality="meg", system="m")  # fmt: skip
    with pytest.raises(ba.errors.ParameterError, match="Expected one pattern a presentation"):
        ba.identify(brain, timed)
    with pytest.raises(ba.errors.ParameterError, match="for which nothing is predicted"):
        ba.identify(brain, embedding, query="target", candidates="all")
    with pytest.raises(ba.errors.ParameterError, match="Expected the target's 12 neuroids in its order"):
        ba.identify(brain, embedding, candidates=brain)
    with pytest.raises(ba.errors.ParameterError, match="predicts labels"):
        ba.identify(brain, embedding, model=ba.Classifier())
    with pytest.raises(ba.errors.ParameterError, match="identify got both cv=Folds and groups='run'"):
        ba.identify(brain, embedding, cv=ba.split(embedding, n_splits=3), groups="run")
    with pytest.raises(ba.errors.ParameterError, match="metric"):
        ba.identify(brain, embedding, metric="manhattan")


def test_a_step_that_saw_the_test_rows_is_named(embedding):
    with pytest.warns(ba.errors.LeakWarning, match="Reduce was fitted on all presentations"):
        ba.identify(ba.Reduce(4, random_state=0).fit_transform(recorded(embedding, 1.0)), embedding, cv=4, random_state=0)


def test_it_says_what_was_asked(embedding):
    step = ba.core.provenance(ba.identify(recorded(embedding, 1.0), embedding, cv=4, random_state=3)).steps[-1]
    assert (step["verb"], step["seed"], step["params"]["metric"]) == ("identify", 3, "cosine")
