import numpy as np
import pytest

from brainalign.engine.correlate import pooled_r2
from brainalign.engine.moments import fold_sums, pool_sums
from brainalign.engine.partition import commonality, pool_products, product_measure, product_sums, subsets


def test_subsets_are_all_there_once():
    members = subsets(4)
    assert members.shape == (15, 4)
    assert len(np.unique(members, axis=0)) == 15
    assert members[:4].tolist() == np.eye(4, dtype=bool).tolist()
    assert members[-1].all()


def test_two_spaces_by_the_textbook():
    a, b, both = np.array([0.335, 0.2]), np.array([0.346, 0.3]), np.array([0.497, 0.6])
    common = commonality(np.stack([a, b, both]), subsets(2))
    np.testing.assert_allclose(common, [both - b, both - a, a + b - both])
    np.testing.assert_allclose(common[:, 0], [0.151, 0.162, 0.184], atol=1e-12)
    assert common[2, 1] < 0  # suppression stays negative


@pytest.mark.parametrize("n_bands", [2, 3, 5])
def test_parts_in_common_are_recovered_from_the_r2_of_subsets(n_bands):
    members = subsets(n_bands)
    planted = np.random.default_rng(0).normal(size=(len(members), 6))
    reached = (members[:, None, :] & members[None, :, :]).any(axis=2)  # a subset explains every part that touches it
    r2 = reached.astype(float) @ planted
    found = commonality(r2, members)
    np.testing.assert_allclose(found, planted, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), r2[-1], atol=1e-12)


def test_products_add_up_to_r2_however_far_off_the_predictions_are():
    rng = np.random.default_rng(0)
    folds, plain = [], []
    for n in (20, 33):
        y, shares = rng.normal(size=(n, 4)) + 3, rng.normal(size=(3, n, 4)) + np.array([0.0, 2.0, 1.5])[:, None, None]
        folds.append(product_sums(y, shares))
        plain.append(fold_sums(y, shares.sum(axis=0)))
    parts = product_measure(pool_products(folds))
    np.testing.assert_allclose(parts.sum(axis=0), pooled_r2(pool_sums(plain)), atol=1e-12)


def test_products_are_those_of_himalaya():
    scoring = pytest.importorskip("himalaya.scoring")
    rng = np.random.default_rng(0)
    y, shares = rng.normal(size=(50, 4)), rng.normal(size=(3, 50, 4))
    y -= y.mean(axis=0)
    np.testing.assert_allclose(product_measure(product_sums(y, shares)), scoring.r2_score_split(y, shares), atol=1e-12)


def test_a_target_that_does_not_vary_has_no_share():
    sums = product_sums(np.ones((5, 1)), np.ones((2, 5, 1)))
    assert np.isnan(product_measure(sums)).all()
