# %% [markdown]
# # Which metric when?
#
# There are some dozens of numbers for how alike two systems respond. They differ in what they are blind to, in what they give to systems
# that share nothing, and in how often they name the right layer. All three can be measured, with the truth known.
#
# Three areas read three layers of a network; 40 neurons each, 60 pictures, noise as in a recording.

# %%
import numpy as np
import pandas as pd

import brainalign as ba

study = ba.simulate(n_stimuli=60, n_neuroids=40, n_repeats=3, snr=0.5, random_state=0)
TRUTH = {"V1": "layer1", "V4": "layer2", "IT": "layer4"}
METRICS = [
    "cka", "cka-debiased", "svcca", "cca", "nbs", "procrustes-normalised", "distance-correlation", "mutual-knn", "rsa", "soft-matching",
]  # fmt: skip

# %% [markdown]
# ## What is it blind to?
#
# Twenty neurons of the first layer against themselves, after a change that a metric may or may not see. A likeness of 1, or a distance of 0, is
# blindness; the attr `invariances` of a result says what is promised.

# %%
rng = np.random.default_rng(0)
layer = study.network[:, study.network.layer.values == "layer1"][:, :20]
rotation, mixing = np.linalg.qr(rng.normal(size=(20, 20)))[0], rng.normal(size=(20, 20))
CHANGES = {
    "a constant added": layer.values + rng.normal(size=20),
    "neurons in another order": layer.values[:, rng.permutation(20)],
    "a rotation": layer.values @ rotation,
    "any linear map": layer.values @ mixing,
}
seen = {}
for name in METRICS:
    scores = {
        change: ba.similarity(layer, layer.copy(data=values.astype("f4")), metric=name) for change, values in CHANGES.items()
    }
    seen[name] = {change: float(out.score) for change, out in scores.items()}
blind = pd.DataFrame(seen).T.round(2)
print(blind.to_string())

# %% [markdown]
# Only canonical correlations do not see a linear map (SVCCA nearly). Matchings see a rotation: they are about neurons, where most others are about
# the space that neurons span. RSA with correlations sees a rotation and a constant too, for it takes out the mean over neurons. Choose by
# the claim: "the same code up to a change of axes" wants a rotation to pass, "a linear readout would find the same" wants a linear map to,
# "there are neurons like these" wants neither.
#
# ## What does it give to nothing?
#
# A target whose rows were exchanged shares nothing with the source. What is left is the score of the numbers of stimuli and neurons alone;
# `score_chance` has it for every cell. Here for 10 and for 200 random neurons on each side.

# %%
chance = {}
for n in (10, 200):
    noise = [
        ba.responses(rng.normal(size=(60, n)), stimulus_id=[f"s{i:02d}" for i in range(60)], neuroid_id=range(n), modality="ann", system=system)
        for system in "ab"
    ]  # fmt: skip
    for name in METRICS:
        if name != "cca" or n < 59:  # with as many neurons as pictures all canonical correlations are 1, and refused
            out = ba.similarity(*noise, metric=name, n_permutations=20, random_state=0)
            chance.setdefault(name, {})[f"{n} neurons"] = float(out.score_chance)
chance = pd.DataFrame(chance).T.round(2)
print(chance.to_string())

# %% [markdown]
# With 200 neurons and 60 pictures, CKA calls two systems without anything in common .76 alike, and SVCCA .97. Only what is centred on
# chance can be compared between groups of different size: debiased CKA and RSA are 0 here, and neighbours have the share k / (n − 1).
#
# ## Does it name the right layer?
#
# Each area against all layers, of 64, 48, 40 and 32 neurons. The same call takes any metric, with the same permutations, so that the answers
# can be laid side by side. (Without CCA: the first layer has more neurons than there are pictures.)

# %%
found = {}
for name in METRICS:
    if name != "cca":
        out = ba.compare(study.network, study.brain, by=("layer", "region"), metric=name, n_permutations=99, random_state=0)
        sign = 1 if out.attrs["direction"] == "higher is more alike" else -1
        best = out.source_layer.values[(sign * out.score.values).argmax(axis=0)].tolist()
        above = out.source_layer.values[(sign * (out.score - out.score_chance).values).argmax(axis=0)].tolist()
        largest = max(float(out.p_value_max.sel(target_region=area, source_layer=layer)) for area, layer in TRUTH.items())
        found[name] = {"most alike": ", ".join(best), "most above chance": ", ".join(above), "largest p of the truth": largest}
named = pd.DataFrame(found).T
print(", ".join(TRUTH.values()), "is the truth\n" + named.to_string())

# %% [markdown]
# SVCCA gives every area to the widest layer, until what chance gives is taken off. All pairs of the truth pass a test against exchanged pictures
# under every metric, wrong answers included: that a score is above chance is not that it names the right layer.
#
# ## Is the difference larger than the choice of pictures?
#
# With `n_bootstraps=` every metric has an interval, from halves of the pictures, and `ba.bootstrap` compares layers on the same halves.

# %%
out = ba.compare(
    study.network, study.brain, by=("layer", "region"), metric="cka-debiased", n_bootstraps=500, ceiling="repeat", random_state=0
)
pairs = ba.bootstrap(out, over="stimulus", between="source_layer").sel(target_region="IT")
for i in np.flatnonzero(pairs.second.values == "layer4"):
    low, high = float(pairs.difference_low[i]), float(pairs.difference_high[i])
    print(
        f"{pairs.first.values[i]} less layer4, of IT: {float(pairs.difference[i]):.2f} ({low:.2f} to {high:.2f}), p {float(pairs.p_value_max[i]):.3f}"
    )
print("halves of the repeats of an area score", out.ceiling.values.round(2).tolist())

# %% [markdown]
# Halves of the repeats agree less than the average over all of them agrees with its layer, since there the noise is on both sides and twice as
# large: this ceiling says what another recording would score, not what a source can.

# %%
assert blind.loc["cka", "a rotation"] == 1 > blind.loc["soft-matching", "a rotation"]
assert chance.loc["cka", "200 neurons"] > 0.7 > 0.05 > abs(chance.loc["cka-debiased", "200 neurons"])
assert (named["most above chance"] == ", ".join(TRUTH.values())).all()
assert named.loc["svcca", "most alike"] != named.loc["cka-debiased", "most alike"] == ", ".join(TRUTH.values())
