# %% [markdown]
# # What does this neuron say?
#
# Three questions, asked of a unit and of a voxel by the same calls: what drives it, what is it called, and what are its weights about?
# The network is a small one, trained here on scikit-learn's handwritten digits. The voxels are simulated, so that we know the answers.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits

import brainalign as ba
from brainalign.reports.exemplarfigures import exemplar_panel

rng = np.random.default_rng(0)
digits = load_digits()
ids = [f"digit-{i:04d}" for i in range(len(digits.target))]
pictures = ba.stimuli.table(digits.images / 16.0, stimulus_id=ids, kind="array")

# %% [markdown]
# ## A network, and a brain
#
# Four voxels answer a digit each, the fifth answers two, and the last one nothing at all.

# %%
_ = torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
x, y = torch.as_tensor(digits.images / 16.0, dtype=torch.float32), torch.as_tensor(digits.target)
for _ in range(300):
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), list(net.parameters()))
    with torch.no_grad():
        for weights, gradient in zip(net.parameters(), gradients, strict=True):
            weights -= 0.5 * gradient
units = ba.record(ba.TorchResponder(net.eval(), layers="2", system="net"), pictures, progress=False)

names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
answers = {"v0": ["zero"], "v1": ["one"], "v2": ["four"], "v3": ["seven"], "v4": ["two", "six"], "v5": []}
signal = np.stack([np.isin(names[digits.target], words) for words in answers.values()], axis=1)
brain = ba.responses(signal + 0.5 * rng.normal(size=signal.shape), stimulus_id=ids, neuroid_id=list(answers), modality="fmri",
                     system="simulated")  # fmt: skip
of = dict(zip(ids, digits.target.tolist(), strict=True))
first, second = slice(0, 900), slice(900, None)  # labels are made from one half, and scored on the other

# %% [markdown]
# ## What drives it?
#
# `exemplars` gives the stimuli with the highest responses. Of noisy responses the highest are high by noise in part: where stimuli were
# repeated, `held_out=True` ranks by one half of the repeats and shows the other.

# %%
for recording in (units, brain):
    top = ba.exemplars(recording[first], k=9, random_state=0)
    for i in range(4):
        shown = [of[name] for name in top.stimulus_id.values[i].tolist() if name]  # a unit that is always silent has none
        print(top.system.values[i], top.neuroid_id.values[i], shown)
figure = exemplar_panel(top.isel(neuroid=[0, 1, 2]), pictures)

# %% [markdown]
# ## What is it called?
#
# A bank of concepts is one more recording: here, what a caption says of each picture. `caption` finds the concept that the exemplars have
# and others have not, and how often shuffled pictures would have given any concept that fits so well.

# %%
looks = {"zero": "round", "one": "straight", "two": "curved", "three": "curved", "four": "straight", "five": "curved", "six": "round",
         "seven": "straight", "eight": "round", "nine": "round"}  # fmt: skip
texts = {name: f"a {looks[digit]} {digit}" for name, digit in zip(ids, names[digits.target].tolist(), strict=True)}
bank = ba.neurons.caption_bank(texts)
labels = {}
for recording in (units, brain):
    system = recording.system.values[0]
    labels[system] = ba.caption(recording[first], bank, method="pmi", penalty=1.0, n_permutations=499, random_state=0)
    print(system, labels[system].label.values[:6], labels[system].p_value_fdr.values[:6].round(3))

# %% [markdown]
# ## Is it true?
#
# A label is a claim about other presentations. It should predict responses there, and better than it predicts shuffled ones.

# %%
scores = {}
for recording in (units, brain):
    system = recording.system.values[0]
    scores[system] = ba.neurons.score_captions(labels[system].label, recording[second], bank, n_permutations=199, random_state=0)
    print(system, "r =", scores[system].score.values[:6].round(2), "p =", scores[system].p_value.values[:6])

# %% [markdown]
# ## Is it used?
#
# A neuroid may go with a concept, and nothing be decoded from it. `mediation` exchanges the response of one neuroid between pictures, and asks
# how far a decoder follows. Here `v0` has a copy whose noise is larger, which the decoder has less use for.

# %%
noisy = brain.values[:, :1] + 2.0 * rng.normal(size=(len(ids), 1))
both = ba.responses(
    np.hstack([brain.values[:, :1], noisy]), stimulus_id=ids, neuroid_id=["v0", "copy"], modality="fmri", system="simulated"
)
zero = bank[:, bank.neuroid_id.values == "zero"]
decoder = ba.Ridge(alphas=[1.0]).fit(both[first], zero[first])
effect = ba.neurons.mediation(both[second], decoder, ["zero", "zero"], random_state=0)
print("part of the decoded difference that goes through each:", effect.score.values.round(2))

# %% [markdown]
# ## What are its weights about?
#
# The last layer has a vector for each digit, in the space of the units. A unit is one direction of that space, and a voxel's encoding weights
# are another: both are read against the ten vectors by one call. Weights are noisy, and lie where no picture is. `project_weights` moves
# them to the mean of the pictures most along them, as many as `size` says.

# %%
readable = ba.responses(net[3].weight.detach().numpy(), stimulus_id=names, neuroid_id=range(32), modality="ann", system="net")
centred = units.copy(data=units.values - units.values[first].mean(axis=0))  # a direction in which pictures differ
encoding = ba.Ridge(alphas=[1.0]).fit(centred[first], brain[first])
moved = ba.neurons.project_weights(encoding, centred[second], size=50)
print("units ", ba.neurons.read_weights(np.eye(32), readable, k=2).label.values[:4].tolist())
of_voxels = {}
for what, weights in (("as fitted", encoding), ("projected", moved)):
    of_voxels[what] = ba.neurons.read_weights(weights, readable, k=2, metric="cosine").label.values
    print("voxels", what, of_voxels[what].tolist())

# %% [markdown]
# `describe` goes by way of captions of the pictures for which the highest response is predicted. Something is always predicted: the voxel that
# answers nothing gets a sentence too, and it is the score on held-out responses that says what a sentence is worth.

# %%
sentences = ba.neurons.describe(encoding, centred[900:1400], texts, k=100, n_keywords=4, random_state=0)
worth = ba.neurons.score_captions(sentences.caption, brain[1400:], bank, n_permutations=199, random_state=0)
for name, sentence, p in zip(answers, sentences.caption.values.tolist(), worth.p_value.values, strict=True):
    print(f"{name}: {sentence} (p = {p:.3f})")

# %% [markdown]
# The conclusion, as a test: voxels are called what they were made to answer, one that answers nothing has no label, labels of units and
# voxels hold in the other half, and what is read from weights agrees.

# %%
told = labels["simulated"]
assert told.label.values[:4].tolist() == ["zero", "one", "four", "seven"]
assert told.label.values[4] in ("two", "six")
assert (told.p_value_fdr.values[:5] < 0.05).all()
assert told.p_value_fdr.values[5] > 0.05
assert (scores["simulated"].p_value.values[:5] < 0.05).all()
assert np.mean(scores["net"].p_value.values[scores["net"].status.values == "ok"] < 0.05) > 0.8
assert effect.score.values[0] > 0.7 > 0.3 > effect.score.values[1]
assert of_voxels["projected"][:4, 0].tolist() == ["zero", "one", "four", "seven"]
assert {"two", "six"} <= set(sentences.keyword.values[4].tolist())
assert (worth.p_value.values[:5] < 0.05).all()
assert worth.p_value.values[5] > 0.05
