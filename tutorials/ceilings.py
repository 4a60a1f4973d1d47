# %% [markdown]
# # How good could it get?
#
# A model that predicts a noisy recording perfectly still scores below 1. The ceiling says how far below, in the units of the score.
# Here the truth is known: 60 neurons whose signal has a variance of .3, noise of .7, three presentations of each stimulus. The average
# over presentations then has the reliability .3 / (.3 + .7/3) = .5625, and no model's r can exceed √.5625 = .75.

# %%
import numpy as np

import brainalign as ba

rng = np.random.default_rng(0)
signal = np.sqrt(0.3) * rng.normal(size=(1000, 60))
ids = np.repeat([f"image-{i:04d}" for i in range(1000)], 3)
trials = np.repeat(signal, 3, axis=0) + np.sqrt(0.7) * rng.normal(size=(3000, 60))
brain = ba.responses(trials, stimulus_id=ids, neuroid_id=range(60), modality="spikes", system="monkey")

methods = ("split-half", "variance", "signal-power", "explainable-variance")
estimates = {method: float(ba.noise_ceiling(brain, method=method, random_state=0).mean()) for method in methods}
for method, value in estimates.items():
    print(f"{method:>21}: {value:.3f}")

# %% [markdown]
# Four formulas of four literatures, one number. They differ in what they need: `"variance"` takes any mixture of repeats, the last two
# want as many for each stimulus.
#
# ## Units
#
# A score in r is divided by √reliability, one in R² by the reliability itself. A ceiling knows which it is, and the wrong one is refused.

# %%
model = ba.responses(signal, stimulus_id=ids[::3], neuroid_id=range(60), modality="ann", system="perfect", deterministic=True)
scored = ba.evaluate(model, brain, model=ba.Ridge(alphas=[0.1]), cv=5, ceiling="repeat", controls="none", random_state=0)
print(f"a perfect model: r {float(scored.score.mean()):.3f}, ceiling {float(scored.ceiling.mean()):.3f}, "
      f"normalised {float(scored.score_normalized.mean()):.3f}")  # fmt: skip
try:
    ba.evaluate(model, brain, cv=5, ceiling=ba.noise_ceiling(brain, units="r2"), controls="none")
except ba.errors.ParameterError as error:
    print(error)

# %% [markdown]
# ## Two traps
#
# *Uneven halves.* Three presentations split one against two and stepped up by 2r / (1 + r) give .542 where the truth is .5625;
# `noise_ceiling` draws equal halves and steps up by the right factor. *Means of ratios.* Where there is hardly any signal, estimated
# ceilings scatter around zero and the mean of score / ceiling is nobody's score. Take the ratio of means, over neurons whose
# repeats agree, and look at the raw score beside it.

# %%
y = trials.reshape(1000, 3, 60)
r = np.array([np.corrcoef(y[:, 0, k], y[:, 1:, k].mean(axis=1))[0, 1] for k in range(60)])
uneven = float((2 * r / (1 + r)).mean())
even = float((ba.noise_ceiling(brain, random_state=0) ** 2).mean())
print(f"one against two: {uneven:.3f}; equal halves: {even:.3f}; truth .5625")

# %% [markdown]
# ## What another animal knows
#
# Part of a neuron's signal may be its owner's alone. What other animals predict of it is a second ceiling. Both sides are noisy, so r is
# too low: correcting the target alone understates what two animals share, correcting both sides may overshoot where repeats hardly
# agree. Below a floor nothing is corrected, and the raw value is always there.

# %%
latent = rng.normal(size=(300, 10))
animals = {}
for name in ("a", "b", "c"):
    shared = np.repeat(latent @ rng.normal(size=(10, 40)) / np.sqrt(10), 6, axis=0)
    animals[name] = ba.responses(shared + 1.5 * rng.normal(size=shared.shape), stimulus_id=np.repeat(np.arange(300), 6),
                                 neuroid_id=range(40), modality="spikes", system=name)  # fmt: skip
target = animals.pop("c")
between = ba.noise_ceiling(target, method="inter-system", others=animals, cv=3, n_splits=3, random_state=0)
for name in ("raw", "one_sided", "two_sided"):
    print(f"{name:>9}: {float(between[name].mean()):.3f}")

# %% [markdown]
# ## Networks have ceilings, too
#
# A network that gives the same response twice has a ceiling of 1. One with dropout is recorded several times, like a brain, and has the
# ceiling of its repeats.

# %%
import torch
import xarray as xr

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(50, 10))
images = ba.stimuli.table(rng.normal(size=(300, 20)), stimulus_id=[f"image-{i:04d}" for i in range(300)], kind="array")
still = ba.record(ba.TorchResponder(network, layers="3", system="net"), images, progress=False)
awake = ba.TorchResponder(network, layers="3", system="net", dropout=True)
times = xr.concat([ba.record(awake, images, progress=False) for _ in range(4)], "presentation", combine_attrs="override")
certain, random = ba.noise_ceiling(still), ba.noise_ceiling(times, random_state=0)
reached = np.mean([np.corrcoef(still[:, k], ba.average_repeats(times)[:, k])[0, 1] for k in range(10)])
print(
    f"without dropout: {float(certain.mean()):.2f}; with: {float(random.mean()):.2f}, and the network without it reaches {reached:.2f}"
)

# %% [markdown]
# ## Conclusion
#
# All methods find the planted ceiling, a perfect model comes as close to it as its fit allows, two animals that share all of their signal
# turn out to do so, and a network with dropout has a ceiling like a brain's.

# %%
assert all(abs(value - 0.75) < 0.01 for value in estimates.values())
assert 0.95 < float(scored.score.mean() / scored.ceiling.mean()) < 1.0
assert uneven < 0.55 < even
assert float(between.raw.mean()) < float(between.one_sided.mean()) < 0.97
assert abs(float(between.two_sided.mean()) - 1.0) < 0.05
assert abs(float(random.mean()) - reached) < 0.03
