"""PerBand: each feature space has a transformer of its own, in a chain without being asked for."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.features.per_band import PerBand


@pytest.fixture
def spaces():
    rng = np.random.default_rng(0)
    make = lambda width, scale: ba.responses(  # noqa: E731
        scale * rng.normal(size=(40, width)),
        stimulus_id=[f"s{i}" for i in range(40)],
        neuroid_id=range(width),
        modality="ann",
        system="n",
    )
    return make(5, 1.0), make(8, 100.0)


def test_each_band_is_fitted_by_itself(spaces):
    small, large = spaces
    out = PerBand(PCA(2)).fit(ba.bands(small=small, large=large)).transform(ba.bands(small=small, large=large))
    assert out.neuroid_id.values.tolist() == ["small/pca/0", "small/pca/1", "large/pca/0", "large/pca/1"]
    np.testing.assert_allclose(out.values[:, :2], PCA(2).fit_transform(small.values), atol=1e-5)


def test_a_chain_keeps_bands_apart_and_scalers_whole(spaces):
    small, large = spaces
    source = ba.bands(small=small, large=large)
    target = small[:, :2].assign_coords(system=("neuroid", ["brain", "brain"]))
    model = ba.chain(StandardScaler(), PCA(3), ba.Ridge(alphas=[1.0])).fit(source, target)
    features = model.transform(source)
    assert features.band.values.tolist() == ["small"] * 3 + ["large"] * 3
    assert isinstance(model.steps_[1], PerBand)
    alone = ba.chain(PCA(3), ba.Ridge(alphas=[1.0])).fit(small, target)
    assert isinstance(alone.steps_[0], PCA)
