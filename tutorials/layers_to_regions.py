# %% [markdown]
# # Which layer does a region read?
#
# A simulated person looks at 150 images while a network sees the same ones. Each region of the brain reads one layer of the
# network; which one is known, because it was planted. We ask three questions, find the same answer three times, and check it
# against the truth.

# %%
import brainalign as ba

study = ba.simulate(n_stimuli=150, n_repeats=4, snr=1.0, random_state=0)
network, brain = study.network, study.brain
print(f"network: {dict(network.sizes)}, layers {sorted(set(network.layer.values))}")
print(f"brain:   {dict(brain.sizes)}, regions {sorted(set(brain.region.values))}")

# %% [markdown]
# ## Encoding: a brain from a network
#
# Every layer predicts every voxel, on images held out from all fitting; the penalty is chosen for each voxel inside the
# training images, so that wide and narrow layers are compared fairly. The two sides are joined on `stimulus_id`: the four
# repeats of an image are averaged, within the training and within the test images.

# %%
forward = ba.compare(network, brain, by=("layer", "region"), cv=5, ceiling="repeat", random_state=0)
print(forward.score.round(2).to_pandas())

# %% [markdown]
# ## Decoding: the network from the brain
#
# The same call with the two sides swapped.

# %%
backward = ba.compare(brain, network, by=("region", "layer"), cv=5, random_state=0)
print(backward.score.round(2).to_pandas())

# %% [markdown]
# ## Geometry
#
# Without any fitting: do two sets of responses call the same images similar?

# %%
geometry = ba.compare_rdms(ba.rdm(network, by="layer"), ba.rdm(brain, by="region"))
print(geometry.score.round(2).to_pandas())

# %% [markdown]
# ## How good could it get?
#
# The noise ceiling is estimated from the repeats alone; the study knows the true one.

# %%
estimated = ba.noise_ceiling(brain, random_state=0)
error = abs(estimated.values - study.truth.ceiling["fmri"].values)
print(
    f"ceiling: median {float(estimated.median()):.2f}, median error of the estimate {float(sorted(error)[len(error) // 2]):.3f}"
)

# %% [markdown]
# ## Conclusion
#
# Encoding, decoding and geometry each name the planted layer of every region.

# %%
found = {
    "encoding": forward.score.to_pandas().idxmax().to_dict(),
    "decoding": backward.score.to_pandas().idxmax(axis="columns").to_dict(),
    "geometry": geometry.score.to_pandas().idxmax().to_dict(),
}
for question, answer in found.items():
    print(f"{question}: {answer}")
print(f"planted:  {study.truth.layer}")
assert all(answer == study.truth.layer for answer in found.values())
assert float(forward.score.max()) < float(estimated.max())
