"""What real neurons say, by the same calls as units: labels and exemplars on the 92 pictures, and of voxels in one slice of one brain.

Of inferior temporal cortex only geometries are shared, so that its neuroids here are the directions in which they spread the pictures.
"""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

import brainalign as ba
from brainalign.reports import exemplarfigures

pytestmark = pytest.mark.real

RANDOM = ["rand24", "rand48", "other48"]


@pytest.fixture(scope="module")
def pictures(shared_data):
    return ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli")


@pytest.fixture(scope="module")
def published(shared_data):
    path = shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat"
    return path, scipy.io.loadmat(path, simplify_cells=True)


@pytest.fixture(scope="module")
def bank(published, pictures):
    """Nine categories of the pictures, and three that mean nothing."""
    _, file = published
    names = [str(name) for name in file["categoryLabels"]]
    return ba.responses(file["categoryVectors"].astype(float), stimulus_id=pictures.stimulus_id.values, neuroid_id=names,
                        modality="behaviour", system="categories", units="probability")  # fmt: skip


@pytest.fixture(scope="module")
def cortex(published, pictures):
    """Four directions, both ways, in which a monkey's and a human's cortex spreads the pictures."""
    rdms = ba.open_rdms(
        published[0], key="RDMs_mIT_hIT_fig1", stimulus_id=pictures.stimulus_id.values, names=["mIT", "hIT"], dim="region"
    )
    parts = []
    for region in ("mIT", "hIT"):
        places = ba.geometry.trajectories(rdms.sel(region=[region]), along="region", n_dimensions=4).values.reshape(92, 4)
        parts.append(ba.responses(np.hstack([places, -places]), stimulus_id=pictures.stimulus_id.values, neuroid_id=range(8),
                                  modality="fmri" if region == "hIT" else "spikes", system=region, region=region))  # fmt: skip
    return parts


@pytest.fixture(scope="module")
def layer(pictures):
    """Units of a small network that nobody trained, on pictures of 44 x 44."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(44),
        torch.nn.Conv2d(3, 16, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 40, 5, stride=3),
        torch.nn.ReLU(),
    )
    prepare = lambda images: torch.as_tensor(np.asarray(images)).permute(0, 3, 1, 2).float() / 255 - 0.5  # noqa: E731
    return ba.record(ba.TorchResponder(net.eval(), layers="4", system="net", preprocess=prepare), pictures, progress=False)


def test_cortex_is_labelled_by_categories_and_never_by_those_that_mean_nothing(cortex, bank):
    for x in cortex:
        out = ba.caption(x, bank, method="pearson", n_permutations=999, random_state=0)
        sure = out.label.values[out.p_value_fdr.values <= 0.05].tolist()
        assert {"animate", "inanim"} & set(sure)
        assert {"face", "human"} & set(sure)
        assert not set(sure) & set(RANDOM)
        first = out.label.values[[0, 4]].tolist()  # the direction of most variance
        assert set(first) <= {"animate", "inanim", "face", "human", "body"}


def test_a_network_that_nobody_trained_finds_nothing_by_the_same_call(layer, bank):
    out = ba.caption(layer[:, ::7], bank, method="pearson", n_permutations=999, random_state=0)
    fine = out.status.values == "ok"
    assert fine.sum() > 150
    assert set(out.label.values[fine].tolist()) <= set(bank.neuroid_id.values.tolist())
    assert np.mean(out.p_value_fdr.values[fine] <= 0.05) < 0.05
    nonsense = ba.caption(
        layer[:, ::7], bank[:, np.isin(bank.neuroid_id.values.astype(object), RANDOM)], n_permutations=199, random_state=0
    )
    assert np.mean(nonsense.p_value.values[fine] <= 0.05) < 0.1


def test_exemplars_of_cortex_and_of_maps_are_drawn_by_the_same_call(cortex, layer, pictures):
    human = ba.exemplars(cortex[1], k=8, random_state=0)
    number = np.char.replace(human.stimulus_id.values.astype(object).astype(str), "image_", "").astype(int)
    animate = (number <= 48).mean(axis=1)
    assert np.abs(animate[0] - animate[4]) > 0.7  # the two ends of the first direction
    maps = ba.exemplars(layer, k=4, by="unit", random_state=0)
    assert maps.sizes["neuroid"] == 40
    assert maps.attrs["map_width"] == maps.attrs["map_height"] == 6
    figure = exemplarfigures.exemplar_panel(maps.isel(neuroid=slice(3)), pictures)
    assert figure.axes[0].images[0].get_array().shape == (175, 175, 3)


def test_labels_of_voxels_hold_in_runs_that_they_were_not_made_from(shared_data):
    folders = [shared_data("haxby2001") / "sub001" / "BOLD" / f"task001_run{k:03d}" for k in range(1, 9)]
    events = pd.concat(
        [pd.read_csv(folder / "bold_events.tsv", sep="\t").assign(run=str(k)) for k, folder in enumerate(folders, 1)]
    )
    events = events.rename(columns={"onset": "onset_s", "duration": "duration_s", "trial_type": "condition"})
    events = events.assign(stimulus_id="run-" + events["run"] + "/" + events["condition"])
    opened = {"format": "nifti", "system": "sub001", "units": "scanner units"}
    first = ba.open_responses(folders[0] / "bold_1slice.nii.gz", run="1", **opened)
    bright = first.mean("presentation").values.reshape(json.loads(first.attrs["grid"])["shape"])
    bold = ba.open_responses([folder / "bold_1slice.nii.gz" for folder in folders], run=[str(k) for k in range(1, 9)],
                             mask=bright > 0.2 * bright.max(), **opened)  # fmt: skip
    blocks = ba.BinTime(window_s=(5.0, 2.5)).transform(ba.Clean(standardize="std").transform(bold), events).drop_vars("onset_s")
    names = np.unique(events["condition"].to_numpy(dtype=str))
    bank = ba.responses((events["condition"].to_numpy(dtype=str)[:, None] == names).astype(float), stimulus_id=events["stimulus_id"],
                        neuroid_id=names, modality="behaviour", system="task", units="probability")  # fmt: skip
    early = np.isin(blocks.run.values.astype(object), ["1", "2", "3", "4", "5"])
    found = ba.caption(blocks[early], bank, method="pearson", n_permutations=1999, random_state=0)
    held_out = ba.neurons.score_captions(found.label, blocks[~early], bank, n_permutations=199, random_state=0)
    sure = found.p_value_fdr.values <= 0.05
    assert sure.sum() >= 30
    assert np.mean(found.label.values[sure] == "house") > 0.6  # the slice goes through parahippocampal cortex
    assert np.mean(held_out.p_value.values[sure] <= 0.05) > 0.6
    assert float(held_out.score[sure].median()) > 0.4
