import numpy as np
import pytest

import brainalign as ba


def recorded(values, names=None, system="sub-01"):
    names = [f"n{i}" for i in range(values.shape[1])] if names is None else names
    return ba.responses(
        values, stimulus_id=[f"s{i:03d}" for i in range(len(values))], neuroid_id=names, modality="behaviour", system=system
    )


class Reads:
    """A decoder that is known: it uses some columns, with weights."""

    def __init__(self, weights):
        self.weights = np.asarray(weights, dtype=float)

    def predict(self, x):
        return np.asarray(x) @ self.weights


@pytest.fixture(scope="module")
def world():
    """A concept in two neuroids: one is read, the other goes with it and is not; a third has nothing to do with it."""
    rng = np.random.default_rng(0)
    concept = (rng.random(300) < 0.5).astype(float)
    return recorded(np.stack([concept, concept, rng.normal(size=300)], axis=1)), recorded(concept[:, None], ["furry"], "judges")


def test_a_mediator_has_an_effect_of_one_and_a_bystander_none(world):
    x, bank = world
    out = ba.neurons.mediation(x, Reads([[1.0], [0.0], [0.0]]), random_state=0)
    np.testing.assert_allclose(out.effect.values.ravel(), [1.0, 0.0, 0.0])
    observed = ba.neurons.score_captions(["furry"] * 3, x, bank, n_permutations=0)
    assert observed.f1.values[:2].tolist() == [1.0, 1.0]  # which observation cannot tell
    assert out.attrs["causal_scope"] == "virtual"


def test_effects_of_a_linear_decoder_add_up_to_one_and_follow_its_weights():
    x = recorded(np.random.default_rng(1).normal(size=(2000, 4)))
    weights = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    out = ba.neurons.mediation(x, Reads(weights), n_pairs=20000, random_state=0)
    np.testing.assert_allclose(out.effect.values.sum(axis=0), 1.0)
    np.testing.assert_allclose(out.effect.values, [[0.9, 0], [0.1, 0], [0, 0.5], [0, 0.5]], atol=0.02)


def test_a_decoder_that_needs_both_is_moved_by_neither_alone():
    """Exclusive or: its output turns with each neuroid, whichever way the other one is."""
    values = np.random.default_rng(0).integers(2, size=(400, 2)).astype(float)

    class ExclusiveOr:
        def predict(self, x):
            return np.logical_xor(*(np.asarray(x) > 0.5).T)[:, None].astype(float)

    out = ba.neurons.mediation(recorded(values), ExclusiveOr(), n_pairs=4000, random_state=0)
    np.testing.assert_allclose(out.effect.values.ravel(), 0.5, atol=1e-9 + 0.5 * 0.2)


def test_a_captioned_neuroid_is_compared_with_all_others():
    rng = np.random.default_rng(0)
    concepts = rng.normal(size=(500, 3))
    x = recorded(np.hstack([concepts + 0.3 * rng.normal(size=(500, 3)), rng.normal(size=(500, 37))]))
    bank = recorded(concepts, ["dog", "cat", "sea"], "judges")
    decoder = ba.Ridge(alphas=[1.0]).fit(x[:250], bank[:250])
    labels = ba.caption(x[:250], bank, method="pearson", n_permutations=0).label
    out = ba.neurons.mediation(x[250:], decoder, labels, random_state=0)
    assert out.concept.values.tolist() == ["dog", "cat", "sea"]
    assert labels.values[:3].tolist() == ["dog", "cat", "sea"]
    assert (out.score.values[:3] > 0.8).all()
    assert (out.chance.values[:3] < 0.05).all()
    np.testing.assert_allclose(out.p_value.values[:3], 1 / 40)
    assert np.mean(out.p_value.values[3:] <= 0.05) < 0.15


def test_concepts_of_one_name_in_two_groups_are_called_by_their_addresses():
    """As `caption` calls them, whose labels are asked about."""
    values = np.random.default_rng(0).normal(size=(60, 2))
    ids = {"stimulus_id": [f"s{i:03d}" for i in range(60)], "modality": "ann", "system": "net"}
    bank = ba.responses(values, neuroid_id=["furry", "furry"], layer=["1", "2"], **ids)
    x = recorded(values[:, ::-1])
    labels = ba.caption(x, bank, method="pearson", n_permutations=0).label
    out = ba.neurons.mediation(x, ba.Ridge(alphas=[1e-3]).fit(x, bank), labels, random_state=0)
    assert out.concept.values.tolist() == ["1/furry", "2/furry"]
    np.testing.assert_allclose(out.score.values, 1.0, atol=1e-3)


def test_bad_input_is_named(world):
    x, bank = world
    decoder = ba.Ridge(alphas=[1.0]).fit(x, bank)
    with pytest.raises(ba.errors.ParameterError, match=r"1 captions that are no concept.*Did you mean 'furry'"):
        ba.neurons.mediation(x, decoder, ["furry", "fury", ""])
    labels = ba.caption(x, bank, method="pearson", n_permutations=0).label
    with pytest.raises(ba.errors.AlignmentError, match=r"mediation got 3 captions .*'n2', 'n1', 'n0'.*and 3 neuroids"):
        ba.neurons.mediation(x, decoder, labels[::-1])
    out = ba.neurons.mediation(x, decoder, ["furry", "", ""], random_state=0)
    assert np.isnan(out.score.values).tolist() == [False, True, True]
    with pytest.raises(ba.errors.CapabilityError, match="Expected numbers"):
        ba.neurons.mediation(x, ba.Classifier().fit(x.values, np.where(bank.values[:, 0] > 0, "yes", "no")), random_state=0)
