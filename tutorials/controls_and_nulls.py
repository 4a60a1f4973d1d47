# %% [markdown]
# # Controls and nulls: what a score is worth
#
# A network predicts a brain with r = 0.5. Is that much? A network that never learned anything may do as well, and so may the
# pixels, or the mere order of the volumes. Here two regions are simulated, one that reads a trained network and one that reads
# nothing but oriented energy, and a recording of pure noise. All three give scores; the controls tell them apart.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits

import brainalign as ba
from brainalign.reports.diagnoses import diagnose

digits = load_digits()
pixels = (digits.images / 16).astype(np.float32)
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(288, 40),
    torch.nn.ReLU(),
    torch.nn.Linear(40, 10),
    torch.nn.Softmax(dim=1),
)
optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
images, labels = torch.from_numpy(pixels[:, None]), torch.from_numpy(digits.target)
for _ in range(150):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(network[:-1](images), labels).backward()
    optimiser.step()
print(f"trained: {float((network(images).argmax(dim=1) == labels).float().mean()):.0%} of the digits are right")

# %% [markdown]
# ## Two regions
#
# `controls` makes what a score has to beat: pixels, Gabor energy, a random projection of both, and the same network with the weights
# of three other seeds, never trained. The network itself stays as it is.

# %%
stimuli = ba.stimuli.table(
    pixels[:300, None], stimulus_id=[f"digit-{i:03d}" for i in range(300)], kind="array", dims=("channel", "y", "x")
)
responder = ba.TorchResponder(network, layers="6", system="digit-net")
trained = ba.record(responder, stimuli, progress=False)
controls = ba.controls(stimuli, responder=responder, random_state=0, progress=False)
print({name: x.shape for name, x in controls.items()})

shared = {"modalities": ("fmri",), "n_neuroids": 20, "n_repeats": 3, "snr": 1.0}
people = {
    "learned": ba.simulate(trained, regions={"IT": "6"}, random_state=1, **shared).fmri,
    "seen": ba.simulate(controls["gabor"], regions={"V1": "gabor"}, random_state=2, **shared).fmri,
}

# %% [markdown]
# ## Scores beside their controls
#
# Constant features, a random projection of the stimulus's identity and shuffled stimuli always run; what `controls` made runs with
# them. Seeds of one control are averaged.

# %%
results = {
    name: ba.evaluate(trained, brain, controls=controls, ceiling="repeat", random_state=0) for name, brain in people.items()
}
for name, result in results.items():
    print(f"\n{name}\n{ba.reports.table.beside(result).round(2).to_string(index=False)}")
    print(*diagnose(result), sep="\n")

# %% [markdown]
# Both regions are predicted well. The score of the second is that of pixels and of oriented energy: the network says nothing of it
# that its input does not say. Only the first is ahead of everything that never learned.

# %%
ahead = {name: float(result.score_minus_best_control.median()) for name, result in results.items()}
print(ahead)

# %% [markdown]
# ## Neighbours in time
#
# Volumes that follow one another are alike, whatever is shown. Folds that are drawn at random put the neighbours of every tested
# volume into training, and are refused. Forced, they make noise score, and features of time alone score best of all.

# %%
rng = np.random.default_rng(0)
n = 300
slow = np.zeros((n, 30))
for t in range(1, n):
    slow[t] = 0.9 * slow[t - 1] + rng.normal(size=30)
times = {"onset_s": 2.0 * np.arange(n), "run": "1"}
volumes = [f"volume-{t:03d}" for t in range(n)]
bold = ba.responses(slow[:, :10], stimulus_id=volumes, neuroid_id=range(10), modality="fmri", system="sub-01", **times)
words = ba.responses(slow[:, 10:], stimulus_id=volumes, neuroid_id=range(20), modality="ann", system="language model", **times)
try:
    ba.split(bold, shuffle=True)
except ba.errors.SplitError as error:
    print(error)

# %%
forced = ba.split(bold, n_splits=5, shuffle=True, random_state=0, force=True)
noise = {"blocks": ba.evaluate(words, bold, random_state=0), "shuffled": ba.evaluate(words, bold, cv=forced, random_state=0)}
for name, result in noise.items():
    print(f"\n{name}\n{ba.reports.table.beside(result).round(2).to_string(index=False)}")
    print(*diagnose(result), sep="\n")

# %% [markdown]
# ## A null, and a claim
#
# How often would chance score as high? Stimuli change places, and everything is fitted anew. A result may carry the claim that it
# was made for: the report then prints effect, interval, null, best control, ceiling and n, and says which of them is missing.

# %%
tested = ba.evaluate(
    trained, people["learned"], controls=controls, ceiling="repeat", n_permutations=99, n_bootstraps=200, random_state=0
)
claimed = ba.reports.claim(
    tested,
    hypothesis="IT reads what the network learned",
    alternative="any network of this architecture would do",
    test="IT is predicted better than by each control",
)
print(ba.reports.evidence(claimed).to_string(index=False, header=False))
print(ba.reports.report(claimed, "controls.html", title="What a score is worth").name)

# %% [markdown]
# ## Conclusion
#
# The trained network is ahead of every control in the region that reads it and in no other; noise scores under forced folds only, and
# less than time alone.

# %%
assert ahead["learned"] > 0.05
assert ahead["seen"] < 0.02
alone = float(noise["shuffled"].score_control.sel(control="autocorrelation").mean())
assert alone > float(noise["shuffled"].score.mean()) > 0.2
assert abs(float(noise["blocks"].score.mean())) < 0.15
assert float(tested.p_value_max.median()) == 0.01
