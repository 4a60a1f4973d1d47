"""Cases of calibration for what is found, made and ablated by permutation: likelihood, captions, regions."""

import numpy as np

import brainalign as ba
from brainalign.scores import ablate, score_reconstructions


def recorded(values, system, **coords):
    ids = [f"s{i:03d}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system, **coords)


def likeliest(seed, effect, draws):
    """Sixty stimuli of five features, found by eight neuroids whose noise is shared."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 5))
    y = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)) + effect * x @ rng.normal(size=(5, 8))
    out = ba.identify(recorded(x, "layer"), recorded(y, "brain"), model=ba.Ridge(alphas=[10.0]), cv=4, metric="likelihood", query="target",
                      n_permutations=draws, random_state=seed)  # fmt: skip
    return out.p_value.sel(measure=["two-way"]).values


def captioned(seed, effect, draws):
    """Twenty captions of six words of twelve, of which a share is that of the truth."""
    rng = np.random.default_rng(seed)
    shown, said = (rng.choice(list("abcdefghijkl"), size=(20, 6)) for _ in range(2))
    said = np.where(rng.random(said.shape) < effect, shown, said)
    tables = [
        ba.stimuli.table([" ".join(row) for row in side], stimulus_id=[f"s{i}" for i in range(20)], kind="text")
        for side in (said, shown)
    ]
    out = score_reconstructions(*tables, n_permutations=draws, random_state=seed)
    return out.p_value.sel(measure=["unigram-f"]).values


def without(seed, effect, draws):
    """Three regions of ten neuroids that all say something of ten targets; the first says more."""
    rng = np.random.default_rng(seed)
    y, weights = rng.normal(size=(160, 10)), rng.normal(size=(10, 30))
    weights[:, :10] *= 1 + effect
    source = recorded(y @ weights + 10 * rng.normal(size=(160, 30)), "brain", region=np.repeat(["one", "two", "three"], 10))
    ask = {"model": ba.Ridge(alphas=[10.0]), "cv": ba.split(source, n_splits=3, random_state=seed)}
    return ablate(source, recorded(y, "target"), n_draws=draws // 5, random_state=seed, **ask).p_value.values[0]


CASES = {
    "`identify`: by likelihood, two-way among 15 candidates": (likeliest, 500, 1.0, False),
    "`score_reconstructions`: twenty captions": (captioned, 500, 0.4, False),
    "`ablate`: one of three regions, 39 random sets": (without, 60, 8.0, False),
}
QUICK = {"`score_reconstructions`: twenty captions": 60}
