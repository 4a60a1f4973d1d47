"""Cases of calibration for verbs whose p-values come from permutations of rows: similarities, topology, decoding over time, identification."""

from functools import partial

import numpy as np
import xarray as xr

import brainalign as ba


def recorded(values, system, **coords):
    ids = [f"s{i:03d}" for i in range(len(values))]
    time = {"time": 0.1 * np.arange(values.shape[2])} if values.ndim > 2 else {}
    return ba.responses(
        values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system, **time, **coords
    )


def alike(seed, effect, draws, metric):
    """One layer, and ten areas of six neuroids that share nothing with it, or something."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 6))
    y = np.hstack([rng.normal(size=(30, 6)) + effect * x @ rng.normal(size=(6, 6)) for _ in range(10)])
    target = recorded(y, "brain", region=np.repeat([f"r{i}" for i in range(10)], 6))
    out = ba.similarity(recorded(x, "net"), target, by=(None, "region"), metric=metric, n_permutations=draws, random_state=seed)
    return out.p_value.values.ravel()


def topology(seed, effect, draws):
    """The best of all transforms, of one geometry against ten."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 8))
    y = np.hstack([rng.normal(size=(20, 8)) + effect * x for _ in range(10)])
    target = recorded(y, "brain", region=np.repeat([f"r{i}" for i in range(10)], 8))
    rdms = ba.rdm(recorded(x, "net")), ba.rdm(target, by="region")
    return ba.trsa(*rdms, step=0.1, n_permutations=draws, random_state=seed).p_value_family.values.ravel()


def over_time(seed, effect, draws, model):
    """Two classes of sixty trials at ten independent times."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat([0, 1], 30))
    x = recorded(rng.normal(size=(60, 5, 10)) + effect * label[:, None, None], "meg", condition=label.astype(str))
    out = ba.decode_time(x, "condition", model=ba.Classifier(model), cv=4, n_permutations=draws, random_state=seed)
    return out.p_value.values


def any_time(seed, effect, draws, variable):
    """Two classes of fifty trials at twenty times, neighbours alike: the smallest p of all, or of all clusters."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], 25)
    x = rng.normal(size=(50, 5, 24)).cumsum(axis=2)
    x = recorded(
        (x[..., 4:] - x[..., :-4]) / 2 + effect * label[:, None, None] * (np.arange(20) // 5 == 2),
        "meg",
        condition=label.astype(str),
    )
    ask = {"model": ba.Classifier("ridge"), "cv": 5, "n_permutations": draws, "random_state": seed}
    return ba.decode_time(x, "condition", clusters="tfce" if variable == "tfce" else "mass", **ask)[
        "p_value_max" if variable == "max" else "p_value_cluster"
    ].values.min(keepdims=True)


def over_people(seed, effect, draws, method):
    """Areas under curves of twelve people, each with its own, at twenty times that are alike: the smallest p of all clusters."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(12, 24)).cumsum(axis=1)
    score = 0.5 + 0.05 * (noise[:, 4:] - noise[:, :-4]) / 2 + effect * (np.arange(20) // 5 == 2)
    people = xr.Dataset({"score": (("subject", "time"), score), "chance": 0.5})
    return ba.permutation_test(
        people, over="subject", clusters=method, n_permutations=draws, random_state=seed
    ).p_value_cluster.values.min(keepdims=True)


def identified(seed, effect, draws):
    """Sixty stimuli found by what five neuroids say of an embedding."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 5))
    y = rng.normal(size=(60, 8)) + effect * x @ rng.normal(size=(5, 8))
    sides = recorded(x, "brain"), recorded(y, "embedding")
    out = ba.identify(*sides, model=ba.Ridge(alphas=[10.0]), cv=4, n_permutations=draws, random_state=seed)
    return out.p_value.sel(measure=["two-way"]).values


CASES = {
    **{f"`similarity`: ten areas of 6 neuroids, {m}": (partial(alike, metric=m), 60, 0.6, False) for m in ("cka-debiased", "shape-1", "mutual-knn")},
    "`trsa`: the best of all transforms, ten areas": (topology, 60, 1.0, False),
    **{f"`decode_time`: two classes at ten times, {m}": (partial(over_time, model=m), 60, 0.6, False) for m in ("lda", "ridge")},
    **{f"`decode_time`: any of twenty times, {m}": (partial(any_time, variable=m), 500, 1.5, False) for m in ("max", "mass", "tfce")},
    **{f"`permutation_test`: any cluster over twelve people, {m}": (partial(over_people, method=m), 500, 0.1, False) for m in ("mass", "tfce")},
    "`identify`: two-way among 15 candidates": (identified, 600, 0.4, False),
}  # fmt: skip
QUICK = {
    "`similarity`: ten areas of 6 neuroids, cka-debiased": 10,
    "`decode_time`: two classes at ten times, ridge": 10,
    "`permutation_test`: any cluster over twelve people, mass": 150,
}
