import dask.array as da
import numpy as np
import pytest

import brainalign as ba


def recorded(values, names=None, **coords):
    names = [f"s{i:04d}" for i in range(len(values))] if names is None else names
    return ba.responses(values, stimulus_id=names, neuroid_id=range(values.shape[1]), modality="ann", system="net", **coords)


@pytest.fixture(scope="module")
def planted():
    """Ten concepts; a pool of pictures with one each; voxels whose responses follow one, fitted on few noisy pictures."""
    rng = np.random.default_rng(0)
    concepts = rng.normal(size=(10, 40))
    concepts /= np.linalg.norm(concepts, axis=1, keepdims=True)
    pool, fitted = (concepts[rng.integers(10, size=n)] + 0.1 * rng.normal(size=(n, 40)) for n in (3000, 60))
    noise = rng.normal(size=(10, 40)) / np.sqrt(40)
    return recorded(pool), recorded(fitted), concepts, (concepts + 1.4 * noise).T


def test_a_noisy_voxel_is_moved_to_its_concept_and_named(planted):
    pool, _, concepts, weights = planted
    moved = ba.neurons.project_weights(weights, pool, size=100)
    likeness = (moved.values / np.linalg.norm(moved.values, axis=0) * concepts.T).sum(axis=0)
    raw = (weights / np.linalg.norm(weights, axis=0) * concepts.T).sum(axis=0)
    assert raw.mean() < 0.65
    assert likeness.mean() >= 0.95
    np.testing.assert_allclose(moved.effective_size.values, 100, rtol=1e-6)
    assert (moved.sharpness.values > 1).all()
    captions = recorded(concepts, [f"a picture of {word}" for word in "abcdefghij"])
    named = ba.neurons.read_weights(moved, captions, k=1, metric="cosine")
    assert np.mean(named.label.values.ravel() == captions.stimulus_id.values) >= 0.9


def test_a_fitted_voxel_and_a_pool_on_disk_give_the_same(planted):
    pool, fitted, concepts, _ = planted
    brain = ba.responses(fitted.values @ concepts[:3].T, stimulus_id=fitted.stimulus_id, neuroid_id=["a", "b", "c"], modality="fmri",
                         system="sub-01")  # fmt: skip
    model = ba.Ridge(alphas=[1.0]).fit(fitted, brain)
    moved = ba.neurons.project_weights(model, pool)
    assert moved.dims == ("feature", "neuroid")
    assert moved.neuroid_id.values.tolist() == ["a", "b", "c"]
    lazy = pool.copy(data=da.from_array(pool.values, chunks=(500, 40)))
    np.testing.assert_allclose(ba.neurons.project_weights(model, lazy).values, moved.values)


def test_patterns_say_what_features_show_and_weights_do_not():
    """Haufe et al.: the second feature is noise that the first shares; its weight is large, its pattern nothing."""
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, 20000))
    features = recorded(np.stack([signal + noise, noise], axis=1))
    pattern = ba.neurons.weight_patterns(np.array([[1.0], [-1.0]]), features)
    np.testing.assert_allclose(pattern.values.ravel(), [1.0, 0.0], atol=0.03)
    assert pattern.dims == ("feature", "neuroid")


def test_bad_input_is_named(planted):
    pool, _, _, weights = planted
    with pytest.raises(ba.errors.ParameterError, match="pool of 50 stimuli for a mean of 100"):
        ba.neurons.project_weights(weights, pool[:50])
    dark = pool.copy(data=np.where(np.arange(3000)[:, None] == 4, 0, pool.values))
    with np.errstate(invalid="ignore"), pytest.raises(ba.errors.ParameterError, match="NaN or no direction"):
        ba.neurons.project_weights(weights, dark)
    nothing = np.concatenate([weights[:, :1], 0 * weights[:, :1]], axis=1)
    assert np.isnan(ba.neurons.project_weights(nothing, pool).values).all(axis=0).tolist() == [False, True]
