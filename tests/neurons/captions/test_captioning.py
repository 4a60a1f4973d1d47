import numpy as np
import pytest
from scipy.stats import kstest

import brainalign as ba

N_ROWS, N_CONCEPTS, N_NEUROIDS = 200, 50, 40


def recorded(values, system="sub-01", names=None, **coords):
    names = range(values.shape[1]) if names is None else names
    ids = [f"s{i:03d}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=names, modality="behaviour", system=system, **coords)


@pytest.fixture(scope="module")
def words():
    """A bank of fifty words, rated for two hundred pictures."""
    values = np.random.default_rng(0).normal(size=(N_ROWS, N_CONCEPTS))
    return recorded(values, "judges", [f"word-{i:02d}" for i in range(N_CONCEPTS)])


@pytest.fixture(scope="module")
def planted(words):
    """Neuroids that answer a word each, with as much noise as signal; and the words."""
    rng = np.random.default_rng(1)
    which = rng.integers(N_CONCEPTS, size=N_NEUROIDS)
    x = recorded(words.values[:, which] + rng.normal(size=(N_ROWS, N_NEUROIDS)))
    return x, words.neuroid_id.values[which]


@pytest.mark.parametrize("method", ["softwpmi", "wpmi", "pmi", "pearson", "cosine"])
def test_a_neuroid_that_answers_a_word_is_labelled_by_it(words, planted, method):
    x, truth = planted
    out = ba.caption(x, words, method=method, n_permutations=99, random_state=0)
    assert np.mean(out.label.values == truth) >= 0.9
    assert (out.p_value.values <= 0.01).mean() >= 0.9
    assert (out.p_value_fdr.values >= out.p_value.values).all()
    assert out.score.dims == ("neuroid", "concept")
    np.testing.assert_array_equal(out.label_score.values, out.score.values.max(axis=1))


@pytest.mark.parametrize("normalize", ["presentations", "neuroids"])
def test_noise_has_uniform_p_values(words, normalize):
    """Rectified: most of the exemplars tie at 0."""
    noise = np.maximum(np.random.default_rng(3).normal(size=(N_ROWS, 300)) - 1.5, 0)
    out = ba.caption(recorded(noise), words, normalize=normalize, n_permutations=199, random_state=0)
    assert kstest(out.p_value.values, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(out.p_value.values <= 0.05) < 0.09


def test_ties_of_a_table_in_order_of_category_do_not_make_a_label():
    """Five presentations drive each unit, and twenty are looked at: the other fifteen must not be the first of the table."""
    category = np.repeat(np.eye(5), 40, axis=0)
    rng = np.random.default_rng(0)
    silent = np.zeros((200, 200))
    for column in silent.T:
        column[rng.choice(200, 5, replace=False)] = 1.0
    out = ba.caption(recorded(silent), recorded(category, "c", list("abcde")), k=20, n_permutations=99, random_state=0)
    assert 0.01 <= np.mean(out.p_value.values <= 0.05) <= 0.10
    assert np.unique(out.label.values, return_counts=True)[1].max() < 70


def test_labels_by_neuroids_depend_on_the_others_and_labels_by_presentations_do_not(words, planted):
    x, truth = planted
    some = x[:, :7]
    for normalize, same in (("presentations", True), ("neuroids", False)):
        all_of_them, few = (
            ba.caption(y, words, normalize=normalize, n_permutations=0, random_state=0).score.values[:7] for y in (x, some)
        )
        assert np.allclose(all_of_them, few) == same
    assert np.mean(ba.caption(x, words, normalize="neuroids", n_permutations=0).label.values == truth) < 0.9
    with pytest.raises(ba.errors.ParameterError, match="1 neuroids that vary"):
        ba.caption(x[:, :1], words, normalize="neuroids")


def test_pmi_finds_the_rare_word_that_likelihood_passes_over():
    """Half of all captions say "outdoors"; one in twenty says the word that drives a neuroid, and so do half of its exemplars."""
    rng = np.random.default_rng(0)
    said = np.hstack([rng.random((400, 1)) < 0.6, rng.random((400, 49)) < 0.05]).astype(float)
    which = rng.integers(1, 50, size=60)
    x = recorded(1.5 * said[:, which] + rng.normal(size=(400, 60)))
    bank = recorded(said, "captions", ["outdoors", *(f"word-{i:02d}" for i in range(1, 50))], units="probability")
    truth = bank.neuroid_id.values[which]
    found = {
        penalty: ba.caption(x, bank, method="pmi", k=20, penalty=penalty, n_permutations=0, random_state=0) for penalty in (0, 1)
    }
    right = {penalty: np.mean(out.label.values == truth) for penalty, out in found.items()}
    assert right[1] >= 0.9
    assert right[0] < 0.5
    assert np.mean(found[0].label.values == "outdoors") > 0.5


def test_captions_by_stimulus_become_labels():
    rng = np.random.default_rng(0)
    animals = rng.choice(["dog", "cat", "horse"], size=120)
    bank = ba.neurons.caption_bank({f"s{i:03d}": f"a {animal} outside" for i, animal in enumerate(animals)})
    x = recorded(np.stack([animals == "cat", animals == "horse"], axis=1) + 0.3 * rng.normal(size=(120, 2)))
    for method in ("softwpmi", "pmi"):
        out = ba.caption(x, bank, method=method, n_permutations=99, random_state=0)
        assert out.label.values.tolist() == ["cat", "horse"]
        assert np.isnan(out.score.sel(concept="outside")).all()  # every caption says so


def test_a_random_system_is_another_null(words, planted):
    x, _ = planted
    random = recorded(np.random.default_rng(5).normal(size=(N_ROWS, 99)), "untrained")
    out = ba.caption(x, words, null=random, random_state=0)
    assert (out.p_value.values == 0.01).mean() > 0.9
    salmon = ba.caption(recorded(np.random.default_rng(6).normal(size=(N_ROWS, 99))), words, null=random, random_state=0)
    assert kstest(salmon.p_value.values, "uniform").pvalue > 0.01
    assert (salmon.p_value_fdr.values > 0.05).all()
    np.testing.assert_array_equal(ba.caption(x, words, null=random[::-1], random_state=0).p_value, out.p_value)
    with pytest.raises(ba.errors.AlignmentError, match="a null that saw 150 of 200 common stimuli"):
        ba.caption(x, words, null=random[50:])


def test_slow_recordings_are_shifted_and_not_exchanged():
    """Slow noise on both sides: exchanged as if rows were independent, a quarter and more of it would pass."""
    rng = np.random.default_rng(0)

    def slow(n):
        return np.apply_along_axis(np.convolve, 0, rng.normal(size=(439, n)), np.ones(40) / 40, mode="valid")

    rated, noise, time = slow(4), slow(60), {"onset_s": np.arange(400.0), "run": "1"}
    bank = recorded(rated, "j", list("abcd"))
    shifted = ba.caption(recorded(noise, **time), bank, method="pearson", n_permutations=99, random_state=0)
    exchanged = ba.caption(recorded(noise), bank, method="pearson", n_permutations=99, random_state=0)
    assert np.mean(shifted.p_value.values <= 0.05) < 0.15 < 0.25 < np.mean(exchanged.p_value.values <= 0.05)


def test_constant_neuroids_are_named_and_do_not_spoil_the_others(words, planted):
    x, truth = planted
    values = x.values.copy()
    values[:, 1] = 3.0
    out = ba.caption(recorded(values), words, n_permutations=9, random_state=0)
    assert out.status.values.tolist() == ["ok", "constant", *["ok"] * (N_NEUROIDS - 2)]
    assert out.label.values[1] == ""
    assert np.isnan(out.p_value.values[1])
    assert np.isnan(out.score.values[1]).all()
    assert out.label.values[0] == truth[0]


def test_rows_are_joined_by_name_and_repeats_averaged(words, planted):
    x, truth = planted
    order = np.random.default_rng(0).permutation(N_ROWS)[:150]
    twice = ba.responses(np.tile(x.values[order], (2, 1)), stimulus_id=np.tile(x.stimulus_id.values[order], 2), neuroid_id=range(N_NEUROIDS),
                         modality="fmri", system="s")  # fmt: skip
    out = ba.caption(twice, words, n_permutations=0, random_state=0)
    assert np.mean(out.label.values == truth) >= 0.9
    assert out.attrs["n_presentations"] == 150


def test_bad_input_is_named(words, planted):
    x, _ = planted
    with pytest.raises(ba.errors.ParameterError, match="Did you mean 'pearson'"):
        ba.caption(x, words, method="pearsn")
    with pytest.raises(ba.errors.ParameterError, match="300 exemplars and 200 common presentations"):
        ba.caption(x, words, k=300)
    with pytest.raises(ba.errors.SchemaError, match="none of the 50 concepts varies"):
        ba.caption(x, words.copy(data=np.ones(words.shape, "float32")))
    with pytest.raises(ba.errors.ParameterError, match="'null' parameter of caption"):
        ba.caption(x, words, null="phase")
    named_twice = words.assign_coords(
        neuroid_id=("neuroid", ["same"] * N_CONCEPTS), system=("neuroid", [f"{i}" for i in range(N_CONCEPTS)])
    )
    with pytest.raises(ba.errors.SchemaError, match="49 concepts that it holds twice"):
        ba.caption(x, named_twice)
