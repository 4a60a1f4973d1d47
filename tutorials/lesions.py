# %% [markdown]
# # Lesions: what carries an answer, in a network and in a recording
#
# A score says that units or voxels go along with something. A lesion asks what is lost without them. The same call takes units out of a
# network while it responds and recorded voxels out of what a decoder reads. What the second tells is about the *decoder*: its results
# say `causal_scope="virtual"`.
#
# The handwritten digits of scikit-learn, a network that is trained on them here, and a simulated brain.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits

import brainalign as ba

digits = load_digits()
rng = np.random.default_rng(0)
rows = rng.permutation(len(digits.images))[:900]
pixels, label = (digits.images[rows] / 16).reshape(900, 64).astype("float32"), digits.target[rows]
ids = [f"digit-{i:03d}" for i in range(900)]
shown = ba.stimuli.table(pixels[600:], stimulus_id=ids[600:], kind="array", condition=[str(k) for k in label[600:]])

torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
)
optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(300):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(net(torch.as_tensor(pixels[:600])), torch.as_tensor(label[:600])).backward()
    optimiser.step()
network = ba.TorchResponder(net, layers="4", system="digit-network")

# %% [markdown]
# ## Which units matter for a digit?
#
# `patch` with `"zero"` ablates every unit of a layer by itself, exactly, and runs what lies before the layer once. Its gradient-based
# estimate costs one backward pass a class for all units; what follows this layer is linear, so that here it has to be exact.

# %%
threes = shown.isel(presentation=shown.condition.values == "3")
one, other = threes.isel(presentation=slice(0, None, 2)), threes.isel(presentation=slice(1, None, 2))
exact = ba.patch(network, one, "zero", nodes="3", by="unit", neuroid=3)
estimate = ba.patch(network, one, "zero", nodes="3", by="unit", neuroid=3, method="attribution")
agree = np.corrcoef(exact.values.ravel(), estimate.values.ravel())[0, 1]
drop = -exact.mean("presentation").values[:, 0]
most = np.argsort(drop)[-4:]
print(
    "units of the last hidden layer that class 3 needs most:",
    most.tolist(),
    f"; r of the estimate with exact ablation {agree:.3f}",
)

# %% [markdown]
# ## Is that more than any four units would do?
#
# A lesion of four units costs something whatever they are. `n_draws` takes out as many random ones, again and again. The units were
# chosen on half of the threes, so they are tested on the other half.

# %%
chosen = ba.lesion(network, other, units={"3": most}, neuroid=3, n_draws=199, random_state=0)
print(f"class 3 changes by {float(chosen.effect[0]):.1f} on other threes, by {float(chosen.effect_random.mean()):.1f} without random units; "
      f"p = {float(chosen.p_value[0]):.3f}")  # fmt: skip
answers = ba.lesion(network, shown, units={"3": most}, target="condition")
print(f"balanced accuracy over all digits: {float(answers.score):.2f} before, {float(answers.score_lesioned):.2f} after")

# %% [markdown]
# ## The same question about recorded voxels
#
# A simulated brain: region "early" follows pixels, region "late" the digit itself, region "other" nothing. A classifier is fitted on
# 600 presentations; regions are taken out of the other 300.

# %%
late = np.eye(10)[label] @ rng.normal(size=(10, 20))
early = pixels @ rng.normal(size=(64, 20)) / 4
voxels = np.concatenate([early, late, np.zeros((900, 20))], axis=1) + rng.normal(size=(900, 60))
brain = ba.responses(voxels, stimulus_id=ids, neuroid_id=range(60), modality="fmri", system="simulated",
                     region=np.repeat(["early", "late", "other"], 20), condition=[str(k) for k in label])  # fmt: skip
decoder = ba.Classifier("lda").fit(brain[:600], brain.condition.values[:600])
virtual = {
    region: ba.lesion(decoder, brain[600:], units={region: None}, mode="mean", target="condition", n_draws=199, random_state=0)
    for region in ("early", "late", "other")
}
for region, out in virtual.items():
    print(f"without {region}: {100 * float(out.effect):.0f} points lost of {100 * float(out.score):.0f}, p = {float(out.p_value):.3f} "
          f"({out.attrs['causal_scope']})")  # fmt: skip

# %% [markdown]
# ## And about a voxel's model
#
# A readout is a responder, so its backbone's units can be lesioned while a voxel of the late region is predicted.

# %%
features = ba.record(network.at("4"), ba.stimuli.table(pixels[:600], stimulus_id=ids[:600], kind="array"), progress=False)
voxel = ba.readout(network, ba.Ridge(alphas=[1.0]).fit(features, brain[:600]))
through = ba.lesion(voxel, shown, units={"3": most}, neuroid=np.arange(20, 40), target=brain[600:], n_draws=99, random_state=0)
print(f"mean r of late voxels {float(through.score.mean()):.2f} before, {float(through.score_lesioned.mean()):.2f} after")

# %% [markdown]
# ## What we would report
#
# The units that single ablations rank first carry class 3 on other pictures more than random ones do; the decoder needs the late region, and does not
# miss the one that holds nothing.

# %%
assert agree > 0.9
assert float(chosen.p_value[0]) < 0.05
assert float(virtual["late"].p_value) < 0.05 < float(virtual["other"].p_value)
assert float(virtual["late"].effect) > float(virtual["early"].effect)
