# %% [markdown]
# # Retrieval: decode embeddings, identify, reconstruct
#
# What was seen, told by a recording: decode what describes a picture, find the picture among others, make it again, put it into words, and ask
# which part of the brain it was read from. The pictures are scikit-learn's handwritten digits. The recording is simulated, so that we know what
# each region holds: `V1` how a digit looks, `IT` which one it is, `A1` nothing of it.

# %%
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import brainalign as ba

rng = np.random.default_rng(0)
N = 300
digits = load_digits()
pictures, kind = np.kron(digits.images[:N] / 16, np.ones((2, 2))), digits.target[:N]
ids = [f"digit-{i:03d}" for i in range(N)]
shown = ba.stimuli.table(pictures.astype("float32"), stimulus_id=ids, kind="image")


def labelled(values, modality, system, **coords):
    """Label rows as the pictures that they belong to."""
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality=modality, system=system,
                        condition=kind.astype(str), **coords)  # fmt: skip


# %% [markdown]
# ## Two descriptions of a picture, and a recording
#
# Twenty principal components say how it looks; they are fitted to the first 200 pictures only. Words would say what it is: here each digit has
# a vector of its own.

# %%
train, test = slice(0, 200), slice(200, N)
pca = PCA(20, whiten=True).fit(pictures[train].reshape(200, -1))
look = pca.transform(pictures.reshape(N, -1))
meaning = rng.normal(size=(10, 8))[kind]
latents = {"look": labelled(look, "ann", "pixels"), "meaning": labelled(meaning, "ann", "words")}

signal = [look @ rng.normal(size=(20, 60)), 2 * meaning @ rng.normal(size=(8, 60)), np.zeros((N, 60))]
brain = labelled(np.hstack(signal) + 6 * rng.normal(size=(N, 180)), "fmri", "simulated", region=np.repeat(["V1", "IT", "A1"], 60))

# %% [markdown]
# ## Decode both at once
#
# The recording is decomposed once for all dimensions of all latents; each latent has a penalty of its own, chosen on inner folds of the
# training rows. A penalty shrinks predictions. `rescale="train"` gives them their natural spread back, from held-out predictions of training rows;
# `rescale="test"`, as some papers do it, takes it from the test rows, and warns.

# %%
decoder = ba.LatentDecoder(rescale="train").fit(brain[train], {name: x[train] for name, x in latents.items()})
decoded = decoder.predict(brain[test])
for name, x in latents.items():
    r = [np.corrcoef(decoded[name][:, k], x[test][:, k])[0, 1] for k in range(x.shape[1])]
    print(f"{name:8s} mean r of {len(r)} dimensions {np.mean(r):.2f}")

# %% [markdown]
# ## Identify
#
# Is the picture's own vector more like the prediction than those of others? Chance is in the result, and so is a p-value: everything is fitted
# again on pictures that changed places. Ask for the *class* and it is another question: candidates are then means over the other pictures
# of a digit.

# %%
ask = {"model": ba.Ridge(), "cv": 5, "random_state": 0}
picture = ba.identify(brain, latents["look"], n_permutations=99, **ask)
alike = ask | {"cv": ba.split(brain, n_splits=5, stratify="condition", random_state=0)}  # some of every digit in every fold
digit = ba.identify(brain, latents["meaning"], by="condition", **alike)
for title, out in (("which picture, of 60", picture), ("which digit, of 10", digit)):
    for measure in ("top-1", "two-way"):
        row = out.sel(measure=measure)
        print(f"{title:22s} {measure:8s} {float(row.score):.2f}  chance {float(row.chance):.2f}")

# %% [markdown]
# The other way round: an encoding model predicts the recording from the look, and the picture is the one that makes what was recorded the
# likeliest. Noise of the training rows says how much each deviation counts.

# %%
inverted = ba.identify(latents["look"], brain, metric="likelihood", query="target", **ask)
print(f"by likelihood: two-way {float(inverted.score.sel(measure='two-way')):.2f}")

