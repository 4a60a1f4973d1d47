# %% [markdown]
# # RSA with inference: which layer has a region's geometry
#
# Eight people see forty images in four runs. A simulated region reads the second layer of a network. Which layer has its geometry, is
# it better than its neighbours, and could any model do better? Each answer comes with an interval, a null and a ceiling.

# %%
import numpy as np
import xarray as xr

import brainalign as ba
from brainalign.reports import figures, geometryfigures

first = ba.simulate(n_stimuli=40, regions={"V4": "layer2"}, n_neuroids=40, n_repeats=4, snr=0.5, random_state=0)
network = first.network
people = {
    f"sub-{i}": ba.simulate(network, regions={"V4": "layer2"}, n_neuroids=40, n_repeats=4, snr=0.5, random_state=i).fmri
    for i in range(1, 9)
}

# %% [markdown]
# ## Distances that noise does not lengthen
#
# Noise moves patterns apart, so that any two conditions look different. Distances that are multiplied between runs do not have this
# bias: of pure noise they are 0 on average. Here are both, of a region that responds to nothing.

# %%
blank = (
    people["sub-1"]
    .copy(data=np.random.default_rng(0).normal(size=people["sub-1"].shape).astype("float32"))
    .assign_coords(run=("presentation", people["sub-1"].repetition.values))
)
above = np.triu_indices(40, 1)
biased = ba.rdm(blank, metric="sqeuclidean").values[above].mean()
fair = ba.rdm(blank, metric="crossnobis", folds="run").values[above].mean()
print(f"noise alone: squared distance {biased:.3f}, across runs {fair:+.4f}")
assert biased > 0.4
assert abs(fair) < 0.02

# %% [markdown]
# Noise that neuroids share is divided out by its covariance, from the repeats. One matrix a person, stacked along `subject`:

# %%
ids = network.stimulus_id.values


def geometry(person: xr.DataArray) -> xr.DataArray:
    runs = person.assign_coords(run=("presentation", person.repetition.values))
    found = ba.rdm(runs, metric="crossnobis", folds="run", noise="shrinkage-diagonal")
    return found.sel(stimulus=ids, stimulus_2=ids)


brains = xr.concat([geometry(person) for person in people.values()], xr.Variable("subject", list(people)))
layers = ba.rdm(network, metric="sqeuclidean", by="layer")
print(brains.sizes, layers.sizes)

# %% [markdown]
# ## Scores that hold for other people and other images
#
# `over=("subject", "stimulus")` redraws both, and corrects the variance for counting noise twice. The noise ceiling is what the true
# geometry would score: between the likeness of each person to the others, and to all. `between` compares every pair of layers on
# the same draws; permuted stimuli give the chance level.

# %%
ask = {
    "metric": "whitened-cosine",
    "over": ("subject", "stimulus"),
    "n_bootstraps": 500,
    "n_permutations": 500,
    "random_state": 0,
}
rsa = ba.compare_rdms(layers, brains, between="source_layer", **ask)
shown = rsa[["score", "ci_low", "ci_high", "p_value_max", "ceiling_low", "ceiling_high"]].reset_coords(drop=True)
print(shown.to_dataframe().round(3).to_string())
better = rsa[["difference", "difference_p_value_max"]].to_dataframe()
print(better.round(3))
figures_made = [geometryfigures.comparison(rsa), geometryfigures.rdm_panel(layers)]

best = rsa.source_layer.values[rsa.score.values.argmax()]
assert best == "layer2"
assert (rsa.ci_low < rsa.score).all()
assert rsa.p_value_max.sel(source_layer="layer2").item() <= 0.01

# %% [markdown]
# Does the best layer reach the ceiling, or is there geometry that the network lacks? The difference from the lower bound has its own
# interval:

# %%
short = rsa.ceiling_difference.sel(source_layer=best)
print(
    f"{best} is {float(short):+.3f} from the lower bound, p = {float(rsa.ceiling_difference_p_value_max.sel(source_layer=best)):.2f}"
)

# %% [markdown]
# ## What a low-level geometry leaves
#
# Layer 2 resembles layer 1, and layer 1 the image. What of the likeness remains when layer 1 is held constant?

# %%
low = layers.sel(layer="layer1")
raw = ba.compare_rdms(layers, brains, metric="pearson").score.mean("target_subject")
kept = ba.compare_rdms(layers, brains, metric="pearson", controlling=low).score.mean("target_subject")
print(f"layer2: {float(raw.sel(source_layer='layer2')):.3f}, without layer1 {float(kept.sel(source_layer='layer2')):.3f}")
assert 0.02 < kept.sel(source_layer="layer2") < raw.sel(source_layer="layer2")

# %% [markdown]
# ## The other way round, person to person, layer to layer
#
# Nothing above knows which side is the brain. Swapped, the scores are the same; and people can be compared with people.

# %%
back = ba.compare_rdms(brains, layers, **ask)
np.testing.assert_allclose(back.score.values, rsa.score.values, atol=1e-12)
between_people = ba.compare_rdms(brains, brains, metric="whitened-cosine").score
between_layers = ba.compare_rdms(layers, layers, metric="whitened-cosine").score
print(between_people.shape, between_layers.shape)

# %% [markdown]
# ## Over time
#
# The same network against an MEG recording. A cluster test says that there is an effect, not at which time it begins.

# %%
meg = ba.rdm(first.meg)
course = ba.compare_rdms(layers, meg, metric="rho-a", n_permutations=500, clusters="mass", random_state=0)
figures_made.append(figures.time_course(course))
found = course.p_value_cluster.min("target_time")
print(found.to_series().round(3))
assert found.sel(source_layer="layer2") <= 0.01

# %% [markdown]
# All of it in one page: `ba.reports.report([rsa, course, layers], "rsa.html")`.
