"""Where attributions point beside chance: planted parts are found, noise and untrained networks are not, the same call for both kinds."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError, WeakMappingWarning
from brainalign.neurons.attribution.nulls import shares_of

PAIRS = np.repeat(np.arange(4), 2)  # groups of two features
OPTIONS = {"method": "gradient-times-input", "groups": PAIRS, "random_state": 0}


def study(effect=2.0, n=60, timed=False, n_voxels=3):
    """A network, stimuli, and voxels that answer to the first feature, or to nothing."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh()), "1", system="net")
    rows = {"onset_s": np.arange(n) * 2.0} if timed else {}
    x = rng.normal(size=(n, 8))
    table = ba.stimuli.table(x, stimulus_id=[f"s{i}" for i in range(n)], kind="array", **rows)
    brain = ba.responses(rng.normal(size=(n, n_voxels)) + effect * x[:, :1], stimulus_id=table.stimulus_id.values, neuroid_id=range(n_voxels),
                         modality="fmri", system="s", **rows)  # fmt: skip
    model = ba.Ridge(alphas=[1.0, 10.0, 100.0], dtype="float64").fit(ba.record(net, table, progress=False), brain)
    return net, table, brain, ba.readout(net, model)


def test_shares_add_up_to_one_and_none_is_known_of_nothing():
    shares, known = shares_of(np.array([[[1.0, -3.0], [0.0, 0.0]]]))
    assert shares.tolist() == [[[0.25, 0.75], [0.0, 0.0]]]
    assert known.ravel().tolist() == [True, False]


@pytest.mark.parametrize(("null", "timed"), [("permutation", False), ("permutation", True), ("phase", True)])
def test_a_planted_part_is_found_and_the_others_are_not(null, timed):
    _, table, brain, voxels = study(timed=timed)
    a = ba.attribute(voxels, table, null=null, n_permutations=99, target=brain, **OPTIONS)
    assert a.p_value.dims == a.ci_low.dims == ("neuroid", "group")
    np.testing.assert_allclose(a.share.sum("group"), 1.0)
    assert (a.p_value_max.values[:, 0] <= 0.05).all()
    assert (a.p_value.values[:, 1:] > 0.05).all()
    assert ((a.ci_low < a.share) & (a.share < a.ci_high)).all()
    assert a.attrs["null"] == null
    step = ba.core.provenance(a).steps[-1]
    assert (step["verb"], step["seed"]) == ("attribute_null", 0)


def test_draws_are_refits_side_by_side_or_one_by_one():
    """Mappings that fit each target alone take all draws at once, in portions that fit; the numbers are those of single fits."""
    net, table, brain, voxels = study()
    options = {**OPTIONS, "null": "permutation", "n_permutations": 7, "target": brain, "neuroid": [2, 0]}
    together = ba.attribute(voxels, table, **options)
    tight = ba.attribute(voxels, table, max_memory=2**20, **options)
    np.testing.assert_array_equal(together.p_value.values, tight.p_value.values)

    class OneByOne(type(voxels)):
        separate_targets = False

    alone = OneByOne(net, voxels.given, None)
    np.testing.assert_array_equal(ba.attribute(alone, table, **options).p_value.values, together.p_value.values)


def test_the_untrained_salmon_shows_nothing_and_a_trained_unit_what_it_learned():
    net, table, brain, _ = study()
    salmon = ba.attribute(net, table, null="random-network", n_permutations=39, **OPTIONS)
    assert salmon.p_value_max.values.min() > 0.05
    with torch.no_grad():
        net.model[0].weight[3, 0] = 5.0
    unit = ba.attribute(net, table, neuroid=[3], null="random-network", n_permutations=39, **OPTIONS)
    assert unit.p_value.values[0].argmin() == 0
    assert float(unit.p_value_max[0, 0]) == 1 / 40
    voxels = ba.readout(net, ba.Ridge(alphas=[1.0]).fit(ba.record(net, table, progress=False), brain))
    with pytest.warns(WeakMappingWarning):
        again = ba.attribute(voxels, table, neuroid=[1], null="random-network", n_permutations=4, target=brain, **OPTIONS)
    assert again.p_value.dims == unit.p_value.dims


def test_units_of_a_layer_have_nulls_too():
    _, table, brain, voxels = study()
    units = ba.attribute(
        voxels, table, neuroid=[0], wrt="0", method="conductance", null="permutation", n_permutations=5, target=brain
    )
    assert units.p_value.dims == ("neuroid", "unit")


def test_patches_have_the_same_null():
    _, table, brain, voxels = study()
    other = table[["values"]].isel(presentation=slice(None, None, -1))
    effect = ba.patch(
        voxels, table, other, nodes="1", by="unit", null="permutation", n_permutations=9, target=brain, random_state=0
    )
    assert effect.dims == ("presentation", "node", "neuroid")
    assert effect.p_value.dims == ("neuroid", "node")


def test_bad_input_is_refused():
    net, table, brain, voxels = study()
    with pytest.raises(ParameterError, match=r"'null'.*random-network"):
        ba.attribute(voxels, table, null="salmon", target=brain)
    with pytest.raises(CapabilityError, match="no mapping that could be fitted"):
        ba.attribute(net, table, null="permutation", target=brain)
    with pytest.raises(ParameterError, match=r"target=None.*fitted on"):
        ba.attribute(voxels, table, null="permutation")
    with pytest.raises(ParameterError, match="no `onset_s`"):
        ba.attribute(voxels, table, null="phase", target=brain)
    with pytest.raises(AlignmentError, match=r"lacks 1 of 3 neuroids \('s/2'"):
        ba.attribute(voxels, table, null="permutation", target=brain[:, :2])
