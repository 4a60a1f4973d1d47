import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError


def recording(values, **coords):
    values = np.asarray(values)
    ids = coords.pop("stimulus_id", [f"s{i}" for i in range(len(values))])
    options = {"modality": "fmri", "system": "sub-01", "neuroid_id": np.arange(values.shape[1])} | coords
    return ba.responses(values, stimulus_id=ids, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_equal_to_scipy(metric):
    x = noise(10, 25)
    out = ba.rdm(recording(x), metric=metric)
    assert out.dims == ("stimulus", "stimulus_2")
    expected = squareform(pdist(x.astype(np.float64), metric)) / (25 if metric == "sqeuclidean" else 1)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-9)
    assert out.attrs["metric"] == metric


def test_repeats_are_averaged_in_order_of_first_appearance():
    x = noise(6, 9)
    out = ba.rdm(recording(x, stimulus_id=["b", "a", "b", "c", "a", "b"]), metric="euclidean")
    assert out.stimulus.values.tolist() == ["b", "a", "c"]
    b, a = x[[0, 2, 5]].mean(0), x[[1, 4]].mean(0)
    np.testing.assert_allclose(out.sel(stimulus="b", stimulus_2="a"), np.linalg.norm(b - a), rtol=1e-5)
    with pytest.raises(SchemaError, match="2 conditions that are presented more than once: 'b', 'a'"):
        ba.rdm(recording(x, stimulus_id=["b", "a", "b", "c", "a", "b"]), repeats="refuse")


def test_one_matrix_per_layer_and_per_subject():
    x = noise(8, 12)
    layered = recording(x, layer=["u"] * 5 + ["v"] * 7)
    out = ba.rdm(layered, by="layer")
    assert out.dims == ("layer", "stimulus", "stimulus_2")
    assert out.n_neuroids.values.tolist() == [5, 7]
    for layer, part in (("u", x[:, :5]), ("v", x[:, 5:])):
        np.testing.assert_allclose(out.sel(layer=layer), ba.rdm(recording(part)), rtol=1e-10)
    people = recording(x, stimulus_id=list("abcd") * 2, subject=["p"] * 4 + ["q"] * 4)
    out = ba.rdm(people, by="subject")
    np.testing.assert_allclose(out.sel(subject="q"), ba.rdm(recording(x[4:])), rtol=1e-10)


def test_a_condition_that_a_group_lacks_is_nan_there():
    people = recording(noise(5, 12), stimulus_id=list("abcab"), subject=["p"] * 3 + ["q"] * 2)
    with pytest.warns(DegenerateNeuroidWarning, match="group subject='q'"):
        out = ba.rdm(people, by="subject")
    assert np.isnan(out.sel(subject="q", stimulus="c")).all()
    assert np.isfinite(out.sel(subject="q", stimulus="a", stimulus_2="b"))
    assert np.isfinite(out.sel(subject="p")).all()


def test_every_time_point_has_its_own_matrix():
    x = noise(6, 9, 4)
    out = ba.rdm(recording(x, time=[0.0, 0.1, 0.2, 0.3]), metric="correlation")
    assert out.dims == ("time", "stimulus", "stimulus_2")
    for i in range(4):
        np.testing.assert_allclose(out[i], ba.rdm(recording(x[:, :, i])), rtol=1e-10)


def test_constant_pattern_is_nan_and_named():
    x = noise(5, 9)
    x[2] = 0.3
    with pytest.warns(DegenerateNeuroidWarning, match=r"1 of 5 conditions .*'s2'"):
        out = ba.rdm(recording(x))
    assert np.isnan(out[2]).all()
    assert np.isnan(out[:, 2]).all()
    assert np.isfinite(out[[0, 1, 3, 4], [0, 1, 3, 4]]).all()
    assert np.isfinite(ba.rdm(recording(x), metric="euclidean")).all()


def test_nan_neuroids_are_left_out_with_a_warning():
    x = noise(5, 9)
    x[1, 3] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 9 neuroids"):
        out = ba.rdm(recording(x, allow_nan=True))
    np.testing.assert_allclose(out, ba.rdm(recording(np.delete(x, 3, axis=1))), rtol=1e-10)
    assert out.n_neuroids == 8


def test_tiny_units_are_as_good_as_any():
    x = noise(6, 20)
    np.testing.assert_allclose(ba.rdm(recording(1e-13 * x)), ba.rdm(recording(x)), atol=1e-6)


def test_any_presentation_coordinate_can_name_the_conditions():
    x = recording(noise(6, 9), condition=list("uvwuvw"))
    out = ba.rdm(x, condition="condition")
    assert out.stimulus.values.tolist() == ["u", "v", "w"]
    with pytest.raises(ParameterError, match="Did you mean 'condition'"):
        ba.rdm(x, condition="conditon")
    with pytest.raises(ParameterError, match="by='layer'"):
        ba.rdm(x, by="layer")


def test_the_input_is_left_alone_and_named():
    x = recording(noise(6, 9))
    before = x.copy(deep=True)
    steps = ba.core.provenance(ba.rdm(x)).steps
    assert x.identical(before)
    assert [step["verb"] for step in steps] == ["responses", "rdm"]
