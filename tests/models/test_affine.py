"""A chain as torch: every affine step is found exactly, and what is not affine is refused."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

import brainalign as ba
from brainalign.core.errors import CapabilityError
from brainalign.models.affine import Affine, Mixing, affine_steps, compose, in_steps, probe, share_of


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(3, 2, size=(60, 7))


@pytest.mark.parametrize(
    "step", [StandardScaler(), MinMaxScaler(), PCA(3), PCA(4, whiten=True), VarianceThreshold(), ba.Reduce(3)], ids=repr
)
def test_affine_steps_are_found_exactly(points, step):
    found = probe(step.fit(points), 7)
    x = torch.as_tensor(points, dtype=torch.float32)
    np.testing.assert_allclose(found(x).numpy(), step.transform(points), atol=1e-4)
    assert (found.weight.ndim == 1) == isinstance(step, (StandardScaler, MinMaxScaler))


def test_a_wide_step_is_probed_in_blocks():
    points = np.random.default_rng(0).normal(size=(20, 1300))
    step = PCA(2).fit(points)
    np.testing.assert_allclose(probe(step, 1300).weight.numpy(), step.components_.T, atol=1e-5)


def test_a_mapping_with_lags_is_taken_apart_into_steps():
    rng = np.random.default_rng(0)
    x, y = (ba.responses(rng.normal(size=(80, k)) + 4, stimulus_id=range(80), neuroid_id=range(k), onset_s=0.5 * np.arange(80), run="1",
                         modality="ann", system="net").astype(float) for k in (3, 2))  # fmt: skip
    y[:, 1] = 1.0
    model = ba.chain(StandardScaler(), ba.TRF(-0.5, 1.0, alphas=1.0, dtype="float64")).fit(x, y)
    taken_apart = in_steps(model)
    assert [type(step).__name__ for step in taken_apart.steps_] == ["StandardScaler", "StandardScaler", "Delay", "Ridge"]
    np.testing.assert_allclose(taken_apart.predict(x).values, model.predict(x).values, atol=1e-5)
    plain = ba.chain(StandardScaler(), ba.Ridge(alphas=1.0)).fit(x, y)
    assert in_steps(plain) is plain


def test_what_bends_is_refused(points):
    with pytest.raises(CapabilityError, match="Normalizer is not affine"):
        probe(Normalizer().fit(points), 7)


def test_shares_of_the_rows_add_up_to_the_whole(points):
    rng = np.random.default_rng(1)
    mixing = Mixing(tuple(sp.random(10, 60, 0.2, random_state=rng, format="csr") for _ in range(2)))
    steps = [mixing, Affine(torch.as_tensor(rng.normal(size=(14, 3)), dtype=torch.float32), torch.ones(3))]
    x = torch.as_tensor(points, dtype=torch.float32)
    total = compose(steps)(torch.zeros_like(x))
    for rows in np.array_split(np.arange(60), 4):
        share, reached = share_of(steps, rows)
        total[reached] += compose(share, constant=False)(x[rows])
    np.testing.assert_allclose(total.numpy(), compose(steps)(x).numpy(), atol=1e-4)


def test_the_mapping_is_the_last_map(points):
    ids = [f"s{i}" for i in range(60)]
    x = ba.responses(points, stimulus_id=ids, neuroid_id=range(7), modality="ann", system="net")
    y = ba.responses(points[:, :2], stimulus_id=ids, neuroid_id=range(2), modality="fmri", system="s")
    model = ba.chain(StandardScaler(), ba.Ridge(alphas=[1.0])).fit(x, y)
    scale, last = affine_steps(model)
    np.testing.assert_allclose(last.weight.numpy(), model.coef_, atol=1e-6)
    assert scale.weight.shape == (7,)
    lost = y.copy(data=np.stack([y.values[:, 0], np.full(60, 2.0)], axis=1))  # a voxel outside of the brain
    for mapping in (ba.Ridge(alphas=[1.0]), ba.KernelRidge(kernel="linear")):
        _, last = affine_steps(ba.chain(StandardScaler(), mapping).fit(x, lost))
        assert (last.weight.numpy() == 0).all(axis=0).tolist() == [False, True]
        assert np.isnan(last.bias.numpy()).tolist() == [False, True]
    timed = y.expand_dims(time=[0.0, 0.1], axis=2).assign_attrs(time_reference="stimulus onset")
    with pytest.raises(CapabilityError, match="without a time dim"):
        affine_steps(ba.chain(ba.Ridge(alphas=[1.0])).fit(x, timed))
