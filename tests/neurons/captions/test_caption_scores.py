import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import f1_score, precision_score, recall_score

import brainalign as ba


def recorded(values, names=None, system="sub-01", **coords):
    names = range(values.shape[1]) if names is None else names
    ids = [f"s{i:03d}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=names, modality="behaviour", system=system, **coords)


@pytest.fixture(scope="module")
def bank():
    said = np.random.default_rng(0).random((200, 6)) < 0.3
    return recorded(said.astype(float), ["dog", "cat", "tree", "house", "sea", "car"], "captions", units="probability")


def test_an_exact_detector_has_f1_of_one_and_another_one_has_that_of_chance(bank):
    out = ba.neurons.score_captions(["dog", "dog"], recorded(2.0 * bank.values[:, [0, 3]] + 0.2), bank, random_state=0)
    np.testing.assert_allclose([out[name].values[0] for name in ("precision", "recall", "f1", "score")], 1.0)
    assert out.p_value.values[0] == out.f1_p_value.values[0] == pytest.approx(1 / 1001)
    assert abs(out.f1.values[1] - out.f1_chance.values[1]) < 0.15
    assert out.p_value.values[1] > 0.01
    assert out.caption.values.tolist() == ["dog", "dog"]


def test_parts_are_those_of_scikit_learn(bank):
    x = recorded(bank.values[:, [1]] + 0.6 * np.random.default_rng(1).random((200, 1)))
    out = ba.neurons.score_captions(["cat"], x, bank, threshold=0.4, n_permutations=9, random_state=0)
    active, there = x.values[:, 0] > 0.4 * x.values.max(), bank.values[:, 1] > 0.4
    for name, wanted in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert out[name].item() == pytest.approx(wanted(active, there))
    assert out.score.item() == pytest.approx(np.corrcoef(x.values[:, 0], bank.values[:, 1])[0, 1])


def test_a_text_says_the_mean_of_its_words(bank):
    x = recorded(bank.values[:, [0, 2]].sum(axis=1, keepdims=True))
    out = ba.neurons.score_captions(["A dog and a TREE, a dog"], x, bank, n_permutations=0)
    assert out.score.item() == pytest.approx(1.0)
    assert "p_value" not in out
    assert ba.neurons.score_captions(["a dog"], x, bank, n_permutations=0).score.item() < 0.9


def test_shuffled_presentations_give_uniform_p_values(bank):
    noise = np.random.default_rng(5).normal(size=(200, 300))
    out = ba.neurons.score_captions(["dog"] * 300, recorded(noise), bank, n_permutations=199, random_state=0)
    assert kstest(out.p_value.values, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(out.p_value.values <= 0.05) <= 0.08
    assert (out.p_value_fdr.values > 0.05).all()


def test_what_cannot_be_scored_is_said(bank):
    values = np.random.default_rng(0).normal(size=(200, 4))
    values[:, 1] = 2.0
    values[:, 3] = -1 - np.abs(values[:, 3])
    out = ba.neurons.score_captions(["dog", "dog", "a zebra", "cat"], recorded(values), bank, n_permutations=9, random_state=0)
    assert out.status.values.tolist() == ["ok", "constant", "unsaid", "ok"]
    assert np.isnan(out.score.values).tolist() == [False, True, True, False]
    assert np.isnan(out.f1.values).tolist() == [
        False,
        True,
        True,
        True,
    ]  # never above 0: no share of its highest response is below it
    assert np.isnan(out.p_value.values).tolist() == [False, True, True, False]


def test_labels_are_scored_on_presentations_that_they_were_not_made_from(bank):
    rng = np.random.default_rng(3)
    x = recorded(bank.values[:, [4, 5]] + 0.4 * rng.normal(size=(200, 2)), ["a", "b"])
    labels = ba.caption(x[:100], bank, n_permutations=9, random_state=0).label
    out = ba.neurons.score_captions(labels, x[100:], bank, n_permutations=99, random_state=0)
    assert out.caption.values.tolist() == ["sea", "car"]
    assert out.attrs["n_presentations"] == 100
    assert (out.p_value.values == 0.01).all()


def test_bad_input_is_named(bank):
    x = recorded(bank.values[:, :2], ["a", "b"])
    with pytest.raises(ba.errors.AlignmentError, match=r"1 captions .* and 2 neuroids"):
        ba.neurons.score_captions(["dog"], x, bank)
    labels = ba.caption(x, bank, n_permutations=0).label
    with pytest.raises(ba.errors.AlignmentError, match="'b', 'a'"):
        ba.neurons.score_captions(labels[::-1], x, bank)
    with pytest.raises(ba.errors.ParameterError, match="Expected a text for each neuroid"):
        ba.neurons.score_captions([1.0, 2.0], x, bank)
