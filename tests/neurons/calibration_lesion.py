"""Cases of calibration for lesions: neuroids that matter as any others do, and one circuit that dissociates without the other."""

from functools import partial

import numpy as np
import torch

import brainalign as ba

NAMES = [f"s{i:02d}" for i in range(60)]


def recorded(values, **more):
    return ba.responses(values, stimulus_id=NAMES, neuroid_id=range(values.shape[1]), modality="behaviour", system="s", **more)


def recording(rng, effect):
    """Sixty presentations of thirty neuroids in six regions; those of the first count ``effect`` times more in ten outcomes."""
    weights = rng.normal(size=(30, 10))
    weights[:5] *= 1 + effect
    x = recorded(rng.normal(size=(60, 30)), region=np.repeat(list("abcdef"), 5))
    return x, recorded(x.values @ weights + rng.normal(size=(60, 10)))


def virtual(seed, effect, draws, scored):
    x, y = recording(np.random.default_rng(seed), effect)
    target = y if scored else None
    return ba.lesion(
        ba.Ridge(alphas=[1.0]).fit(x, y), x, units="a", mode="mean", target=target, n_draws=draws, random_state=seed
    ).p_value.values


def classified(seed, effect, draws):
    """Two classes that ten of thirty neuroids tell; with an effect, five of them tell much more."""
    rng = np.random.default_rng(seed)
    label = np.tile(["left", "right"], 30)
    means = rng.normal(size=30) * np.where(np.arange(30) < 5, 0.4 + effect, 0.4)
    x = recorded(
        rng.normal(size=(60, 30)) + np.outer(label == "left", means), region=np.repeat(list("abcdef"), 5), condition=label
    )
    decoder = ba.Classifier("lda").fit(x, label)
    out = ba.lesion(decoder, x, units="a", mode="mean", target="condition", n_draws=draws, random_state=seed)
    return np.atleast_1d(out.p_value.values)


def shown(seed):
    return ba.stimuli.table(np.random.default_rng(seed).normal(size=(60, 6)), stimulus_id=NAMES, kind="array")


def hidden(seed, effects):
    """Forty hidden units of random weights; the k-th eight are read more, by every other of ten outputs or by all."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Tanh(), torch.nn.Linear(40, 10)).requires_grad_(False)
    for (k, first), effect in effects.items():
        model[2].weight[first::2, 8 * k : 8 * k + 8] *= 1 + effect
    return ba.TorchResponder(model, "2", system="net")


def network(seed, effect, draws):
    """Eight of the units; of an effect they say the same of one input, and every output adds them up.

    Units of random weights that are merely read more cancel each other in some outputs: parts of such a circuit, which random sets hold,
    move these more than the whole of it, and three in four pass however much it is read.
    """
    net = hidden(seed, {})
    net.model[0].weight[:8, 0] += effect
    net.model[2].weight[:, :8] += effect
    return ba.lesion(net, shown(seed), units={"1": range(8)}, n_draws=draws, random_state=seed).p_value.values


def dissociated(seed, effect, draws):
    """Eight units of a network carry its even outputs in any case, and the next eight its odd outputs only with an effect."""
    tasks = {name: (shown(seed), {"neuroid": range(k, 10, 2)}) for k, name in enumerate(("even", "odd"))}
    circuits = {name: {"1": range(8 * k, 8 * k + 8)} for k, name in enumerate("ab")}
    net = hidden(seed, {(0, 0): 5.0, (1, 1): effect})
    out = ba.neurons.double_dissociation(net, tasks, circuits=circuits, n_draws=draws, random_state=seed)
    return np.atleast_1d(out.p_value_dissociation.values)


CASES = {
    "`lesion`: recorded neuroids, change of what a mapping predicts": (partial(virtual, scored=False), 60, 4.0, False),
    "`lesion`: recorded neuroids, loss of r": (partial(virtual, scored=True), 60, 4.0, False),
    "`lesion`: recorded neuroids, loss of accuracy": (classified, 500, 2.5, True),
    "`lesion`: units of a network": (network, 60, 0.3, False),
    "`double_dissociation`: one circuit of two": (dissociated, 500, 5.0, False),
}
QUICK = {"`double_dissociation`: one circuit of two": 20}