# %% [markdown]
# ## Make it again
#
# A generator takes latents and returns stimuli. Two need no network: a search in the training pictures, and the linear map back to pixels.
# `ba.adapters.DiffusersGenerator` puts a diffusion pipeline from a local folder in their place, to which decoded embeddings and a decoded picture
# to start from are given. They are scored by pixels, by structure, and by the features of any network (here one with random weights), each
# beside chance.

# %%
import torch

torch.manual_seed(0)
eye = ba.TorchResponder(
    torch.nn.Sequential(torch.nn.Unflatten(1, (1, 16)), torch.nn.Conv2d(1, 16, 5, stride=2), torch.nn.ReLU(), torch.nn.Flatten()),
    layers="2",
    system="random network",
)
bank = {name: x[train] for name, x in latents.items()}
made = {}
for generator in (ba.models.NearestNeighbourGenerator(), ba.models.LinearGenerator(alpha=1.0)):
    name = type(generator).__name__
    made[name] = ba.scores.score_reconstructions(
        generator.fit(bank, shown).generate(decoded, seed=0), shown, responder=eye, n_permutations=99, random_state=0
    )
    print(name)
    for measure in made[name].measure.values:
        row = made[name].sel(measure=measure)
        print(f"    {measure:14s} {float(row.score):.2f}  chance {float(row.chance):.2f}  p = {float(row.p_value):.2f}")

# %% [markdown]
# ## Put it into words
#
# A captioner takes features. The nearest caption of a bank needs no network; `ba.adapters.TransformersCaptioner` puts a frozen language model from
# a local folder in its place.

# %%
names = "zero one two three four five six seven eight nine".split()
texts = [f"a handwritten {names[k]}" for k in kind]
captioner = ba.neurons.NearestCaption(latents["meaning"][train].values, texts[train])
said = ba.stimuli.table(captioner.caption(decoded["meaning"].values), stimulus_id=ids[test], kind="text")
captions = ba.scores.score_reconstructions(said, dict(zip(ids, texts, strict=True)), n_permutations=99, random_state=0)
print(captions.score.sel(measure=["bleu-1", "bleu-3", "unigram-f"]).to_series().round(2).to_dict(), "chance of bleu-3:",
      round(float(captions.chance.sel(measure="bleu-3")), 2))  # fmt: skip

# %% [markdown]
# ## Where was it read from?
#
# The decoder again without each region, and from each alone. It is a model of the recording that loses a region, not the brain.

# %%
parts = ba.scores.ablate(brain, ba.bands(**latents), model=ba.LatentDecoder(), cv=5, random_state=0)
costs, alone = (parts[name].groupby("band").mean().to_pandas() for name in ("effect", "score_alone"))
print("what it costs to leave a region out:", costs.round(2), "what it tells alone:", alone.round(2), sep="\n")

# %% [markdown]
# ## A network, by the same calls
#
# Layers of a network are decoded and identified like regions of a brain.

# %%
net = ba.TorchResponder(
    torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 60), torch.nn.Tanh(), torch.nn.Linear(60, 60), torch.nn.Tanh()),
    layers=["2", "4"],
    system="net",
)
units = ba.record(net, shown, progress=False)
same = ba.identify(units, latents["look"], **ask)
print(f"from a network: two-way {float(same.score.sel(measure='two-way')):.2f}")

# %% [markdown]
# The conclusion, as a test: what was planted is found where it was planted, and nothing is found where there is nothing.

# %%
assert (picture.p_value == 0.01).all()
assert float(digit.score.sel(measure="top-1")) > 0.5
assert float(inverted.score.sel(measure="two-way")) > 0.8
assert all((out.score > out.chance).all() and (out.p_value <= 0.05).all() for out in made.values())
assert float(captions.score.sel(measure="bleu-3")) > float(captions.chance.sel(measure="bleu-3")) + 0.3
assert costs["look"].idxmax() == "V1"
assert costs["meaning"].idxmax() == "IT"
assert (alone.loc["A1"] < 0.1).all()
assert float(same.score.sel(measure="two-way")) > 0.9
