import numpy as np
import pytest

import brainalign as ba
from brainalign.neurons.weights.reading import bank_rows, labelled_vectors, vectors_of


def bank_of(rows, names=None):
    names = [f"token-{i:03d}" for i in range(len(rows))] if names is None else names
    return ba.responses(rows, stimulus_id=names, neuroid_id=range(rows.shape[1]), modality="ann", system="unembedding")


@pytest.fixture(scope="module")
def vocabulary():
    return bank_of(np.random.default_rng(0).normal(size=(500, 32)))


def test_a_row_of_the_unembedding_is_read_as_its_token(vocabulary):
    which = [7, 300, 12]
    out = ba.neurons.read_weights(vocabulary.values[which].T, vocabulary, k=4)
    assert out.label.values[:, 0].tolist() == ["token-007", "token-300", "token-012"]
    assert out.label.dims == ("neuroid", "rank")
    assert (np.diff(out.score.values, axis=1) <= 0).all()
    assert (out.probability.values[:, 0] > 0.9).all()
    assert (ba.neurons.read_weights(-vocabulary.values[which].T, vocabulary).label.values[:, 0] != out.label.values[:, 0]).all()


def test_a_vector_that_speaks_of_few_tokens_has_a_long_tail(vocabulary):
    loud = bank_of(np.vstack([vocabulary.values, 20 * np.eye(32)[:2]]))
    out = ba.neurons.read_weights(np.stack([np.eye(32)[0], np.random.default_rng(3).normal(size=32)], axis=1), loud)
    assert out.kurtosis.values[0] > 50 > 10 > out.kurtosis.values[1]
    assert out.skewness.values[0] > 3


def test_the_gain_and_the_mean_of_the_norm_are_those_of_torch(vocabulary):
    import torch

    rng = np.random.default_rng(1)
    weights, gain = rng.normal(size=(32, 5)) + 2, rng.uniform(0.1, 3, size=32)
    norm = torch.nn.LayerNorm(32, eps=0.0, bias=False)
    norm.weight.data = torch.as_tensor(gain, dtype=torch.float32)
    logits = norm(torch.as_tensor(weights.T, dtype=torch.float32)).detach().numpy() @ vocabulary.values.T
    out = ba.neurons.read_weights(weights, vocabulary, k=9, scale=norm.weight, centre=True)
    np.testing.assert_array_equal(out.label.values, vocabulary.stimulus_id.values[np.argsort(-logits, axis=1)[:, :9]])
    assert (ba.neurons.read_weights(weights, vocabulary, k=9).label.values != out.label.values).any()


def test_a_voxel_and_a_unit_are_read_by_the_same_call(vocabulary):
    """A voxel that answers the feature direction of a token is fitted to it, and is read as that token."""
    rng = np.random.default_rng(2)
    features = bank_of(rng.normal(size=(400, 32)), [f"s{i}" for i in range(400)])
    directions = vocabulary.values[[3, 77]].T
    brain = ba.responses(features.values @ directions + rng.normal(size=(400, 2)), stimulus_id=features.stimulus_id, neuroid_id=["v1", "v2"],
                         modality="fmri", system="sub-01", region="V1")  # fmt: skip
    model = ba.Ridge(alphas=[1.0]).fit(features, brain)
    for out in (ba.neurons.read_weights(model, vocabulary, metric="cosine"), ba.neurons.read_weights(directions, vocabulary)):
        assert out.label.values[:, 0].tolist() == ["token-003", "token-077"]
    assert ba.neurons.read_weights(model, vocabulary).region.values.tolist() == ["V1", "V1"]


def test_weights_that_are_nothing_are_read_as_nothing(vocabulary):
    weights = np.stack([np.zeros(32), np.full(32, np.nan), vocabulary.values[5]], axis=1)
    for metric in ("dot", "cosine"):
        out = ba.neurons.read_weights(weights, vocabulary, metric=metric, k=1)
        assert out.label.values.ravel().tolist() == ["", "", "token-005"]
        assert np.isnan(out.score.values[:2]).all()


def test_bad_input_is_named(vocabulary):
    with pytest.raises(ba.errors.AlignmentError, match="weights of 31 features and a bank whose vectors have 32"):
        ba.neurons.read_weights(np.ones((31, 2)), vocabulary)
    with pytest.raises(ba.errors.CapabilityError, match=r"read_weights got weights of type Classifier.*coef_"):
        ba.neurons.read_weights(ba.Classifier(), vocabulary)
    with pytest.raises(ba.errors.ParameterError, match=r"scale of shape \(3,\)"):
        ba.neurons.read_weights(np.ones((32, 1)), vocabulary, scale=[1, 2, 3])
    with pytest.raises(ba.errors.ParameterError, match="'k' parameter of read_weights"):
        ba.neurons.read_weights(np.ones((32, 1)), vocabulary, k=501)
    zero = vocabulary.copy(data=np.where(np.arange(500)[:, None] == 9, 0, vocabulary.values))
    with pytest.raises(ba.errors.ParameterError, match="1 vectors that are NaN or have no direction, first that of token-009"):
        ba.neurons.read_weights(np.ones((32, 1)), zero, metric="cosine")


def test_vectors_keep_the_names_of_their_neuroids_and_features(vocabulary):
    made = labelled_vectors(np.eye(3), {"neuroid_id": ("neuroid", ["a", "b", "c"])}, np.arange(3))
    vectors, coords, ids = vectors_of(made.transpose(), owner="test")
    np.testing.assert_array_equal(vectors, np.eye(3))
    assert coords["neuroid_id"][1].tolist() == ["a", "b", "c"]
    with pytest.raises(ba.errors.AlignmentError, match="test got weights of 3 features"):
        bank_rows(vocabulary[:, [2, 1, 0]], vectors, ids, owner="test")
    timed = np.ones((40, 2, 3))
    meg = ba.responses(
        timed * np.arange(40)[:, None, None], stimulus_id=range(40), neuroid_id=[0, 1], modality="meg", system="s", time=[0, 1, 2]
    )
    flat = ba.responses(
        np.random.default_rng(0).normal(size=(40, 2)), stimulus_id=range(40), neuroid_id=[0, 1], modality="ann", system="net"
    )
    chain = ba.chain(ba.ZScore(), ba.Ridge(alphas=[1.0])).fit(flat, flat)
    with pytest.raises(ba.errors.CapabilityError, match=r"type Chain.*last step"):  # its weights are of standardised features
        vectors_of(chain, owner="test")
    assert vectors_of(chain.steps_[-1], owner="test")[0].shape == (2, 2)
    with pytest.raises(ba.errors.CapabilityError, match="without times"):
        vectors_of(ba.Ridge(alphas=[1.0]).fit(flat, meg), owner="test")
