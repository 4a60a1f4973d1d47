"""Information in bits, entropies of activation, kinds of neuroids and sparseness: closed forms."""

import numpy as np
import pytest

from brainalign.engine.correlate import ranks
from brainalign.engine.information import (
    activation_entropy,
    kinds_of_activation,
    mutual_information,
    quantile_codes,
    sparseness,
)


def information(x, label, n_bins):
    positive = np.asarray(label, dtype=float)[:, None, None]
    return mutual_information(quantile_codes(ranks(x), n_bins), n_bins, positive, np.ones((len(x), 1)))[0, :, 0]


def test_a_response_that_tells_all_has_the_entropy_of_the_label():
    x = np.arange(4000.0)[:, None]
    assert information(x, x[:, 0] >= 3000, 4) == pytest.approx(0.25 * np.log2(4) + 0.75 * np.log2(4 / 3), abs=1e-3)


def test_noise_says_nothing_and_a_few_rows_say_no_more():
    rng = np.random.default_rng(0)
    found = information(rng.normal(size=(60, 3000)), np.arange(60) < 30, 4)
    assert abs(found.mean()) < 2e-3  # uncorrected: .037
    assert (found < 0).any()


def test_ties_share_a_bin():
    assert quantile_codes(ranks(np.array([[0.0], [0.0], [0.0], [1.0]])), 2)[:, 0].tolist() == [0, 0, 0, 1]


def test_a_label_of_none_has_none():
    assert np.isnan(information(np.arange(5.0)[:, None], np.zeros(5), 2)).all()


def test_entropy_of_one_of_all_and_of_none():
    found = activation_entropy(np.array([[0.4, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3], [0.0, 0.0, 0.0, 0.0]]))
    assert found[0] == 0.0
    assert found[1] == pytest.approx(np.log(4), abs=1e-12)
    assert np.isnan(found[2])


def test_kinds():
    p = np.array([[0.8, 0.0, 0.3], [0.8, 0.5, 0.1], [0.8, 0.6, 0.5], [0.0, 0.0, 0.0]])
    assert kinds_of_activation(p).tolist() == ["specific", "related", "agnostic", "inactive"]


@pytest.mark.parametrize(
    ("kind", "wanted"), [("treves-rolls", 0.4), ("vinje-gallant", 0.6 / 0.9), ("hoyer", (np.sqrt(10) - 2) / (np.sqrt(10) - 1))]
)
def test_sparseness_of_four_of_ten_that_respond_alike(kind, wanted):
    rates = np.repeat([[3.0], [0.0]], [4, 6], axis=0)
    assert sparseness(rates, kind).item() == pytest.approx(wanted, abs=1e-12)
    assert sparseness(7 * rates.T, kind, axis=1).item() == pytest.approx(wanted, abs=1e-12)


def test_treves_and_rolls_of_an_exponential_distribution_is_a_half():
    rates = np.random.default_rng(0).exponential(size=(200_000, 1))
    assert sparseness(rates, "treves-rolls").item() == pytest.approx(0.5, abs=0.005)


def test_silence_is_not_sparse():
    assert np.isnan(sparseness(np.zeros((5, 1)), "vinje-gallant")).all()
