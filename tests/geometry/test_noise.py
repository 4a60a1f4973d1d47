import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError

noise_covariance = ba.geometry.noise_covariance


def recording(values, ids, **coords):
    time = {"time": np.arange(values.shape[2]) / 10} if values.ndim == 3 else {}
    options = {"modality": "meg", "system": "s", "neuroid_id": [f"n{i}" for i in range(values.shape[1])]} | time | coords
    return ba.responses(values, stimulus_id=ids, **options)


@pytest.fixture
def brain():
    rng = np.random.default_rng(0)
    mix = np.eye(6) + 0.4 * rng.normal(size=(6, 6))
    return recording(
        5 + np.einsum("rct,cd->rdt", rng.normal(size=(40, 6, 3)), mix),
        [f"s{i % 5}" for i in range(40)],
        run=["1"] * 20 + ["2"] * 20,
    )


def test_pooled_over_times_and_each_time(brain):
    each = noise_covariance(brain, method="full", time="each")
    assert each.dims == ("time", "neuroid", "neuroid_2")
    np.testing.assert_allclose(noise_covariance(brain, method="full"), each.mean("time"), rtol=1e-10)
    one = noise_covariance(brain[:, :, 1].drop_vars("time"), method="full")
    np.testing.assert_allclose(each[1], one, rtol=1e-10)
    means = brain.values[:, :, 1].reshape(8, 5, 6).astype(np.float64)
    left = (means - means.mean(axis=0)).reshape(40, 6)
    np.testing.assert_allclose(one, left.T @ left / 35, rtol=1e-10)


def test_one_for_each_run_with_labels_and_provenance(brain):
    out = noise_covariance(brain, by="run", method="diagonal")
    assert out.dims == ("run", "neuroid")
    assert out.run.values.tolist() == ["1", "2"]
    assert out.neuroid_id.values.tolist() == [f"n{i}" for i in range(6)]
    np.testing.assert_allclose(out.sel(run="2"), noise_covariance(brain[20:], method="diagonal"), rtol=1e-12)
    assert noise_covariance(brain, by="run").shrinkage.dims == ("run",)
    assert [step["verb"] for step in ba.core.provenance(out).steps] == ["responses", "noise_covariance"]


def test_residuals_have_no_conditions(brain):
    flat = brain[:, :, 0].drop_vars("time")
    np.testing.assert_allclose(
        noise_covariance(flat, method="full", condition=None), np.cov(flat.values.T.astype(float)), rtol=1e-10
    )
    np.testing.assert_allclose(
        noise_covariance(flat, method="full", condition=None, dof=13), np.cov(flat.values.T.astype(float)) * 3, rtol=1e-10
    )


def test_differences_between_subjects_are_no_noise(brain):
    both = brain.assign_coords(subject=("presentation", ["p"] * 20 + ["q"] * 20))
    with pytest.raises(SchemaError, match="noise_covariance got stimuli that several subjects saw, 'p', 'q'"):
        noise_covariance(both)
    assert noise_covariance(both, by="subject").dims == ("subject", "neuroid", "neuroid_2")
    assert noise_covariance(both, condition=None).dims == ("neuroid", "neuroid_2")


def test_bad_input_is_named(brain):
    with pytest.raises(ParameterError, match="must be one of 'full', 'diagonal', 'shrinkage-eye', 'shrinkage-diagonal'"):
        noise_covariance(brain, method="shrunk")
    with pytest.raises(ParameterError, match="labels neuroids"):
        noise_covariance(brain, by="neuroid_id")
    with pytest.raises(SchemaError, match=r"no condition has two presentations \(5 in all\)"):
        noise_covariance(brain[:5])
    still = brain.copy(deep=True)
    still[:, 2] = 1.0
    with pytest.raises(SchemaError, match=r"1 of 6 neuroids have no noise in all presentations and neuroids: 'n2'"):
        noise_covariance(still)
    alike = brain.astype(np.float64, keep_attrs=True)
    alike[:, 2] = np.tile(np.linspace(0.1, 0.7, 5), 8)[:, None]  # the same at each presentation of a stimulus
    with pytest.raises(SchemaError, match=r"1 of 6 neuroids have no noise"):
        ba.rdm(alike, metric="mahalanobis", noise="shrinkage-diagonal")
    holed = brain.copy(deep=True).assign_attrs(allow_nan=True)
    holed[3, 4, 0] = np.nan
    with pytest.raises(SchemaError, match=r"1 of 6 neuroids have NaN or infinity in all presentations and neuroids: 'n4'"):
        noise_covariance(holed)


def test_a_covariance_must_be_of_these_responses(brain):
    good = noise_covariance(brain)
    options = {"metric": "crossnobis", "folds": "run"}
    with pytest.raises(ParameterError, match=r"noise is of 5 neuroids .*the responses have 6"):
        ba.rdm(brain, noise=good[:5, :5], **options)
    with pytest.raises(ParameterError, match=r"Expected the same, in the same order"):
        ba.rdm(brain, noise=good[::-1, ::-1], **options)
    with pytest.raises(ParameterError, match=r"\['session'\] are none of these responses"):
        ba.rdm(brain, noise=good.expand_dims(session=["1"]), **options)
    with pytest.raises(ParameterError, match=r"noise has no run '2'. Expected those of the responses; it has '1'"):
        ba.rdm(brain, noise=noise_covariance(brain[:20], by="run"), **options)
    with pytest.raises(ParameterError, match=r"noise has 5 columns .*Expected 6"):
        ba.rdm(brain, noise=good[:, :5], **options)
    holed = good.copy(deep=True)
    holed[1, 3] = np.nan  # above the diagonal, where no factorisation looks
    with pytest.raises(ParameterError, match="1 entries that are NaN or infinite"):
        ba.rdm(brain, noise=holed, **options)
    for uneven in (good + np.triu(np.ones((6, 6)), 1), good[:, ::-1].copy(data=good.values[:, ::-1])):
        with pytest.raises(ParameterError, match=r"noise is not symmetric. Expected rows and columns of the same neuroids"):
            ba.rdm(brain, noise=uneven.assign_attrs(inverse=True), **options)
        with pytest.raises(ParameterError, match="noise is not symmetric"):
            ba.rdm(brain, noise=uneven, **options)
    with pytest.raises(ParameterError, match=r"inverse=True has -.* on its diagonal. Expected the inverse of a covariance"):
        ba.rdm(brain, noise=(-good).assign_attrs(inverse=True), **options)
    with pytest.raises(ParameterError, match="noise has other times"):
        ba.rdm(brain[:, :, :2], noise=noise_covariance(brain, time="each"), **options)
    with pytest.raises(ParameterError, match=r"Got ndarray instead"):
        ba.rdm(brain, noise=good.values, **options)
