# %% [markdown]
# # Banded ridge and variance partitioning
#
# A simulated person listens to a story. Two feature spaces describe it: the sound, with few features, and the meaning of its words,
# with many, some of which follow the sound. Three regions respond: one to the sound, one to the meaning, one to both. Which space
# explains what? The truth is planted, so that the answer can be checked.

# %%
import numpy as np

import brainalign as ba

rng = np.random.default_rng(0)
n_volumes, n_sound, n_meaning, n_voxels = 480, 5, 80, 20
sound = rng.normal(size=(n_volumes, n_sound))
meaning = rng.normal(size=(n_volumes, n_meaning))
meaning[:, :n_sound] = 0.8 * sound + 0.6 * meaning[:, :n_sound]  # loud words are other words

rows = {"run": np.repeat([f"run-{i}" for i in range(6)], 80), "onset_s": np.tile(2.0 * np.arange(80), 6)}
labels = {"stimulus_id": [f"volume-{i:03d}" for i in range(n_volumes)], "presentation": rows}
spaces = {"sound": sound, "meaning": meaning}
features = ba.bands(
    **{
        name: ba.responses(values, neuroid_id=range(values.shape[1]), modality="ann", system="features", layer=name, **labels)
        for name, values in spaces.items()
    }
)
print(f"{dict(features.sizes)}, bands {list(dict.fromkeys(features.band.values))}")

# %% [markdown]
# The regions respond late and slowly, over six seconds, and noise makes up two thirds of what is measured.

# %%
lagged = sum(weight * ba.Delay([delay]).transform(features).values for delay, weight in {2: 0.7, 4: 1.0, 6: 0.8}.items())
planted = {"A1": {"sound": 1.0}, "STS": {"sound": 0.5, "meaning": 0.5}, "IFG": {"meaning": 1.0}}


def voxels(shares):
    """Responses of one region: each space has its share of the signal's variance."""
    signal = np.zeros((n_volumes, n_voxels))
    for name, share in shares.items():
        part = lagged[:, features.band.values == name] @ rng.normal(size=(spaces[name].shape[1], n_voxels))
        signal += share**0.5 * part / part.std(axis=0)
    return signal + 2**0.5 * rng.normal(size=signal.shape)


brain = ba.responses(
    np.hstack([voxels(shares) for shares in planted.values()]),
    neuroid_id=range(3 * n_voxels),
    modality="fmri",
    system="sub-01",
    neuroid={"region": np.repeat(list(planted), n_voxels)},
    **labels,
)
folds = ba.split(brain, by="run")


def by_region(x):
    """Mean over the voxels of each region."""
    return x.groupby("region").mean()[..., [list(sorted(planted)).index(name) for name in planted]]


# %% [markdown]
# ## One penalty for all features
#
# Ridge regression on both spaces side by side has one penalty. The sound's five features drown among the eighty of the meaning: in
# the auditory region the joint model predicts less than the sound alone.

# %%
delays = ba.Delay([2, 4, 6])
options = {"cv": folds, "controls": "none", "random_state": 0}
alone = ba.evaluate(features[:, features.band == "sound"], brain, model=ba.chain(delays, ba.Ridge()), **options)
joint = ba.evaluate(features, brain, model=ba.chain(delays, ba.Ridge()), **options)
banded = ba.evaluate(features, brain, model=ba.chain(delays, ba.BandedRidge()), **options)
for name, result in {"sound alone": alone, "joint ridge": joint, "banded ridge": banded}.items():
    print(f"{name:13}", by_region(result.score).round(3).to_series().to_dict())

# %% [markdown]
# ## A penalty for each space
#
# Banded ridge gives each space a weight, voxel by voxel: the share that it has in the variance of the weighted features. A space
# that does not help gets a weight of exactly 0, and its coefficients are 0.

# %%
model = ba.chain(delays, ba.BandedRidge()).fit(features, brain)
mapping = model.steps_[-1]
for band, weights in zip(mapping.bands_, mapping.band_weights_, strict=True):
    found = by_region(mapping.per_target(weights))
    dropped = by_region(mapping.per_target(weights == 0))
    print(f"{band:8} weight {found.round(2).to_series().to_dict()}, left out {dropped.round(2).to_series().to_dict()}")
weight_of_sound = by_region(mapping.per_target(mapping.band_weights_[0]))

# %% [markdown]
# What each space adds to a prediction is an array with a `band` dim. Responses to sound and to meaning can be looked at apart.

# %%
shares = mapping.predict_bands(model.transform(features))
print(shares.dims, {str(band): round(float(shares.sel(band=band)[:, :n_voxels].std()), 2) for band in shares.band.values})

# %% [markdown]
# A hemodynamic response is slow: weights at neighbouring delays are alike. A prior says so, with one length in seconds.

# %%
smooth = ba.evaluate(features, brain, model=ba.chain(delays, ba.BandedRidge(smooth_s=2.0)), **options)
print("with a prior over delays", by_region(smooth.score).round(3).to_series().to_dict())

# %% [markdown]
# ## Whose variance is it?
#
# Both spaces predict the auditory region, since loud words are other words. Fitting every subset of the spaces on the same folds tells
# what a space explains alone from what the two share; all R² are of runs that were held out. The product measure shares the
# variance of the joint model out to the spaces, and adds up to it.

# %%
parts = ba.partition_variance(features, brain, model=ba.chain(delays, ba.BandedRidge()), cv=folds, random_state=0)
table = {
    "R², both": parts.score,
    "sound alone can": parts.r2.sel(subset="sound"),
    "meaning alone can": parts.r2.sel(subset="meaning"),
    "unique to sound": parts.unique.sel(band="sound"),
    "unique to meaning": parts.unique.sel(band="meaning"),
    "shared": parts.shared,
    "product, sound": parts["product"].sel(band="sound"),
    "product, meaning": parts["product"].sel(band="meaning"),
}
for name, values in table.items():
    print(f"{name:18}", by_region(values).round(3).to_series().to_dict())

# %% [markdown]
# ## Conclusion
#
# Joint ridge loses variance that the sound explains; banded ridge does not, and a prior over delays adds some. What is unique to
# each space follows the planted shares: nothing of the meaning in A1, nothing of the sound in IFG. Small negative shares are
# noise, and are shown.

# %%
unique = by_region(parts.unique)
assert float(by_region(joint.score)[0]) < float(by_region(alone.score)[0]) < float(by_region(banded.score)[0]) + 0.01
assert float(smooth.score.mean()) > float(banded.score.mean()) + 0.02
assert weight_of_sound.values.tolist() == sorted(weight_of_sound.values, reverse=True)
assert abs(float(unique.sel(band="meaning")[0])) < 0.02 < float(unique.sel(band="sound")[0])
assert abs(float(unique.sel(band="sound")[2])) < 0.02 < float(unique.sel(band="meaning")[2])
assert np.allclose(parts["product"].sum("band"), parts.score, atol=1e-5)
