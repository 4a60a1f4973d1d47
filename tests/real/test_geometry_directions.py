"""Person to person, human to monkey, layer to region, layer to layer: one call for each, on ninety-two pictures.

The network is small and seeded, and has learned nothing: what is tested is that no verb asks which side is which.
"""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba

pytestmark = pytest.mark.real

DIRECTIONS = [("person", "other person"), ("human", "monkey"), ("layer", "region"), ("layer", "other layer"), ("region", "layer")]


def channels_first(images):
    return torch.nn.functional.interpolate(torch.as_tensor(np.asarray(images)).permute(0, 3, 1, 2).float() / 255, size=32)


@pytest.fixture(scope="module")
def sides(shared_data):
    """RDMs of every kind of system over the same pictures."""
    pictures = ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli")
    ids = pictures.stimulus_id.values
    cortex = ba.open_rdms(
        shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat",
        key="RDMs_mIT_hIT_fig1", stimulus_id=ids, names=["mIT", "hIT"], dim="region",
    )  # fmt: skip
    names = [f"sub-{i:02d}" for i in range(1, 16)]
    people = ba.open_rdms(
        shared_data("images92-fmri15") / "fmri_EVC_RDMs.npz", key="Net_RDM", stimulus_id=ids, names=names, dim="subject"
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, stride=2), torch.nn.ReLU()
    )
    responder = ba.TorchResponder(network.eval(), layers=["1", "3"], system="net", preprocess=channels_first)
    layers = ba.rdm(ba.record(responder, pictures, progress=False), by="layer")
    return {
        "person": people.isel(subject=0), "other person": people.isel(subject=1), "others": people.isel(subject=slice(1, None)).mean("subject"), "human": cortex.sel(region="hIT"),
        "monkey": cortex.sel(region="mIT"), "region": people, "layer": layers.isel(layer=0), "other layer": layers.isel(layer=1),
    }  # fmt: skip


VERBS = {
    "compare_rdms": lambda a, b: ba.compare_rdms(
        a, b, metric="rho-a", n_bootstraps=50, over="stimulus", n_permutations=99, random_state=0
    ),
    "trsa": lambda a, b: ba.trsa(a, b, step=0.1, n_permutations=99, random_state=0),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_one_call_and_one_type_of_result_in_every_direction(sides, verb, source, target):
    out = VERBS[verb](sides[source], sides[target])
    swapped = VERBS[verb](sides[target], sides[source])
    first = VERBS[verb](sides["human"], sides["monkey"])
    assert set(out.data_vars) == set(first.data_vars)
    assert set(out.attrs) == set(first.attrs)
    np.testing.assert_allclose(swapped.score.values.ravel(), out.score.values.ravel(), atol=1e-10)
    assert np.isfinite(out.score.values).all()
    assert ((out.p_value > 0) & (out.p_value <= 1)).all()


def test_people_and_species_are_alike_and_renamed_pictures_are_not(sides):
    rng = np.random.default_rng(0)
    for source, target in (("person", "others"), ("human", "monkey"), ("layer", "other layer")):
        found = VERBS["compare_rdms"](sides[source], sides[target])
        assert found.p_value.item() == 0.01
        assert found.ci_low.item() > 0
        ids = rng.permutation(sides[source].stimulus.values)
        wrong = sides[source].assign_coords(stimulus=ids, stimulus_2=ids)
        assert VERBS["compare_rdms"](wrong, sides[target]).p_value.item() > 0.02


def test_a_grid_of_layers_and_people_is_the_cells_of_it(sides):
    layers = xr.concat([sides["layer"], sides["other layer"]], "layer", coords="minimal", compat="override")
    grid = ba.compare_rdms(layers, sides["region"], metric="whitened-cosine").score
    assert grid.dims == ("source_layer", "target_subject")
    cell = ba.compare_rdms(sides["other layer"], sides["other person"], metric="whitened-cosine").score
    assert grid[1, 1].item() == pytest.approx(cell.item(), abs=1e-12)
