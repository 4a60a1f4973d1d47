# %% [markdown]
# # If we got it right, would we know?
#
# A comparison of layers and regions always names a best layer. Before believing it, put each layer in the brain's place: give it the
# recording's number of neurons, its stimuli, its repeats and its noise, score all candidates as the brain was scored, and see whether
# the right one comes out on top.
#
# A small network learns to tell eight kinds of stimuli apart. A simulated brain reads its layers.

# %%
from collections import OrderedDict

import torch

import brainalign as ba

stimuli = ba.simulate(n_stimuli=150, modalities=["fmri"], n_neuroids=1, random_state=0).stimuli
torch.manual_seed(0)
blocks = [torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.ReLU()) for a, b in ((64, 60), (60, 50), (50, 40))]
network = torch.nn.Sequential(
    OrderedDict(zip(["early", "middle", "late", "answer"], [*blocks, torch.nn.Linear(40, 8)], strict=True))
)
images = torch.as_tensor(stimuli["values"].values, dtype=torch.float32)
kinds = torch.as_tensor([int(name.rsplit("-", 1)[1]) for name in stimuli.condition.values])
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(150):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(images), kinds).backward()
    optimizer.step()

responder = ba.TorchResponder(network, layers=["early", "middle", "late"], system="net")
layers = ba.record(responder, stimuli, progress=False)
brain = ba.simulate(
    layers, regions={"V1": "early", "IT": "late"}, n_neuroids=60, n_repeats=3, snr=0.5, modalities=["fmri"], random_state=0
).brain

# %% [markdown]
# ## The comparison
#
# Every region has a best layer. V1 reads `early`, and that is found. IT reads `late`, and `middle` is as good but for a hair.

# %%
scorer = {"model": ba.Ridge(alphas=[1.0, 10.0, 100.0], cv=3), "cv": 4}
grid = ba.compare(layers, brain, by=("layer", "region"), **scorer, controls="none", random_state=0)
print(grid.score.round(3).to_pandas())

# %% [markdown]
# ## Would it have said something else?
#
# Controls are compulsory: a matching network may well lose to the stimuli themselves, or to a network that has learned nothing.
# `ba.controls` makes both; whoever does without says so by name.

# %%
controls = ba.controls(stimuli, responder=responder, n_untrained=1, random_state=0, progress=False)
# 60 neuroids, as many as a region has
trained = ba.recovery_study(layers, scorer, controls=controls, like=brain, n_neuroids=60, n_draws=10, random_state=0)
print(trained.attrs["verdict"], *trained.verdict.values.tolist(), sep="\n")
print(trained.confusion.to_pandas().round(2).T)

# %% [markdown]
# The last two layers have both become codes of the eight kinds. Had the brain been either, this comparison would have named the other one
# nearly as often: "IT reads the late layer" is not to be believed, though it happens to be true. That V1 reads the early layer is.
#
# ## A comparison that could tell
#
# The same study of a network whose layers differ, with the brain that reads them. The number of neurons that would do comes with it.

# %%
study = ba.simulate(n_stimuli=100, n_repeats=3, snr=0.5, modalities=["fmri"], random_state=0)
low = ba.controls(study.stimuli, random_state=0)
distinct = ba.recovery_study(
    study.network, scorer, controls=low, without=["untrained"], like=study.brain, n_neuroids=[3, 90], n_draws=10, random_state=0
)
print(distinct.attrs["verdict"], *distinct.verdict.values.tolist(), sep="\n")

# %% [markdown]
# ## A scorer that cannot see the difference
#
# Ridge regression does not see rotations. A candidate that is a rotation of another predicts exactly the same, however many neurons are
# recorded; a score that pairs single units does see it, if neurons are like units.

# %%
import numpy as np

rng = np.random.default_rng(0)
last = layers[:, layers.layer.values == "late"]
last = last[:, last.std("presentation").values > 0]
rotation, _ = np.linalg.qr(rng.normal(size=(last.sizes["neuroid"],) * 2))
twins = {"last": last, "rotated": last.copy(data=(last.values @ rotation).astype("float32"))}
options = {
    "without": ["low-level", "untrained"],
    "n_neuroids": 12,
    "reliability": 0.8,
    "readout": "units",
    "n_draws": 10,
    "random_state": 0,
}


def best_unit(source, target):
    """Return how well the best single unit correlates with each neuron."""
    x, y = (side.values - side.values.mean(axis=0) for side in (source, ba.average_repeats(target)))
    return (np.abs(x.T @ y) / np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0))).max(axis=0)


blind = ba.recovery_study(twins, {**scorer, "model": ba.Ridge(alphas=[10.0])}, **options)
seeing = ba.recovery_study(twins, best_unit, **options)
print(blind.verdict.sel(planted="last").item())
print(seeing.verdict.sel(planted="last").item())

# %% [markdown]
# ## Conclusion
#
# A best layer is a claim only where the study would have found it.

# %%
score = grid.score.to_pandas()
assert score["V1"].idxmax() == "early"
assert abs(score.loc["late", "IT"] - score.loc["middle", "IT"]) < 0.01
assert trained.accuracy.sel(planted="early") == 1.0
assert (trained.accuracy.sel(planted=["middle", "late"]) < 0.95).any()
assert (distinct.accuracy.sel(n_neuroids=90) >= 0.95).all()
assert float(blind.accuracy.max()) <= 0.6 < float(seeing.accuracy.min())
