"""Cases of calibration for where attributions point: targets without their stimuli, phases, and networks that were never trained."""

from functools import partial

import numpy as np
import torch

import brainalign as ba

GROUPS = np.repeat(np.arange(4), 2)
ASK = {"method": "gradient-times-input", "groups": GROUPS}


def smooth(values):
    """Noise that is like itself over three rows."""
    padded = np.concatenate([values, values[:2]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / np.sqrt(3)


def shown(seed, n, n_units, timed):
    """A random network, stimuli that it is shown, and what tells when."""
    torch.manual_seed(seed)
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(8, n_units), torch.nn.Tanh()), "1", system="net")
    rng, rows = np.random.default_rng(seed), {"onset_s": np.arange(n) * 2.0} if timed else {}
    x = rng.normal(size=(n, 8))
    x = smooth(x) if timed else x
    return net, ba.stimuli.table(x, stimulus_id=[f"s{i:03d}" for i in range(n)], kind="array", **rows), x, rng, rows


def voxels(seed, effect, draws, null, timed=False, verb="attribute"):
    """Ten voxels that answer to one of eight features, or to nothing: the share of the pair that it is in, or of the unit that holds it."""
    net, table, x, rng, rows = shown(seed, 120 if timed else 60, 12, timed)
    noise = rng.normal(size=(len(x), 10))
    values = net.model(torch.as_tensor(x, dtype=torch.float32)).detach().numpy()[:, :1] if verb == "patch" else x[:, :1]
    y = (smooth(noise) if timed else noise) + effect * values
    brain = ba.responses(y, stimulus_id=table.stimulus_id.values, neuroid_id=range(10), modality="behaviour", system="s", **rows)
    scores = ba.Ridge(alphas=[1.0, 10.0, 100.0], dtype="float64").fit(ba.record(net, table, progress=False), brain)
    responder = ba.readout(net, scores)
    responder.scores = {}  # whether it predicts is not asked here
    options = {"null": null, "n_permutations": draws, "target": brain, "random_state": seed}
    if verb == "patch":
        return ba.patch(responder, table, "zero", nodes="1", by="unit", **options).p_value.values[:, 0]
    return ba.attribute(responder, table, **ASK, **options).p_value.values[:, 0]


def salmon(seed, effect, draws):
    """Thirty units of a network that was never trained, or that learned to look at the first two features."""
    net, table, *_ = shown(seed, 20, 30, False)
    with torch.no_grad():
        net.model[0].weight[:, :2] *= 1.0 + effect
    return ba.attribute(net, table, null="random-network", n_permutations=draws, random_state=seed, **ASK).p_value.values[:, 0]


CASES = {
    "`attribute`: share of a pair of features in ten voxels, stimuli exchanged": (partial(voxels, null="permutation"), 60, 1.0, False),
    "`attribute`: share of a pair of features in ten voxels, runs shifted": (partial(voxels, null="permutation", timed=True), 60, 1.0, False),
    "`attribute`: share of a pair of features in ten voxels, phases": (partial(voxels, null="phase", timed=True), 60, 1.0, False),
    "`attribute`: share of a pair of features in thirty units, untrained networks": (salmon, 20, 8.0, False),
    "`patch`: share of a unit in ten voxels, stimuli exchanged": (partial(voxels, null="permutation", verb="patch"), 60, 4.0, False),
}  # fmt: skip
QUICK = {"`attribute`: share of a pair of features in ten voxels, stimuli exchanged": 8}
