# %% [markdown]
# # Attribution to a voxel and a unit
#
# A mapping that is fitted from a network to a brain makes a voxel one more neuron of that network, and the same call asks of both what
# drives them. The pictures are scikit-learn's handwritten digits, the network is trained here; the voxels are simulated, so that we know
# what should be found.

# %%
import numpy as np
import torch
import xarray as xr
from sklearn.datasets import load_digits

import brainalign as ba

rng = np.random.default_rng(0)
digits = load_digits()
pixels = (digits.images / 16.0).astype("float32")
ids = [f"digit-{i:04d}" for i in range(len(pixels))]
pictures = ba.stimuli.table(pixels, stimulus_id=ids, kind="array")

_ = torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.Tanh(), torch.nn.Linear(24, 16), torch.nn.Tanh(),
                          torch.nn.Linear(16, 10))  # fmt: skip
x, y = torch.as_tensor(pixels), torch.as_tensor(digits.target)
for _ in range(300):
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), list(net.parameters()))
    with torch.no_grad():
        for weights, gradient in zip(net.parameters(), gradients, strict=True):
            weights -= 0.5 * gradient
network = ba.TorchResponder(net.eval(), layers=["2", "5"], system="net")

# %% [markdown]
# ## A voxel is a neuron
#
# Three simulated voxels: one answers to what is drawn in the upper left quarter of a picture, one to the lower right, one to nothing. A
# ridge from the first hidden layer predicts them; `readout` puts it behind the network, with its held-out scores.

# %%
quarters = np.zeros((8, 8), dtype=int)
quarters[:4, 4:], quarters[4:, :4], quarters[4:, 4:] = 1, 2, 3
amount = np.stack([pixels[:, quarters == k].sum(axis=1) for k in (0, 3)] + [np.zeros(len(pixels))], axis=1)
signal = (amount - amount.mean(axis=0)) / np.maximum(amount.std(axis=0), 1e-9)
few = slice(0, 300)
brain = ba.responses(signal[few] + rng.normal(size=(300, 3)), stimulus_id=ids[few], neuroid_id=["upper-left", "lower-right", "nothing"],
                     modality="fmri", system="simulated")  # fmt: skip
seen = pictures.isel(presentation=few)
hidden = network.at("2")
features = ba.record(hidden, seen, progress=False)
ridge = ba.Ridge(alphas=np.logspace(0, 4, 5))
scores = ba.evaluate(features, brain, model=ridge, cv=5, n_permutations=99, random_state=0)
voxels = ba.readout(hidden, ridge.fit(features, brain), scores=scores)
print(dict(zip(brain.neuroid_id.values, scores.score.values.round(2), strict=True)))

# %% [markdown]
# ## What drives it, and is it more than chance?
#
# Integrated gradients, summed over quarters of the pictures. Beside each share stands what chance gives: of a voxel, the same mapping fitted to
# responses whose stimuli were exchanged; of a unit, networks that were never trained.

# %%
asked = {"groups": quarters, "presentations": range(30), "random_state": 0}
unit = ba.attribute(network.at("5"), seen, neuroid=[0], null="random-network", n_permutations=19, **asked)
voxel = ba.attribute(voxels, seen, null="permutation", n_permutations=99, target=brain, **asked)
for a in (unit, voxel):
    for i, name in enumerate(a.neuroid_id.values.tolist()):
        print(a.system.values[i], name, "shares", a.share.values[i].round(2), "p", a.p_value.values[i].round(3))

# %% [markdown]
# The third voxel answers to nothing. `attribute` warns that its mapping predicts no better than nothing (`mapping_score`), and no quarter has
# more than chance gives it. A map without these two figures would look like any other.
#
# ## Complete, and through which layer?
#
# Integrated gradients add up to what a picture changes in the response; what is missing is `completeness_error`. Conductance follows the same
# change through the units of inner layers, and `through_flow` says which share of it passes each of them.

# %%
flow = ba.attribute(network.at("5"), seen, neuroid=[0], wrt=["2", "4"], method="conductance", n_steps=16, presentations=range(30))
print(
    "left out by integrated gradients:", f"{unit.attrs['completeness_error']:.1e}", "through layers:", flow.attrs["through_flow"]
)

# %% [markdown]
# ## Does it matter to the response?
#
# Take out first what is said to matter most, or put it in first: the response should fall, or rise, early. An order without meaning scores 0.

# %%
felt, random = {}, {}
for name, responder, a in (("unit", network.at("5"), unit), ("voxel", voxels, voxel[:, :2])):
    felt[name] = ba.neurons.deletion_insertion(responder, seen, a, groups=quarters, n_steps=4)
    shuffled = a.copy(data=rng.permuted(a.values, axis=-1))
    random[name] = ba.neurons.deletion_insertion(responder, seen, shuffled, groups=quarters, n_steps=4)
    print(
        name, "deletion and insertion:", felt[name].score.median().item(), "in random order:", random[name].score.median().item()
    )

# %% [markdown]
# And does the map hang on what was learned? Where the weights are drawn anew, from the output down, a map of them becomes another one.

# %%
sane = ba.neurons.sanity_check(
    voxels, seen, neuroid=["upper-left"], method="gradient", presentations=range(30), target=brain, random_state=0
)
print(dict(zip(sane.stage.values.tolist(), sane.similarity.values[:, 0].round(2), strict=True)))

# %% [markdown]
# ## What is not explained
#
# The maps of the voxels are maps of the *fitted model* of each voxel: of the part of its response that a ridge on one layer predicts.
# What the network does not hold, what the mapping misses and what the voxel does beside the stimulus are not in them. `causal_scope` says
# "model", and `mapping_score` how much of the voxel is spoken of at all.

# %%
at = xr.DataArray([0, 3], dims="neuroid")
planted = voxel.p_value_max.values[[0, 1], at.values]
assert (planted <= 0.05).all()
assert voxel.p_value.values[2].min() > 0.01
assert voxel.attrs["causal_scope"] == "model"
assert all(felt[name].score.median() > random[name].score.median() + 0.2 for name in felt)
