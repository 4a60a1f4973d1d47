"""Candidates of an identification: what likelihood compares, and that it inverts encoding as decoding does where both can."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.dataset.folds import Fold
from brainalign.engine.retrieval import rank_true
from brainalign.features.chain import chain
from brainalign.scores.candidates import Asked, rank_queries
from brainalign.scores.pairing import Pair

N, D = 120, 6
RNG = np.random.default_rng(0)


class Known(ba.Ridge):
    """Predicts by given weights, whatever it is fitted to."""

    def __init__(self, weights=None):
        super().__init__(alphas=[1.0])
        self.weights = weights

    def predict(self, X):
        return X.values @ self.weights


def responses(values):
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(len(values))], neuroid_id=range(values.shape[1]),
                        modality="behaviour", system="x")  # fmt: skip


def ranks(source, target, weights, **asked):
    """Of the last 20 rows, with noise learned from the others."""
    rows = np.arange(len(source))
    both = Pair(source, target, chain(Known(weights)), [Fold("one", rows[:-20], rows[-20:])], {"repeats": "keep"})
    full = {
        "metric": "likelihood",
        "query": "target",
        "candidates": "test",
        "by": None,
        "centre": True,
        "rescale": "none",
        "groups": None,
    }
    return rank_queries(both, asked=Asked(**full | asked, width=target.shape[1]))


def test_likelihood_is_the_distance_in_units_of_held_out_noise():
    weights = RNG.normal(size=(D, 4))
    features = RNG.normal(size=(N + 4000, D))
    noise = RNG.normal(size=(4, 4))
    source, target = responses(features), responses(features @ weights + RNG.normal(size=(N + 4000, 4)) @ noise)
    found, counts, rows = ranks(source, target, weights)
    precision = np.linalg.inv(noise.T @ noise)
    apart = target.values[-20:, None] - (source.values @ weights)[None, -20:]
    squared = np.einsum("qmi,ij,qmj->qm", apart, precision, apart)
    want = (squared < np.diag(squared)[:, None]).sum(axis=1)
    assert np.abs(found[:, 0] - want).max() <= 1  # a covariance of 4,100 rows is nearly the true one
    assert (found[:, 0] == want).mean() > 0.9
    assert counts.tolist() == [20] * 20
    assert rows[0][1].tolist() == [f"s{i}" for i in range(N + 3980, N + 4000)]


def test_with_a_neuroid_a_dimension_and_white_noise_it_is_decoding():
    """C = D, Σ ∝ I, no prior: the posterior's mode is b W⁻¹, and a rotation keeps distances."""
    weights = np.linalg.qr(RNG.normal(size=(D, D)))[0]
    features = RNG.normal(size=(6000, D))
    brain = features @ weights + 0.7 * RNG.normal(size=(6000, D))
    encoded = ranks(responses(features), responses(brain), weights)[0][:, 0]
    decoded = ranks(responses(brain), responses(features), weights.T, metric="euclidean", query="prediction")[0][:, 0]
    np.testing.assert_array_equal(
        decoded, rank_true((brain @ weights.T)[-20:], features[-20:], np.arange(20), similarity="euclidean")
    )
    assert np.abs(encoded - decoded).max() <= 1
    assert (encoded == decoded).mean() > 0.9


@pytest.mark.parametrize("rescale", ["train", "test"])
def test_rescaling_undoes_a_shrinkage_of_each_neuroid(rescale):
    features = RNG.normal(size=(N, D))
    shrink = np.diag(np.linspace(0.01, 1.0, D))
    source, target = responses(features), responses(features + 0.5 * RNG.normal(size=(N, D)))
    plain, even, undone = (
        ranks(source, target, w, metric="cosine", rescale=r)[0].mean()
        for w, r in ((shrink, "none"), (np.eye(D), rescale), (shrink, rescale))
    )
    assert undone == pytest.approx(even, abs=0.2)
    assert plain > undone + 0.3
