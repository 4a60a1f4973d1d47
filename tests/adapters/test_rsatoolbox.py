"""Objects of rsatoolbox come in by the doors of files, and go back with all that they said."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters import to_rsatoolbox

rsatoolbox = pytest.importorskip("rsatoolbox")


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=12, n_neuroids=8, n_repeats=2, random_state=0)


@pytest.mark.parametrize("kind", ["fmri", "network", "spikes", "meg"])
def test_responses_return_as_they_left(study, kind):
    x = getattr(study, kind)
    back = ba.open_responses(to_rsatoolbox(x))
    xr.testing.assert_identical(back.drop_attrs(), x.drop_attrs())
    assert back.dtype == x.dtype
    assert back.attrs["modality"] == x.attrs["modality"]
    assert back.attrs.get("units") == x.attrs.get("units")
    assert back.attrs["deterministic"] == x.attrs["deterministic"]


def test_a_data_set_of_theirs_is_labelled_by_its_descriptors():
    values = np.random.default_rng(0).normal(size=(4, 3))
    theirs = rsatoolbox.data.Dataset(
        values,
        obs_descriptors={"conds": ["cat", "dog", "cat", "dog"], "session": [0, 0, 1, 1]},
        channel_descriptors={"vox": [5, 7, 9]},
    )
    x = ba.open_responses(theirs, modality="fmri", system="sub-01", stimulus_id="conds")
    assert x.stimulus_id.values.tolist() == ["cat", "dog", "cat", "dog"]
    assert x.repetition.values.tolist() == [0, 0, 1, 1]
    assert x.neuroid_id.values.tolist() == [5, 7, 9]
    assert x.session.values.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(x.values, values, rtol=1e-6)


def test_rdms_return_as_they_left(study):
    for rdms, dim in (
        (ba.rdm(study.network, by="layer"), "layer"),
        (ba.rdm(study.fmri, by="region", metric="euclidean"), "region"),
    ):
        stack = to_rsatoolbox(rdms)
        assert stack.n_rdm == rdms.sizes[dim]
        back = ba.open_rdms(stack, dim=dim)
        xr.testing.assert_identical(back.drop_attrs(), rdms.drop_attrs())
        assert back.attrs["metric"] == rdms.attrs["metric"]
        assert back.attrs["units"] == rdms.attrs["units"]


def test_one_matrix_becomes_a_stack_of_one_and_several_dims_one_stack(study):
    assert to_rsatoolbox(ba.rdm(study.network)).n_rdm == 1
    two = xr.concat([ba.rdm(study.network, by="layer")] * 2, xr.DataArray(["a", "b"], dims="seed", name="seed"))
    stack = to_rsatoolbox(two)
    assert stack.rdm_descriptors["seed"] == ["a"] * (stack.n_rdm // 2) + ["b"] * (stack.n_rdm // 2)
    assert stack.rdm_descriptors["layer"][: stack.n_rdm // 2] == two.layer.values.tolist()


def test_their_correlation_distances_are_ours(study):
    x = ba.average_repeats(study.fmri)
    theirs = rsatoolbox.rdm.calc_rdm(to_rsatoolbox(x), method="correlation", descriptor="stimulus_id")
    opened = ba.open_rdms(theirs, stimulus_id="stimulus_id")
    ours = ba.rdm(x)
    assert opened.attrs["metric"] == ours.attrs["metric"]
    ids = ours.stimulus.values
    np.testing.assert_allclose(opened.sel(stimulus=ids, stimulus_2=ids).values[0], ours.values, atol=1e-6)
    assert float(ba.compare_rdms(opened, ours).score[0]) == pytest.approx(1.0)


def test_what_is_missing_or_ambiguous_is_named():
    values = np.zeros((3, 2))
    bare = rsatoolbox.data.Dataset(values + np.arange(3)[:, None], descriptors={"modality": "fmri", "system": "s"})
    with pytest.raises(ba.errors.ParameterError, match="only positions, which are no names"):
        ba.open_responses(bare)
    with pytest.raises(ba.errors.ParameterError, match="does not say its modality"):
        ba.open_responses(rsatoolbox.data.Dataset(values))
    with pytest.raises(ba.errors.ParameterError, match="`stimulus_id` has 2 names"):
        ba.open_responses(bare, stimulus_id=["a", "b"])
    stack = rsatoolbox.rdm.RDMs(
        np.ones((2, 3)), pattern_descriptors={"conds": ["a", "b", "a"]}, rdm_descriptors={"who": ["x", "y"]}
    )
    with pytest.raises(ba.errors.ParameterError, match="'stimulus' does not tell the 3 apart"):
        ba.open_rdms(stack)
    with pytest.raises(ba.errors.ParameterError, match=r"no descriptor 'whom'. Expected one of 'who'. Did you mean 'who'"):
        ba.open_rdms(stack, stimulus_id=["a", "b", "c"], dim="whom")
    with pytest.raises(ba.errors.ParameterError, match="key"):
        ba.open_rdms(stack, key="x")


@pytest.mark.parametrize("scale", [1.0, 1e-26])  # squared tesla
def test_what_a_stack_cannot_hold_cannot_leave(scale):
    labels = {"stimulus": list("abc"), "stimulus_2": list("abc")}
    upper = scale * np.triu(np.ones((3, 3)), 1)
    with pytest.raises(ba.errors.SchemaError, match="ndarray"):
        to_rsatoolbox(upper)
    with pytest.raises(ba.errors.SchemaError, match="not symmetric"):
        to_rsatoolbox(xr.DataArray(upper, dims=list(labels), coords=labels))
    with pytest.raises(ba.errors.SchemaError, match="a diagonal that is not 0"):
        to_rsatoolbox(xr.DataArray(upper + upper.T + scale * np.eye(3), dims=list(labels), coords=labels))


def test_chosen_names_stand_on_both_sides_whatever_the_descriptors_are_called():
    stack = rsatoolbox.rdm.RDMs(
        np.ones((2, 3)), pattern_descriptors={"stimulus": list("abc")}, rdm_descriptors={"rdm": ["x", "y"]}
    )
    opened = ba.open_rdms(stack, stimulus_id=["u", "v", "w"])
    for dim in ("stimulus", "stimulus_2"):
        assert opened[dim].values.tolist() == ["u", "v", "w"]
    assert opened.rdm.values.tolist() == [0, 1]
