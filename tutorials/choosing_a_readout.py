# %% [markdown]
# # Choosing a readout
#
# How should a voxel be read out of the feature maps of a network? Three mappings, two simulated cases. In the first each voxel
# looks at one place of the picture; in the second all voxels of a region follow a marked object, wherever it is. Both are
# simulated, so that we know what is to be found: 8 × 8 places, 16 channels, 500 training pictures, as much noise as signal.

# %%
import numpy as np

import brainalign as ba

SIDE, CHANNELS, TRAIN, TEST, VOXELS = 8, 16, 500, 300, 12
rng = np.random.default_rng(0)
ids = [f"picture-{i:03d}" for i in range(TRAIN + TEST)]
place, channel = (index.ravel() for index in np.indices((SIDE * SIDE, CHANNELS)))


def network(maps):
    """Label feature maps (picture, place, channel) as the recording of a layer is labelled."""
    return ba.responses(maps.reshape(len(maps), -1), stimulus_id=ids, neuroid_id=range(place.size), modality="ann", system="net",
                        layer="conv", unit=channel, channel_x=place % SIDE, channel_y=place // SIDE)  # fmt: skip


def region(signal):
    """Return a simulated region: the signal at unit variance, and as much noise."""
    noisy = signal / signal.std(axis=0) + rng.normal(size=signal.shape)
    return ba.responses(noisy, stimulus_id=ids, neuroid_id=range(VOXELS), modality="fmri", system="simulated", region="V1")


# %% [markdown]
# ## Two cases

# %%
maps = rng.normal(size=(TRAIN + TEST, SIDE * SIDE, CHANNELS)).astype("float32")
looks_at = rng.integers(SIDE * SIDE, size=VOXELS)
fixed = network(maps), region(np.einsum("nvc,cv->nv", maps[:, looks_at], rng.normal(size=(CHANNELS, VOXELS))))

marked, at = maps.copy(), rng.integers(SIDE * SIDE, size=len(maps))
marked[np.arange(len(maps)), at, 0] += 5  # channel 0 marks the object
routed = network(marked), region(marked[np.arange(len(maps)), at, 1:] @ rng.normal(size=(CHANNELS - 1, VOXELS)))

# %% [markdown]
# ## Three readouts
#
# Ridge regression has a weight for every place and channel: 1,024 a voxel. `SpatialReadout` has one receptive field and one weight
# per channel. `AttentionReadout` has a query that looks for its token in each picture anew. All of them choose their penalties within
# the training pictures, and all go to `evaluate`, `compare` and `readout` alike.

# %%
READOUTS = {
    "ridge": (ba.Ridge(), ba.Ridge()),
    "fwrf": (ba.SpatialReadout(), ba.SpatialReadout()),
    "factorised": (ba.SpatialReadout("factorised", n_steps=3), ba.SpatialReadout("factorised", n_steps=3)),
    "attention": (ba.AttentionReadout("neuroid", max_steps=300), ba.AttentionReadout("region")),
}
r = {}
for name, models in READOUTS.items():
    for case, model, (source, target) in zip(("fixed", "routed"), models, (fixed, routed), strict=True):
        predicted = model.fit(source[:TRAIN], target[:TRAIN]).predict(source[TRAIN:])
        pairs = zip(predicted.values.T, target[TRAIN:].values.T, strict=True)
        r[name, case] = float(np.mean([np.corrcoef(p, y)[0, 1] for p, y in pairs]))
    print(f"{name:>10}: fixed fields r = {r[name, 'fixed']:.2f}, routed content r = {r[name, 'routed']:.2f}   (possible: .71)")

# %% [markdown]
# ## Where do they look?
#
# Receptive fields are coordinates of the voxels: in fields of view from the centre, x to the right and y upward. Attention is an array,
# picture × query × token.

# %%
fields = READOUTS["fwrf"][0].predict(fixed[0][TRAIN:])
planted_x = (looks_at % SIDE + 0.5) / SIDE - 0.5
print("planted x:", planted_x[:6])
print("found x:  ", fields.rf_x.values[:6])
attention = READOUTS["attention"][1].attention(routed[0][TRAIN:])
found = attention.sel(query="V1").argmax("token")
share = float((found.values == at[TRAIN:]).mean())
print(f"attention finds the marked place in {share:.0%} of the test pictures")

# %% [markdown]
# ## Conclusion
#
# A readout is an assumption about the brain. Where fields are fixed, the spatial readout needs the least data, and attention has to
# learn from few pictures what the other assumes; where content is routed, every static readout is blind. Choose by held-out score, for
# each region.

# %%
assert r["factorised", "fixed"] > r["ridge", "fixed"] + 0.2
assert r["factorised", "fixed"] > r["attention", "fixed"]
assert r["attention", "routed"] > 0.6
assert np.abs(fields.rf_x.values - planted_x).max() < 1 / SIDE
assert share > 0.95
assert max(r[name, "routed"] for name in ("ridge", "fwrf", "factorised")) < 0.15
