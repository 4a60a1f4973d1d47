"""Cases of calibration for captions: the best of many concepts, by every method, and what a caption says of held-out presentations."""

from functools import partial

import numpy as np

import brainalign as ba


def recorded(values, system, names=None):
    names = range(values.shape[1]) if names is None else names
    ids = [f"s{i:03d}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=names, modality="behaviour", system=system)


def world(seed, effect, n=60):
    """Ten rectified neuroids, silent for two in three of n stimuli, and twelve concepts; each neuroid answers one, or none."""
    rng = np.random.default_rng(seed)
    concepts = rng.normal(size=(n, 12))
    x = np.maximum(effect * concepts[:, :10] + rng.normal(size=(n, 10)) - 0.4, 0)
    return recorded(x, "brain"), recorded(concepts, "judges", [f"word-{i}" for i in range(12)])


def labelled(seed, effect, draws, **options):
    return ba.caption(*world(seed, effect), n_permutations=draws, random_state=seed, **options).p_value.values


def told(seed, effect, draws, value, n=60):
    x, bank = world(seed, effect, n)
    words = [f"word-{i}" for i in range(10)]
    return ba.neurons.score_captions(words, x, bank, n_permutations=draws, random_state=seed)[value].values


def mediated(seed, effect, draws):
    """Ten of a hundred neuroids whose captions are drawn, or are of concepts that a decoder reads from them more than from others."""
    rng = np.random.default_rng(seed)
    decoder, words = ba.Ridge(alphas=[1e-3]), [f"word-{i}" for i in range(10)]
    x, weights = rng.normal(size=(200, 100)), rng.normal(size=(100, 10))
    weights[:10] += effect * np.eye(10)
    decoder.fit(recorded(x[:150], "brain"), recorded(x[:150] @ weights, "judges", words))
    return ba.neurons.mediation(recorded(x[150:], "brain"), decoder, words + [""] * 90, random_state=seed).p_value.values[:10]


CASES = {
    **{f"`caption`: the best of twelve concepts, {m}": (partial(labelled, method=m), 60, 1.5, False) for m in ("softwpmi", "pmi", "pearson")},
    "`caption`: softwpmi normalised by neuroids": (partial(labelled, normalize="neuroids", penalty=0.6), 60, 1.5, False),
    "`score_captions`: correlation": (partial(told, value="p_value"), 60, 1.0, False),
    "`score_captions`: F1": (partial(told, value="f1_p_value"), 60, 1.5, True),
    "`score_captions`: F1 over 500 stimuli": (partial(told, value="f1_p_value", n=500), 60, 1.5, False),
    "`neurons.mediation`: ten of a hundred neuroids": (mediated, 60, 6.0, False),
}  # fmt: skip
QUICK = {"`caption`: the best of twelve concepts, softwpmi": 20}
