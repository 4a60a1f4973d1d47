import numpy as np
import pytest

import brainalign as ba
from brainalign.neurons.captions.description import distinctive_words, list_of_words

CONCEPTS = ["dog", "beach", "car", "tree", "face", "house", "food", "bird"]
FILLERS = ["a", "photo", "of", "with", "some", "nice", "light", "old", "small", "near"]


@pytest.fixture(scope="module")
def pool():
    """Six hundred pictures with each of eight concepts in a quarter of them: embeddings, and captions with words that say nothing."""
    rng = np.random.default_rng(0)
    there = rng.random((600, 8)) < 0.25
    names = [f"s{i:03d}" for i in range(600)]
    features = ba.responses(there @ rng.normal(size=(8, 24)) + 0.3 * rng.normal(size=(600, 24)), stimulus_id=names, neuroid_id=range(24),
                            modality="ann", system="net")  # fmt: skip
    texts = {}
    for name, row in zip(names, there, strict=True):
        words = [*np.array(CONCEPTS)[row], *rng.choice(FILLERS, 5, replace=False)]
        texts[name] = " ".join(rng.permutation(words))
    return features, texts, there


def fitted(features, driven):
    """Voxels that answer sums of concepts and noise, fitted on the first third of the pictures; the rest is a pool."""
    values = driven + 0.5 * np.random.default_rng(2).normal(size=driven.shape)
    brain = ba.responses(values, stimulus_id=features.stimulus_id, neuroid_id=[f"v{i:02d}" for i in range(values.shape[1])], modality="fmri",
                         system="sub-01")  # fmt: skip
    return ba.Ridge(alphas=[10.0]).fit(features[:200], brain[:200]), brain


def test_both_concepts_of_a_voxel_are_among_its_keywords_and_one_has_no_second(pool):
    features, texts, there = pool
    pairs = np.random.default_rng(1).permuted(np.tile(np.arange(8), (30, 1)), axis=1)[:, :2]
    two, _ = fitted(features, there[:, pairs[:, 0]] + 1.0 * there[:, pairs[:, 1]])
    out = ba.neurons.describe(two, features[200:], texts, k=50, random_state=0)
    both = [set(np.array(CONCEPTS)[pair]) <= set(words) for pair, words in zip(pairs, out.keyword.values.tolist(), strict=True)]
    assert np.mean(both) >= 0.9
    one, _ = fitted(features, 1.0 * there[:, pairs[:, 0]])
    out = ba.neurons.describe(one, features[200:], texts, k=50, random_state=0)
    assert np.mean(out.keyword.values[:, 0] == np.array(CONCEPTS)[pairs[:, 0]]) >= 0.9
    assert np.mean(out.keyword.values[:, 1] != "") < 0.1


def test_captions_predict_held_out_responses_better_than_shuffled_ones_and_than_a_single_picture(pool):
    features, texts, there = pool
    pairs = np.random.default_rng(1).permuted(np.tile(np.arange(8), (30, 1)), axis=1)[:, :2]
    model, brain = fitted(features, there[:, pairs[:, 0]] + 1.0 * there[:, pairs[:, 1]])
    out = ba.neurons.describe(model, features[200:400], texts, k=40, random_state=0)
    held_out, bank = (
        brain[400:],
        ba.neurons.caption_bank({name: texts[name] for name in features.stimulus_id.values[400:].tolist()}),
    )
    scored = ba.neurons.score_captions(out.caption, held_out, bank, n_permutations=199, random_state=0)
    assert float(scored.score.mean()) > 0.5
    assert (scored.p_value.values <= 0.05).mean() > 0.95
    other = ba.neurons.score_captions(
        np.roll(out.caption.values.astype(object), 7), held_out, bank, n_permutations=199, random_state=0
    )
    assert float(other.score.mean()) < 0.3
    best = features.stimulus_id.values[200:400][model.predict(features[200:400]).values.argmax(axis=0)]
    single = ba.neurons.score_captions([texts[name] for name in best.tolist()], held_out, bank, n_permutations=0)
    assert float((scored.score - single.score).mean()) > 0.1


def test_each_step_can_be_replaced(pool):
    features, texts, there = pool
    model, _ = fitted(features, 1.0 * there[:, :2])
    nearest = ba.neurons.NearestCaption(features.values, list(texts.values()))
    by_captioner = ba.neurons.describe(model, features, nearest, random_state=0)
    by_mapping = ba.neurons.describe(model, features, texts, random_state=0)
    assert by_captioner.caption.values.tolist() == by_mapping.caption.values.tolist()
    out = ba.neurons.describe(
        model, features, texts, n_keywords=2, random_state=0, compose=lambda words: "drawn by " + "/".join(words),
        keywords=lambda some, everything: [("short", len(some)), ("long", len(everything)), ("left out", 0.0)],
    )  # fmt: skip
    assert out.caption.values.tolist() == ["drawn by short/long"] * 2
    assert out.keyword_score.values.tolist() == [[50.0, 600.0]] * 2


def test_weights_without_a_mapping_predict_by_a_product(pool):
    features, texts, there = pool
    model, _ = fitted(features, 1.0 * there[:, :3])
    by_weights = ba.neurons.describe(np.asarray(model.coef_), features, texts, random_state=0)
    assert (
        by_weights.caption.values.tolist() == ba.neurons.describe(model, features, texts, random_state=0).caption.values.tolist()
    )
    silent = ba.neurons.describe(np.zeros((24, 1)), features, texts)
    assert (silent.caption.item(), silent.status.item()) == ("", "constant")


def test_words_that_chance_gives_as_often_are_left_out():
    rng = np.random.default_rng(0)
    everything = [" ".join(rng.choice([f"w{chr(97 + i)}" for i in range(20)], 4)) for _ in range(400)]
    found = [distinctive_words([everything[i] for i in rng.choice(400, 40, replace=False)], everything) for _ in range(300)]
    assert np.mean([len(words) > 0 for words in found]) <= 0.08
    assert distinctive_words([""], everything) == []


def test_keywords_become_a_list():
    assert [list_of_words(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_bad_input_is_named(pool):
    features, texts, _ = pool
    with pytest.raises(ba.errors.AlignmentError, match="without 599 of 600 stimuli of the pool, first 's001'"):
        ba.neurons.describe(np.ones((24, 1)), features, {"s000": "a dog"})
    with pytest.raises(ba.errors.ParameterError, match="'k' parameter of describe"):
        ba.neurons.describe(np.ones((24, 1)), features, texts, k=601)
