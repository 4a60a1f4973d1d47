# %% [markdown]
# # My own data
#
# You have a matrix of responses, a list of what was shown, and perhaps NIfTI runs with an events file. This page opens them, meets
# the errors that everybody meets, mends them, checks the recording, saves it to a study, and asks which layer of a network
# predicts it. The files are written first, from a simulated person, so that the answer is known.

# %%
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

import brainalign as ba

folder = Path(tempfile.mkdtemp())
study = ba.simulate(n_stimuli=120, n_repeats=4, snr=1.0, random_state=0)
truth, measured = study.truth, study.fmri

np.save(folder / "betas.npy", np.round(measured.values * 300).astype("int16"))  # as NSD stores them: × 300, in 16 bits
events = pd.DataFrame({"picture": measured.stimulus_id.values.astype(object), "run": measured.run.values.astype(object)})
events.to_csv(folder / "events.csv", index=False)
rois = pd.DataFrame({"voxel": measured.neuroid_id.values.astype(object), "region": measured.region.values.astype(object)})
rois.to_csv(folder / "rois.csv", index=False)
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# ## Opening, and what goes wrong
#
# The content of the file decides on the format. What a file does not say has to be said: the message names the format, why it was
# chosen, what is missing, and a call to start from.

# %%
file = folder / "betas.npy"
try:
    ba.open_responses(file)
except ba.errors.ParameterError as error:
    print(error)

# %% [markdown]
# Rows and columns have no names in an npy file, and positions are no names: an array whose rows were sorted differently would be
# compared with the wrong stimuli without a word.

# %%
try:
    ba.open_responses(file, modality="fmri", system="sub-01")
except ba.errors.ParameterError as error:
    print(error)

# %% [markdown]
# A list that is one short is refused with both lengths; a misspelt option with the closest one.

# %%
names = pd.read_csv(folder / "events.csv", dtype=str)
regions = pd.read_csv(folder / "rois.csv")
options = {"modality": "fmri", "system": "sub-01", "units": "% signal change", "neuroid_id": regions.voxel.tolist()}
for wrong in ({"stimulus_id": names.picture.tolist()[:-1]}, {"stimulus_id": names.picture.tolist(), "neuroids": regions}):
    try:
        ba.open_responses(file, **options, **wrong)
    except ba.errors.BrainAlignError as error:
        print(f"{type(error).__name__}: {error}\n")

# %% [markdown]
# With a name for each row and column it opens. Tables of further labels go in beside them.

# %%
opened = ba.open_responses(
    file, **options, stimulus_id=names.picture.tolist(), presentation=names[["run"]], neuroid=regions[["region"]]
)
print(
    f"{dict(opened.sizes)}, {len(set(opened.stimulus_id.values))} pictures, repetitions {sorted(set(opened.repetition.values))}"
)

# %% [markdown]
# ## Checking
#
# The labels are right. Are the values? `check` reads them once and lists what is legal and seldom meant; on the command line it is
# `brainalign data check betas.npy`. Two things stand out here: the unit cannot be, and one voxel is dead.

# %%
spoilt = opened.astype("float32").assign_attrs(opened.attrs)
spoilt = spoilt.copy(data=spoilt.values * (np.arange(spoilt.sizes["neuroid"]) != 7))
found = ba.reports.findings(ba.reports.check(spoilt))
for row in found.itertuples():
    print(f"{row.check}: {row.n} {row.what} ({row.where}). {row.mend}")

# %% [markdown]
# The mends: divide by 300, and leave the dead voxel out. Nothing stands out any more.

# %%
checked = ba.reports.check(spoilt)
clean = (spoilt / 300).assign_attrs(spoilt.attrs).isel(neuroid=np.flatnonzero(checked.status.values == "ok"))
remaining = ba.reports.findings(ba.reports.check(clean))
print(f"{len(remaining)} findings in {dict(clean.sizes)}")
ba.reports.report({"As opened": checked, "Mended": ba.reports.check(clean)}, folder / "check.html", title="My own data")

# %% [markdown]
# ## The same from NIfTI
#
# Images bring the names of their voxels, and the time of each volume; a mask says which voxels are meant.

# %%
grid = np.zeros((5, 6, 4, 92), dtype="float32")
grid[1:4, 1:6, 1:3] = np.random.default_rng(0).normal(100, 2, size=(3, 5, 2, 92))
image = nib.Nifti1Image(grid, np.diag([3.0, 3.0, 3.0, 1.0]))
image.header.set_zooms((3.0, 3.0, 3.0, 2.0))
image.header.set_xyzt_units("mm", "sec")
nib.save(image, folder / "run-1.nii.gz")
nib.save(nib.Nifti1Image((grid[..., 0] > 0).astype("uint8"), image.affine), folder / "mask.nii.gz")
volumes = ba.open_responses(folder / "run-1.nii.gz", system="sub-01", mask=folder / "mask.nii.gz")
print(
    f"{dict(volumes.sizes)}, from {float(volumes.onset_s[0]):g} to {float(volumes.onset_s[-1]):g} s, first voxel {volumes.neuroid_id.values[0]}"
)

# %% [markdown]
# Events beyond the end of the run are found beside it, before a model is fitted to them.

# %%
late = pd.DataFrame({"stimulus_id": ["a", "b"], "run": "1", "onset_s": [10.0, 190.0]})
print(ba.reports.findings(ba.reports.check(volumes, stimuli=late))[["check", "n", "where"]].to_string(index=False))

# %% [markdown]
# ## Saving, and asking
#
# A study holds the recording, the network's responses and the results. Saving streams, so it may be larger than memory; the two
# sides are joined on `stimulus_id`, and the four repeats of a picture averaged within the training and the test pictures.

# %%
ba.save(clean, folder / "study.zarr")
ba.save(study.network, folder / "study.zarr", name="network")
brain = ba.open_responses(folder / "study.zarr", name="sub-01")
network = ba.open_responses(folder / "study.zarr", name="network")
grid_of_scores = ba.compare(network, brain, by=("layer", "region"), cv=5, ceiling="repeat", random_state=0)
print(grid_of_scores.score.round(2).to_pandas())

# %% [markdown]
# ## Conclusion
#
# What was opened from a bare matrix and two tables, checked and mended, names the layer that each region reads.

# %%
best = grid_of_scores.score.to_pandas().idxmax().to_dict()
print(f"found:   {best}\nplanted: {truth.layer}")
assert found.check.tolist() == ["constant neuroids", "implausible scale"]
assert remaining.empty
assert best == truth.layer
