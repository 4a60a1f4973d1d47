"""Structural similarity: the numbers of skimage, and what is known without them."""

import numpy as np
import pytest

from brainalign.engine.reconstruction import structural_similarity

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(11, 11), (20, 31), (24, 16, 3)])
def test_structural_similarity_is_that_of_skimage(shape):
    metrics = pytest.importorskip("skimage.metrics")
    images = RNG.random((4, *shape))
    others = np.clip(images + 0.3 * RNG.normal(size=images.shape), 0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    axis = -1 if len(shape) > 2 else None
    want = [metrics.structural_similarity(a, b, channel_axis=axis, **options) for a, b in zip(images, others, strict=True)]
    np.testing.assert_allclose(structural_similarity(images, others, data_range=1.0), want, rtol=1e-10)


def test_the_same_is_one_and_units_do_not_matter():
    x, y = RNG.random((3, 16, 16)), RNG.random((3, 16, 16))
    np.testing.assert_allclose(structural_similarity(x, x, data_range=1.0), 1.0)
    np.testing.assert_allclose(
        structural_similarity(255 * x, 255 * y, data_range=255.0), structural_similarity(x, y, data_range=1.0)
    )
    assert (np.abs(structural_similarity(x, y, data_range=1.0)) < 0.3).all()
